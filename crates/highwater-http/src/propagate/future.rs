use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{PropagateBody, call::Call};

pin_project! {
    /// The future of [`PropagateService`](crate::PropagateService).
    ///
    /// # Cancel safety
    ///
    /// Dropped before the response, it leaves the session in doubt: what the other service was asked to do may
    /// have been done.
    pub struct PropagateFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F> PropagateFuture<F> {
    pub(super) fn new(inner: F, call: Option<Call>) -> Self {
        Self { inner, call }
    }
}

impl<F, R, E> Future for PropagateFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<PropagateBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        // An error drops the call, which is doubt.
        let mut call = this.call.take();
        let response = outcome?;
        if let Some(call) = &mut call {
            call.head(response.status(), response.headers(), response.body());
        }
        Poll::Ready(Ok(response.map(|body| PropagateBody::new(body, call))))
    }
}

impl<F> fmt::Debug for PropagateFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropagateFuture").finish_non_exhaustive()
    }
}
