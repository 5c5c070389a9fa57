use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::call::Call;

pin_project! {
    /// The body of a response to [`PropagateService`](crate::PropagateService): a token in its trailers is merged
    /// into the session before the end is seen.
    pub struct PropagateBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B> PropagateBody<B> {
    pub(crate) fn new(inner: B, call: Option<Call>) -> Self {
        Self { inner, call }
    }
}

impl<B: Body> Body for PropagateBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let polled = ready!(this.inner.as_mut().poll_frame(cx));
        if let (Some(Ok(frame)), Some(call)) = (&polled, &mut *this.call)
            && let Some(trailers) = frame.trailers_ref()
        {
            call.trailers(trailers);
        }
        if !matches!(polled, Some(Ok(_))) || this.inner.is_end_stream() {
            // Nothing more comes. If trailers were to tell of writes, and somebody on the way has dropped them, that is
            // doubt.
            *this.call = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for PropagateBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropagateBody").finish_non_exhaustive()
    }
}
