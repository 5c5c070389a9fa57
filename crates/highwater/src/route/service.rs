//! The route stage as a tower service: what user layers are laid around.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower_service::Service;

use super::{Reply, Router};
use crate::{command::Command, error::Error};

/// The route stage. Clones are the same router.
#[derive(Clone, Debug)]
pub(crate) struct RouteService(Arc<Router>);

impl RouteService {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        Self(router)
    }

    pub(crate) fn router(&self) -> &Router {
        &self.0
    }
}

impl Service<Command> for RouteService {
    type Response = Reply;
    type Error = Error;
    type Future = RouteFuture;

    /// Always ready. The bound on what is in flight is kept by the call, in order of arrival; nodes are
    /// never waited for here, since any of them may do.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, command: Command) -> RouteFuture {
        let router = Arc::clone(&self.0);
        RouteFuture(Box::pin(async move { router.call(&command).await }))
    }
}

/// The future of [`RouteService`].
///
/// # Cancel safety
///
/// As [`Client::call`](crate::Client::call).
pub(crate) struct RouteFuture(BoxFuture<'static, Result<Reply, Error>>);

impl Future for RouteFuture {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}
