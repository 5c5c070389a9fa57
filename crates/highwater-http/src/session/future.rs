use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready as done},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{SessionBody, outgoing::Outgoing};

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
        Called { #[pin] inner: F, outgoing: Option<Outgoing> },
        Refused { response: Ready<Response<SessionBody<R>>> },
        Done,
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) fn called(inner: F, outgoing: Outgoing) -> Self {
        Self {
            state: State::Called {
                inner,
                outgoing: Some(outgoing),
            },
        }
    }

    pub(super) fn refused(response: Response<R>) -> Self {
        Self {
            state: State::Refused {
                response: ready(response.map(|body| SessionBody::new(body, None))),
            },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<SessionBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProjection::Called { inner, outgoing } => {
                let mut response = done!(inner.poll(cx))?;
                let mut outgoing = outgoing.take();
                // A timeout inside answers while it still holds the handler's future. Once that is dropped, the session
                // knows which writes are in doubt.
                state.set(State::Done);
                if let Some(outgoing) = &mut outgoing {
                    outgoing.finish(response.status(), response.headers_mut());
                }
                Poll::Ready(Ok(response.map(|body| SessionBody::new(body, outgoing))))
            }
            StateProjection::Refused { response } => Pin::new(response).poll(cx).map(Ok),
            // As any future that is polled again.
            StateProjection::Done => Poll::Pending,
        }
    }
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
