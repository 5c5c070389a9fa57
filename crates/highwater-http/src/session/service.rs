use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use highwater_core::{Session, Token};
use http::{Request, Response};
use tower_service::Service;

use super::{BadToken, OnBadToken, ResponseFuture, SessionBody, config::Config, outgoing::Outgoing};
use crate::header::Trailers;

/// The service that [`SessionLayer`](crate::SessionLayer) makes.
#[derive(Clone)]
pub struct SessionService<S, P = super::Doubt> {
    inner: S,
    config: Arc<Config>,
    on_bad_token: P,
}

impl<S, P> SessionService<S, P> {
    pub(super) fn new(inner: S, config: Arc<Config>, on_bad_token: P) -> Self {
        Self {
            inner,
            config,
            on_bad_token,
        }
    }

    /// The inner service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the inner service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, B, R> Service<Request<B>> for SessionService<S, P>
where
    S: Service<Request<B>, Response = Response<R>>,
    P: OnBadToken<R>,
{
    type Response = Response<SessionBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut refusal = None;
        let mut bad = |bad: BadToken| {
            tracing::debug!(reason = bad.as_str(), "a session token can't be used");
            self.config.bad_tokens.count(bad);
            if refusal.is_none() {
                refusal = self.on_bad_token.refuse(bad).map(|response| (bad, response));
            }
        };
        let incoming = self.config.read(request.headers(), &mut bad);
        let level = self
            .config
            .level(request.headers())
            .inspect_err(|ignored| bad(*ignored));
        // Neither of two tokens says what the other does: the client that keeps one has to be sent both.
        let whole = incoming.tokens <= 1;
        let token = Token {
            marks: incoming.marks,
            id: incoming.id,
        };
        let session = match request.extensions().get::<Session>() {
            // An outer layer's: the handler's writes have to reach that one's token too.
            Some(session) => {
                session.merge(&token.marks);
                token.id.map(|id| session.identify(id));
                session.clone()
            }
            None => {
                let session = Session::resume(token);
                request.extensions_mut().insert(session.clone());
                session
            }
        };
        if let Ok(Some(level)) = level {
            session.set_level(level);
        }
        let trailers = Trailers::of(request.version(), request.headers());
        let outgoing = Outgoing::new(session, self.config.clone(), whole, trailers).ignoring(level.err());
        match refusal {
            None => ResponseFuture::called(self.inner.call(request), outgoing),
            // The readiness of the inner service is kept for the next call.
            Some((bad, mut response)) => {
                outgoing.finish_refusal(bad, &mut response);
                ResponseFuture::refused(response)
            }
        }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for SessionService<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
