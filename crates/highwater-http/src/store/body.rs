use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Visit;

type Saving = Pin<Box<dyn Future<Output = Visit> + Send>>;
type Polled<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

pin_project! {
    /// The body of a response whose session is kept in a store: no part of it leaves before the store knows
    /// what the session had learnt when it was made.
    pub struct StoreBody<B: Body> {
        #[pin]
        inner: B,
        visit: Option<Visit>,
        saving: Option<Saving>,
        // What leaves when the store knows. `Some(None)` is the end.
        held: Option<Polled<B>>,
    }
}

impl<B: Body> StoreBody<B> {
    pub(super) fn new(inner: B, visit: Option<Visit>) -> Self {
        Self {
            inner,
            visit,
            saving: None,
            held: None,
        }
    }
}

impl<B: Body> Body for StoreBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled<B>> {
        let this = self.project();
        if this.held.is_none() {
            let polled = ready!(this.inner.poll_frame(cx));
            match this.visit.take() {
                Some(mut visit) if visit.owes() => {
                    *this.held = Some(polled);
                    *this.saving = Some(Box::pin(async move {
                        visit.save().await;
                        visit
                    }));
                }
                visit => {
                    *this.visit = visit;
                    return Poll::Ready(polled);
                }
            }
        }
        if let Some(saving) = this.saving {
            *this.visit = Some(ready!(saving.as_mut().poll(cx)));
            *this.saving = None;
        }
        Poll::Ready(this.held.take().flatten())
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream() && !self.visit.as_ref().is_some_and(Visit::owes)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            // It still has the frame that is held.
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
        }
    }
}

impl<B: Body + Default> Default for StoreBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B: Body> fmt::Debug for StoreBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBody").finish_non_exhaustive()
    }
}
