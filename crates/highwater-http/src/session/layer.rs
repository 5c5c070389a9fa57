use std::{fmt, sync::Arc};

use highwater_core::TokenCodec;
use tower_layer::Layer;

use super::{BadTokens, Doubt, SessionService, bad_token::Counters};

/// Puts a [`highwater_core::Session`] into each request's extensions, and its token into the response
/// when the session has moved. See the [crate's page](crate) for examples.
///
/// Put it outside of whatever may drop a handler's future (timeouts): the response that such a layer
/// makes then still carries the doubt of the handler's writes. Clones share their counters.
#[derive(Clone)]
pub struct SessionLayer<P = Doubt> {
    config: Arc<Config>,
    on_bad_token: P,
}

/// What the services of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) codec: TokenCodec,
    pub(super) expose_route: bool,
    pub(super) expose_continuity: bool,
    pub(super) cache_control: bool,
    pub(super) bad_tokens: Counters,
}

impl SessionLayer {
    /// A layer that decodes and encodes tokens with `codec`.
    #[must_use]
    pub fn new(codec: TokenCodec) -> Self {
        Self {
            config: Arc::new(Config {
                codec,
                expose_route: false,
                expose_continuity: false,
                cache_control: true,
                bad_tokens: Counters::default(),
            }),
            on_bad_token: Doubt,
        }
    }
}

impl<P> SessionLayer<P> {
    /// What becomes of requests with a bad token: [`Doubt`] (the default), [`Refuse`](crate::Refuse), or
    /// a closure from [`BadToken`](crate::BadToken) to a response. See [`OnBadToken`](crate::OnBadToken).
    ///
    /// A request is refused for its first bad token, without a call of the inner service. The layer adds
    /// [`ERROR_HEADER`](crate::ERROR_HEADER) to the response, and a token in doubt: a client that keeps
    /// what it is sent is neither refused for ever, nor does it forget what it depended on.
    #[must_use]
    pub fn on_bad_token<Q>(self, policy: Q) -> SessionLayer<Q> {
        SessionLayer {
            config: self.config,
            on_bad_token: policy,
        }
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

/// Closures have no `Debug`.
impl<P> fmt::Debug for SessionLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
