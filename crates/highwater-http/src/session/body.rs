use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::outgoing::Outgoing;

pin_project! {
    /// The body of a response from [`SessionService`](crate::SessionService): the inner service's, and in its
    /// trailers the session's token: always for clients that have sent `te: trailers`, and over HTTP/2 for others if the
    /// session has moved since the response's head left.
    ///
    /// A body that is known to be empty when the head leaves has no trailers, unless the session has moved. Where the inner
    /// body ends with trailers of its own (gRPC's status), the token joins them.
    pub struct SessionBody<B> {
        #[pin]
        inner: B,
        outgoing: Option<Outgoing>,
        begun: bool,
    }
}

impl<B> SessionBody<B> {
    pub(super) fn new(inner: B, outgoing: Option<Outgoing>) -> Self {
        Self {
            inner,
            outgoing,
            begun: false,
        }
    }

    /// The inner service's body.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Gives the inner service's body back, which sends no token in its trailers.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for SessionBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        *this.begun = true;
        let polled = ready!(this.inner.poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) if frame.is_trailers() => {
                let trailers = frame.into_trailers().unwrap_or_default();
                Some(Ok(Frame::trailers(last_words(this.outgoing, trailers))))
            }
            // What the client can't be told is not tried.
            None if owes(this.outgoing.as_ref(), true) => {
                Some(Ok(Frame::trailers(last_words(this.outgoing, HeaderMap::new()))))
            }
            polled => polled,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !owes(self.outgoing.as_ref(), self.begun)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn owes(outgoing: Option<&Outgoing>, begun: bool) -> bool {
    outgoing.is_some_and(|outgoing| outgoing.owes_trailers() || (begun && outgoing.promised_trailers()))
}

/// Trailers come once, and nothing after them.
fn last_words(outgoing: &mut Option<Outgoing>, mut trailers: HeaderMap) -> HeaderMap {
    if let Some(outgoing) = outgoing.take() {
        outgoing.finish_trailers(&mut trailers);
    }
    trailers
}

impl<B: Default> Default for SessionBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B> fmt::Debug for SessionBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionBody").finish_non_exhaustive()
    }
}
