//! The server's side: a session for each request, and its token in the response.

mod bad_token;
mod body;
mod config;
mod future;
mod layer;
mod outgoing;
mod service;

#[cfg(feature = "store")]
pub(crate) use bad_token::Counters;
pub use bad_token::{BadToken, BadTokens, Doubt, OnBadToken, Refuse};
pub use body::SessionBody;
pub use future::ResponseFuture;
pub use layer::{SessionLayer, Stateless};
pub use service::SessionService;
