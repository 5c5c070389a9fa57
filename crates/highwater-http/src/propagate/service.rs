use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{PropagateBody, PropagateFuture, PropagateLayer, call::Call};

/// The client that [`PropagateLayer`] makes.
#[derive(Clone, Debug)]
pub struct PropagateService<S> {
    inner: S,
    layer: PropagateLayer,
}

impl<S> PropagateService<S> {
    pub(super) fn new(inner: S, layer: PropagateLayer) -> Self {
        Self { inner, layer }
    }

    /// The inner client.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, B, R> Service<Request<B>> for PropagateService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<PropagateBody<R>>;
    type Error = S::Error;
    type Future = PropagateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let carrier = self.layer.carrier(request.extensions());
        let call = carrier.map(|carrier| Call::begin(carrier, request.headers_mut()));
        PropagateFuture::new(self.inner.call(request), call)
    }
}
