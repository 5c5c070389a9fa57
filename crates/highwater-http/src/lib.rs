//! Tower layers that carry [`highwater`](highwater_core) session tokens over HTTP.
//!
//! A token says how far into the data a user has seen or written. [`SessionLayer`] turns the token of
//! a request into a [`highwater_core::Session`] in the request's extensions, handlers read and write
//! through that session, and when it has moved, the layer sends the new token back:
//!
//! ```text
//! request   highwater-token: AQGq…  →  Session in the extensions  →  handler
//! response  highwater-token: AQHb…  ←  the session has moved      ←
//! ```
//!
//! A client that sends back the last token it was given, to this service or to another one with the
//! same key, never sees a state older than its own last write. There is no Redis in this crate: it
//! works with any `tower` service over [`http`] types, whatever the bodies.
//!
//! # Example
//!
//! ```
//! use highwater_core::{History, Mark, Offset, Scope, Session, SigningKey, TokenCodec};
//! use highwater_http::{SessionLayer, TOKEN_HEADER};
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let history: History = "0123456789abcdef0123456789abcdef01234567".parse()?;
//!
//! let service = SessionLayer::new(codec).layer(service_fn(move |request: Request<String>| async move {
//!     let session = request.extensions().get::<Session>().ok_or("no session")?;
//!     if request.method() == "POST" {
//!         // A write through highwater's client does this.
//!         let offset = Offset::at(42);
//!         session.add_written(&Mark { scope: Scope::default(), history, offset });
//!     }
//!     // So that this example sees what the session depends on.
//!     Ok::<_, &str>(Response::new(session.marks().written().count().to_string()))
//! }));
//!
//! let write = Request::post("/cart").body(String::new())?;
//! let response = service.clone().oneshot(write).await?;
//! let token = response.headers().get(TOKEN_HEADER).ok_or("no token")?;
//! // Not for a cache that other users share.
//! assert_eq!(response.headers().get("cache-control").ok_or("none")?, "private");
//!
//! // The client sends it along with its next request, which now depends on the write.
//! let read = Request::get("/cart").header(TOKEN_HEADER, token).body(String::new())?;
//! let response = service.oneshot(read).await?;
//! assert_eq!(response.body().inner(), "1");
//! // Nothing is new, so there is no new token.
//! assert!(!response.headers().contains_key(TOKEN_HEADER));
//! # Ok(())
//! # }
//! ```
//!
//! # A token that can't be used
//!
//! One that is forged, expired, cut off or oversized is never taken for "no token": the session is in
//! doubt about everything, and the first read of it asks the primary where it is. Nothing is lost by
//! that but one round trip. [`SessionLayer::bad_tokens`] counts them. A service that would rather
//! refuse such requests says so:
//!
//! ```
//! use highwater_core::{Session, SigningKey, TokenCodec, TokenErrorKind};
//! use highwater_http::{BadToken, SessionLayer, TOKEN_HEADER};
//! use http::{Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let layer = SessionLayer::new(codec)
//!     .expose_route(true)
//!     .cache_control(false)
//!     // Or `Refuse`, for a 400 with an empty body.
//!     .on_bad_token(|error: BadToken| {
//!         let mut response = Response::new(format!(r#"{{"error": "{error}"}}"#));
//!         *response.status_mut() = StatusCode::BAD_REQUEST;
//!         response
//!     });
//! let service = layer.layer(service_fn(async |_: Request<String>| {
//!     Ok::<_, &str>(Response::new("hello".to_owned()))
//! }));
//!
//! let good = Request::get("/").body(String::new())?;
//! let response = service.clone().oneshot(good).await?;
//! assert_eq!(response.headers()["highwater-route"], "cache=0, replica=0, primary=0");
//!
//! let forged = Request::get("/").header(TOKEN_HEADER, "made-up").body(String::new())?;
//! let response = service.oneshot(forged).await?;
//! assert_eq!(response.status(), StatusCode::BAD_REQUEST);
//! assert_eq!(response.headers()["highwater-error"], "malformed");
//! assert!(response.body().inner().starts_with(r#"{"error": "the session token can't be used"#));
//! assert_eq!(layer.bad_tokens().of(TokenErrorKind::Malformed), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What a response's token covers
//!
//! Everything that the session had learnt when the response's head left. A write whose future was
//! dropped before its reply (a timeout in the handler) is in it as doubt. Two things are not in it:
//! a write in a task that the handler did not wait for, and a write made while the body is still
//! being streamed. Await writes before you return the response.
//!
//! # Clients
//!
//! A client keeps the last token that it was sent and sends it along; the text means nothing to it. One
//! with requests in parallel keeps the token of each response and sends them all, a header each, since
//! neither of two that were made side by side knows of the other's write. In a browser, a page of another origin sees the header only if the service lists it in
//! `access-control-expose-headers`, and may send it only if it is in `access-control-allow-headers`.
//! A client must not take a token out of a response that came from its own cache: that one is old.
//!
//! # Features
//!
//! * `axum`: an extractor, so that handlers take the session as an argument.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "cookie")]
mod cookie;
mod header;
mod propagate;
#[cfg(feature = "reqwest")]
pub mod reqwest;
mod session;
#[cfg(feature = "store")]
mod store;

#[cfg(feature = "cookie")]
pub use cookie::{CookieError, SameSite, TokenCookie};
pub use header::{CONTINUITY_HEADER, ERROR_HEADER, LEVEL_HEADER, MAX_TOKENS, ROUTE_HEADER, TOKEN_HEADER};
pub use propagate::{PropagateBody, PropagateFuture, PropagateLayer, PropagateService, TokenJar};
pub use session::{
    BadToken, BadTokens, Doubt, OnBadToken, Refuse, ResponseFuture, SessionBody, SessionLayer,
    SessionService, Stateless,
};
#[cfg(feature = "store")]
pub use store::{
    Kept, MemoryStore, Revision, SessionStore, StoreBody, StoreError, StoreFuture, StoreService, Stored,
};
