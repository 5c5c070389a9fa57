//! The client's side: a session's token goes out with each request, and what comes back is merged into it.

mod body;
mod call;
mod future;
mod jar;
mod layer;
mod service;

pub use self::{
    body::PropagateBody, future::PropagateFuture, jar::TokenJar, layer::PropagateLayer,
    service::PropagateService,
};
#[cfg(feature = "reqwest")]
pub(crate) use self::{call::Call, layer::Carrier};
