use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use highwater_core::Session;
use http::{Request, Response};
use tower_service::Service;

use super::{StoreBody, Stored};

/// The service that a [`SessionLayer`](crate::SessionLayer) with a store puts around the inner one.
#[derive(Clone, Debug)]
pub struct StoreService<S> {
    inner: S,
    stored: Stored,
}

impl<S> StoreService<S> {
    pub(crate) fn new(inner: S, stored: Stored) -> Self {
        Self { inner, stored }
    }
}

impl<S, B, R> Service<Request<B>> for StoreService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: http_body::Body + Send,
{
    type Response = Response<StoreBody<R>>;
    type Error = S::Error;
    type Future = StoreFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let visit = self.stored.visit(request.extensions().get::<Session>());
        // The one that is ready is the one that is called.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        StoreFuture(Box::pin(async move {
            let Some(mut visit) = visit else {
                let response = inner.call(request).await?;
                return Ok(response.map(|body| StoreBody::new(body, None)));
            };
            visit.begin().await;
            let response = inner.call(request).await?;
            // Before the client has the response: its next request may be here sooner.
            if visit.owes() {
                visit.save().await;
            }
            Ok(response.map(|body| StoreBody::new(body, Some(visit))))
        }))
    }
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<StoreBody<R>>, E>> + Send>>;

/// The future of [`StoreService`].
///
/// # Cancel safety
///
/// Dropping it drops the inner service's future. What the session has learnt by then is not stored, as its token
/// reaches nobody.
pub struct StoreFuture<R: http_body::Body, E>(Boxed<R, E>);

impl<R: http_body::Body, E> Future for StoreFuture<R, E> {
    type Output = Result<Response<StoreBody<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R: http_body::Body, E> fmt::Debug for StoreFuture<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFuture").finish_non_exhaustive()
    }
}
