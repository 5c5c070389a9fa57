use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use highwater_core::{Continuity, Session};
use http::{HeaderMap, HeaderValue, Request, Response, header::CACHE_CONTROL};
use tower_service::Service;

use super::{BadToken, OnBadToken, ResponseFuture, layer::Config};
use crate::{
    CONTINUITY_HEADER, ERROR_HEADER, ROUTE_HEADER, TOKEN_HEADER,
    header::{read_tokens, visible, write_token},
};

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
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut refusal = None;
        let marks = read_tokens(request.headers(), &self.config.codec, |bad| {
            tracing::debug!(reason = bad.as_str(), "a session token can't be used: doubt");
            self.config.bad_tokens.count(bad);
            if refusal.is_none() {
                refusal = self.on_bad_token.refuse(bad).map(|response| (bad, response));
            }
        });
        let session = match request.extensions().get::<Session>() {
            // An outer layer's: the handler's writes have to reach that one's token too.
            Some(session) => {
                session.merge(&marks);
                session.clone()
            }
            None => {
                let session = Session::resume(marks);
                request.extensions_mut().insert(session.clone());
                session
            }
        };
        let outgoing = Outgoing::new(session, self.config.clone());
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

/// What the response will need: the request's session, and where it was when the request came in.
pub(super) struct Outgoing {
    session: Session,
    version: u64,
    config: Arc<Config>,
}

impl Outgoing {
    fn new(session: Session, config: Arc<Config>) -> Self {
        Self {
            version: session.version(),
            session,
            config,
        }
    }

    /// For every method and status: a GET may write, and a request that failed may have written first.
    pub(super) fn finish(&self, headers: &mut HeaderMap) {
        if self.session.version() != self.version {
            write_token(headers, &self.config.codec, &self.session.marks());
        }
        if self.config.expose_route {
            headers.insert(ROUTE_HEADER, visible(self.session.routes().to_string()));
        }
        if self.config.expose_continuity {
            let continuity = self.session.continuity();
            if continuity != Continuity::Intact {
                headers.insert(CONTINUITY_HEADER, HeaderValue::from_static(continuity.as_str()));
            }
        }
        self.keep_private(headers);
    }

    fn finish_refusal<R>(&self, bad: BadToken, response: &mut Response<R>) {
        response.extensions_mut().insert(bad);
        let headers = response.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(bad.as_str()));
        write_token(headers, &self.config.codec, &self.session.marks());
        self.keep_private(headers);
    }

    fn keep_private(&self, headers: &mut HeaderMap) {
        if self.config.cache_control
            && headers.contains_key(TOKEN_HEADER)
            && !headers.contains_key(CACHE_CONTROL)
        {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}
