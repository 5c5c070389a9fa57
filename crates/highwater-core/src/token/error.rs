//! Why tokens are refused.

use std::fmt;

use crate::SessionId;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// Longer than [`MAX_TOKEN_LEN`](crate::MAX_TOKEN_LEN).
    TooLong,
    /// Not base64url, cut off, or with fields that make no sense.
    Malformed,
    /// Of a version, or with flags, that this build does not know.
    Version,
    /// Signed with a key that this codec does not have.
    UnknownKey,
    /// Not signed, and this codec asks for a signature.
    NotSigned,
    /// The signature is wrong.
    BadSignature,
    /// Older than the codec's maximum age.
    Expired,
    /// Issued more than a minute in the future.
    FromTheFuture,
}

impl TokenErrorKind {
    /// The name in counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::UnknownKey => "unknown_key",
            Self::NotSigned => "not_signed",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

/// A token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenError {
    kind: TokenErrorKind,
    session_id: Option<SessionId>,
}

impl TokenError {
    /// Why.
    #[must_use]
    pub const fn kind(&self) -> TokenErrorKind {
        self.kind
    }

    /// Whose token it was, if that is certain: it is signed with a known key, and has only expired. What the
    /// session depends on is in doubt all the same.
    #[must_use]
    pub const fn session_id(&self) -> Option<SessionId> {
        self.session_id
    }

    pub(super) const fn expired(session_id: Option<SessionId>) -> Self {
        Self {
            kind: TokenErrorKind::Expired,
            session_id,
        }
    }
}

impl From<TokenErrorKind> for TokenError {
    fn from(kind: TokenErrorKind) -> Self {
        Self {
            kind,
            session_id: None,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.kind {
            TokenErrorKind::TooLong => "it is longer than 4096 bytes",
            TokenErrorKind::Malformed => "it is malformed or cut off",
            TokenErrorKind::Version => "it is of a version that this service does not know",
            TokenErrorKind::UnknownKey => "it is signed with a key that this service does not have",
            TokenErrorKind::NotSigned => "it is not signed",
            TokenErrorKind::BadSignature => "its signature is wrong",
            TokenErrorKind::Expired => "it has expired",
            TokenErrorKind::FromTheFuture => "it was issued in the future: check the clocks",
        };
        write!(f, "the session token can't be used: {problem}")
    }
}

impl std::error::Error for TokenError {}
