//! The server's side: a session for each request, and its token in the response.

mod bad_token;
mod future;
mod layer;
mod service;

pub use bad_token::{BadToken, BadTokens, Doubt, OnBadToken, Refuse};
pub use future::ResponseFuture;
pub use layer::SessionLayer;
pub use service::SessionService;
