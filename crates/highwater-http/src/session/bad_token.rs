//! Tokens that can't be used: why, how many, and what becomes of their requests.

use std::{
    collections::BTreeMap,
    error, fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use highwater_core::{TokenError, TokenErrorKind};
use http::{Response, StatusCode};

/// What of the session that a request asks for can't be had, and why.
///
/// A response to a refused request has this in its extensions, for layers further out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadToken {
    /// A token can't be decoded or believed.
    Unusable(TokenError),
    /// The request has more than [`MAX_TOKENS`](crate::MAX_TOKENS) tokens.
    TooMany,
    /// [`LEVEL_HEADER`](crate::LEVEL_HEADER) asks for a level that there is not, or that the service does not
    /// allow. Where it is served all the same, the service's own level holds.
    Level,
    /// The store does not know the token's session (any more): what other requests of it have learnt is doubt. Never
    /// refused, only counted.
    Forgotten,
    /// The store can't be asked: as [`Forgotten`](Self::Forgotten).
    StoreFailed,
}

impl BadToken {
    /// The name in counters, traces and [`ERROR_HEADER`](crate::ERROR_HEADER).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unusable(error) => error.kind().as_str(),
            Self::TooMany => TOO_MANY,
            Self::Level => "level",
            Self::Forgotten => "forgotten",
            Self::StoreFailed => "store_failed",
        }
    }
}

const TOO_MANY: &str = "too_many";

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(error) => fmt::Display::fmt(error, f),
            Self::TooMany => write!(
                f,
                "the request has more than {} session tokens: send the last one only",
                crate::MAX_TOKENS
            ),
            Self::Level => f.write_str(
                "the consistency level that the request asks for can't be had: leave highwater-level out",
            ),
            Self::Forgotten => f.write_str("the session is not in the store any more"),
            Self::StoreFailed => f.write_str("the store of sessions can't be asked"),
        }
    }
}

impl error::Error for BadToken {}

/// What becomes of a request with a bad token: [`Doubt`], [`Refuse`], or a closure from [`BadToken`]
/// to a response.
///
/// An implementation of its own can tell the reasons apart:
///
/// ```
/// use highwater_core::TokenErrorKind;
/// use highwater_http::{BadToken, OnBadToken, Refuse};
/// use http::Response;
///
/// /// Forged tokens are refused. Expired ones are what honest users have, too.
/// #[derive(Clone)]
/// struct RefuseForged;
///
/// impl<R: Default> OnBadToken<R> for RefuseForged {
///     fn refuse(&self, error: BadToken) -> Option<Response<R>> {
///         match error {
///             BadToken::Unusable(e) if e.kind() == TokenErrorKind::BadSignature => Refuse.refuse(error),
///             _ => None,
///         }
///     }
/// }
/// ```
pub trait OnBadToken<R> {
    /// The response that refuses the request, or `None` to serve it with a session in doubt.
    fn refuse(&self, error: BadToken) -> Option<Response<R>>;
}

impl<R, F> OnBadToken<R> for F
where
    F: Fn(BadToken) -> Response<R>,
{
    fn refuse(&self, error: BadToken) -> Option<Response<R>> {
        Some(self(error))
    }
}

/// The default: the request is served, and its session is in doubt about what it depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt;

impl<R> OnBadToken<R> for Doubt {
    fn refuse(&self, _: BadToken) -> Option<Response<R>> {
        None
    }
}

/// The request is answered with status 400 and an empty body; the reason is in
/// [`ERROR_HEADER`](crate::ERROR_HEADER).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refuse;

impl<R: Default> OnBadToken<R> for Refuse {
    fn refuse(&self, _: BadToken) -> Option<Response<R>> {
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        Some(response)
    }
}

/// How many bad tokens have come in so far, and why they were bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadTokens(BTreeMap<&'static str, u64>);

impl BadTokens {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: TokenErrorKind) -> u64 {
        self.named(kind.as_str())
    }

    /// The requests with more than [`MAX_TOKENS`](crate::MAX_TOKENS) tokens.
    #[must_use]
    pub fn too_many(&self) -> u64 {
        self.named(TOO_MANY)
    }

    /// The reasons met so far, by [`BadToken::as_str`], with their counts: for a metrics exporter.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Those whose reason [`is`](BadToken::as_str) this one.
    #[must_use]
    pub fn named(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }
}

/// The counters that a layer shares with its services. As many entries as there are reasons.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Arc<Mutex<BadTokens>>);

impl Counters {
    pub(crate) fn count(&self, bad: BadToken) {
        let mut tokens = self.tokens();
        let count = tokens.0.entry(bad.as_str()).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn read(&self) -> BadTokens {
        self.tokens().clone()
    }

    fn tokens(&self) -> MutexGuard<'_, BadTokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
