//! The user's own tower layers around the command stack.

use std::fmt;

use tower::{
    BoxError, ServiceExt, load_shed::error::Overloaded, timeout::error::Elapsed, util::BoxCloneSyncService,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    command::Command,
    error::{Error, ErrorKind},
    route::Reply,
};

/// What a layer given to [`ClientBuilder::layer`](crate::ClientBuilder::layer) is laid around: the command
/// stack, or the layers that were given later.
///
/// Its errors are [`Error`]s of this crate, unless another layer makes its own.
pub type CommandService = BoxCloneSyncService<Command, Reply, BoxError>;

type Wrap = Box<dyn FnOnce(CommandService) -> CommandService + Send + Sync>;

/// The layers, as they were given: the first is the outermost.
#[derive(Default)]
pub(crate) struct Layers(Vec<Wrap>);

impl Layers {
    pub(crate) fn push<L>(&mut self, layer: L)
    where
        L: Layer<CommandService> + Send + Sync + 'static,
        L::Service: Service<Command, Response = Reply> + Clone + Send + Sync + 'static,
        <L::Service as Service<Command>>::Error: Into<BoxError>,
        <L::Service as Service<Command>>::Future: Send + 'static,
    {
        self.0.push(Box::new(move |inner| {
            BoxCloneSyncService::new(layer.layer(inner).map_err(Into::into))
        }));
    }

    /// The stack, when there are layers at all. Without any, nothing is boxed.
    pub(crate) fn around<S>(self, stack: S) -> Option<CommandService>
    where
        S: Service<Command, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        if self.0.is_empty() {
            return None;
        }
        let innermost = BoxCloneSyncService::new(stack.map_err(BoxError::from));
        Some(
            self.0
                .into_iter()
                .rev()
                .fold(innermost, |inner, wrap| wrap(inner)),
        )
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layers").field(&self.0.len()).finish()
    }
}

/// An error of the stack with layers, as the caller sees it.
pub(crate) fn unlayered(error: BoxError, may_write: bool) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(own) => return *own,
        Err(other) => other,
    };
    if error.is::<Elapsed>() {
        return if may_write {
            Error::new(
                ErrorKind::InDoubt,
                "a write took longer than the timeout layer allows",
            )
        } else {
            Error::new(
                ErrorKind::Timeout,
                "a read took longer than the timeout layer allows",
            )
        };
    }
    if error.is::<Overloaded>() {
        return Error::new(
            ErrorKind::Overloaded,
            "a load-shedding layer turned the command away",
        );
    }
    Error::new(ErrorKind::Layer, "a layer around the client failed").with_shared_source(error.into())
}
