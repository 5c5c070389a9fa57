//! The future of the cache stage.

use std::{
    future::{Future, Ready},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;

use crate::{error::Error, route::Reply};

/// A hit is there at once; all else is boxed.
///
/// # Cancel safety
///
/// As [`Client::call`](crate::Client::call). A fill that others wait for as well goes on.
pub(crate) enum CacheFuture {
    Hit(Ready<Result<Reply, Error>>),
    Asked(BoxFuture<'static, Result<Reply, Error>>),
}

impl Future for CacheFuture {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Hit(ready) => Pin::new(ready).poll(context),
            Self::Asked(future) => future.as_mut().poll(context),
        }
    }
}
