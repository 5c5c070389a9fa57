use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready as done},
};

use http::Response;
use pin_project_lite::pin_project;

use super::service::Outgoing;

pin_project! {
    /// The future of [`SessionService`](crate::SessionService).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and nothing else. The session keeps what it has
    /// learnt; its token reaches nobody, as the response does not.
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R> {
        Called { #[pin] inner: F, outgoing: Outgoing },
        Refused { response: Ready<Response<R>> },
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) fn called(inner: F, outgoing: Outgoing) -> Self {
        Self {
            state: State::Called { inner, outgoing },
        }
    }

    pub(super) fn refused(response: Response<R>) -> Self {
        Self {
            state: State::Refused {
                response: ready(response),
            },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { inner, outgoing } => {
                let mut response = done!(inner.poll(cx))?;
                outgoing.finish(response.headers_mut());
                Poll::Ready(Ok(response))
            }
            StateProjection::Refused { response } => Pin::new(response).poll(cx).map(Ok),
        }
    }
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
