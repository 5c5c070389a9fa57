use std::{fmt, sync::Arc};

use highwater_core::{Consistency, TokenCodec};
use tower_layer::Layer;

use super::{
    BadTokens, Doubt, SessionService,
    config::{Config, Levels},
};

/// Puts a [`highwater_core::Session`] into each request's extensions, and its token into the response
/// when the session has moved. See the [crate's page](crate) for examples, and for its place among other layers.
/// Clones share their counters.
#[derive(Clone)]
pub struct SessionLayer<P = Doubt, T = Stateless> {
    config: Arc<Config>,
    on_bad_token: P,
    kept: T,
}

/// Of a [`SessionLayer`]: nothing of a session is kept between requests but what its token says.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stateless;

impl SessionLayer {
    /// A layer that decodes and encodes tokens with `codec`.
    #[must_use]
    pub fn new(codec: TokenCodec) -> Self {
        Self {
            config: Arc::new(Config::new(codec)),
            on_bad_token: Doubt,
            kept: Stateless,
        }
    }
}

impl<P, T> SessionLayer<P, T> {
    /// What becomes of requests with a bad token: [`Doubt`] (the default), [`Refuse`](crate::Refuse), or
    /// a closure from [`BadToken`](crate::BadToken) to a response. See [`OnBadToken`](crate::OnBadToken).
    ///
    /// A request is refused for its first bad token, without a call of the inner service. The layer adds
    /// [`ERROR_HEADER`](crate::ERROR_HEADER) to the response, and a token in doubt: a client that keeps
    /// what it is sent is neither refused for ever, nor does it forget what it depended on.
    #[must_use]
    pub fn on_bad_token<Q>(self, policy: Q) -> SessionLayer<Q, T> {
        SessionLayer {
            config: self.config,
            on_bad_token: policy,
            kept: self.kept,
        }
    }

    /// Carries tokens in a cookie, for browsers, beside the header. See [the page about browsers](crate#browsers).
    #[cfg(feature = "cookie")]
    #[must_use]
    pub fn cookie(mut self, cookie: crate::TokenCookie) -> Self {
        Arc::make_mut(&mut self.config).cookie = Some(cookie);
        self
    }

    /// Whether tokens travel in [`TOKEN_HEADER`](crate::TOKEN_HEADER). On by default; off, only the cookie carries
    /// them, scripts never see one, and there is none in trailers.
    #[cfg(feature = "cookie")]
    #[must_use]
    pub fn header(mut self, yes: bool) -> Self {
        Arc::make_mut(&mut self.config).header = yes;
        self
    }

    /// Keeps together, by the session's id, what requests of one browser learn in parallel. See [the page about
    /// browsers](crate#browsers).
    ///
    /// Only ids in signed tokens are believed, so with an unsigned codec there is nothing to keep, and the store
    /// is never asked.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn store(self, store: impl crate::SessionStore) -> SessionLayer<P, crate::Stored> {
        let store = self.config.codec.is_signed().then(|| Arc::new(store) as _);
        SessionLayer {
            kept: crate::Stored::new(store, self.config.bad_tokens.clone()),
            config: self.config,
            on_bad_token: self.on_bad_token,
        }
    }

    /// Lets requests ask for a consistency level with [`LEVEL_HEADER`](crate::LEVEL_HEADER), if `allowed` says yes
    /// to it. By default the header means nothing.
    ///
    /// What a request may not have, or what is no level, is a bad token of the kind
    /// [`BadToken::Level`](crate::BadToken::Level): refused, or served at the service's own level, with
    /// [`ERROR_HEADER`](crate::ERROR_HEADER) to say so. Mind that `Primary` and short bounds let clients put load onto
    /// the primary.
    ///
    /// ```
    /// use highwater_core::{Consistency, TokenCodec};
    /// use highwater_http::SessionLayer;
    ///
    /// let layer = SessionLayer::new(TokenCodec::unsigned())
    ///     .allow_level(|level| matches!(level, Consistency::Monotonic | Consistency::ReadYourWrites));
    /// ```
    #[must_use]
    pub fn allow_level(mut self, allowed: impl Fn(Consistency) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).levels = Some(Levels(Arc::new(allowed)));
        self
    }

    /// Whether responses say where their reads came from, in [`ROUTE_HEADER`](crate::ROUTE_HEADER).
    /// Off by default: it tells clients about the inside of the service.
    #[must_use]
    pub fn expose_route(mut self, yes: bool) -> Self {
        Arc::make_mut(&mut self.config).expose_route = yes;
        self
    }

    /// Whether responses say in [`CONTINUITY_HEADER`](crate::CONTINUITY_HEADER) that something the session depended
    /// on could not be honoured, so that the client can tell its user. Off by default, as `expose_route` is.
    #[must_use]
    pub fn expose_continuity(mut self, yes: bool) -> Self {
        Arc::make_mut(&mut self.config).expose_continuity = yes;
        self
    }

    /// Whether responses that carry a token and have no `cache-control` get `cache-control: private`,
    /// so that no shared cache hands one user's token to another. On by default.
    #[must_use]
    pub fn cache_control(mut self, yes: bool) -> Self {
        Arc::make_mut(&mut self.config).cache_control = yes;
        self
    }

    /// Whether responses that a cache may store (they have a `cache-control` other than `no-store`, or an `etag`,
    /// `expires` or `last-modified`) say in `vary` that they depend on the session: a browser that has written
    /// then does not show what its own cache kept from before. On by default.
    #[must_use]
    pub fn vary(mut self, yes: bool) -> Self {
        Arc::make_mut(&mut self.config).vary = yes;
        self
    }

    /// The bad tokens that came in so far, through this layer and its clones. Each bad value of a header
    /// counts; nested layers count for themselves.
    #[must_use]
    pub fn bad_tokens(&self) -> BadTokens {
        self.config.bad_tokens.read()
    }
}

impl<S, P: Clone> Layer<S> for SessionLayer<P> {
    type Service = SessionService<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.config.clone(), self.on_bad_token.clone())
    }
}

#[cfg(feature = "store")]
impl<S, P: Clone> Layer<S> for SessionLayer<P, crate::Stored> {
    type Service = SessionService<crate::StoreService<S>, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let inner = crate::StoreService::new(inner, self.kept.clone());
        SessionService::new(inner, self.config.clone(), self.on_bad_token.clone())
    }
}

/// Closures have no `Debug`.
impl<P, T> fmt::Debug for SessionLayer<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
