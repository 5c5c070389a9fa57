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
//! A client that sends back the last token that it was given, to this service or to another one with the
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
//! Everything that the session had learnt when the response's head left, and in the trailers what it has learnt until
//! the body's end. A write whose future was dropped before its reply (a timeout in the handler) is in it as
//! doubt. A write in a task that the handler did not wait for is not: await writes before you return the response,
//! or hand the task a [token](highwater_core::Session::token) and let it answer in its own way.
//!
//! # Bodies that stream, and gRPC
//!
//! What is written while a body is produced goes into its trailers:
//!
//! | | |
//! | --- | --- |
//! | HTTP/2 | always |
//! | HTTP/1.1 | to clients that send `te: trailers`, as [`PropagateLayer`] does; the response declares them |
//! | HTTP/1.0, browsers' `fetch`, `EventSource` | never: they can't read trailers. With a [store](#browsers), such a write is known by the session's id before the piece of the body that tells of it leaves; without one, write before you answer |
//! | gRPC | always: metadata are headers, and the status travels in the trailers. The same layer goes around tonic's server: `Server::builder().layer(SessionLayer::new(codec))` |
//!
//! Trailers come at the end: until then the client does not know of writes that the body's pieces tell of. Who asks for trailers
//! gets the token there in any case, and takes their absence for doubt.
//!
//! Handlers of tonic find the session in the request's extensions. To refuse a bad token with a status of gRPC:
//! `.on_bad_token(|bad: BadToken| Status::invalid_argument(bad.to_string()).into_http())`.
//!
//! # Clients
//!
//! A client keeps the last token that it was sent and sends it along; the text means nothing to it. One
//! with requests in parallel keeps the token of each response and sends them all, a header each, since
//! neither of two that were made side by side knows of the other's write; it is then sent one that says what both said.
//! In Rust, [`PropagateLayer`] does this for tower's clients, and the module `reqwest` for reqwest's: for a service
//! that calls others on its user's account with the session itself, for all others with a [`TokenJar`].
//! In a browser, a page of another origin sees the header only if the service lists it in
//! `access-control-expose-headers`, and may send it only if it is in `access-control-allow-headers`.
//! A client must not take a token out of a response that came from its own cache: that one is old.
//!
//! # Browsers
//!
//! With the features `cookie` and `store`, a browser needs no script:
//!
//! ```
//! # #[cfg(all(feature = "cookie", feature = "store"))]
//! # {
//! use highwater_core::{SigningKey, TokenCodec};
//! use highwater_http::{MemoryStore, SessionLayer, TokenCookie};
//!
//! # fn layer() -> Result<(), Box<dyn std::error::Error>> {
//! let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let layer = SessionLayer::new(codec)
//!     .cookie(TokenCookie::new())
//!     .header(false)
//!     .store(MemoryStore::default());
//! # Ok(())
//! # }
//! # layer().unwrap();
//! # }
//! ```
//!
//! A browser sends its requests side by side and keeps the cookie of the response that arrives last, which need not be
//! the one that has written most. So its session has an id, in the signed token, and a store that merges by the id
//! what its requests learn. A process that does not know an id (it was restarted, the session was evicted) takes the
//! session to be in doubt, which costs one shared sample of the primary.
//!
//! What a fleet needs is one of these:
//!
//! * **stickiness**: all requests of a session go to the same process, each of which has a [`MemoryStore`];
//! * **a shared store**: a `SessionStore` of your own, over something that all processes reach.
//!
//! With neither, one browser's parallel requests that reach different processes can lose a mark to the order of their
//! responses: each process knows the session, but not what the other has learnt since.
//!
//! The first response of all gives the id: requests that a new browser sends in parallel before it has one are sessions of
//! their own. A page load comes first.
//!
//! # Its place among other layers
//!
//! From the outside in:
//!
//! 1. tracing, CORS (its preflight requests have no session), authentication (strangers then cost no verification);
//! 2. compression, on either side: trailers pass through it;
//! 3. **`SessionLayer`**;
//! 4. timeouts, load shedding, and whatever else may drop a handler's future or answer in its place.
//!
//! A timeout *inside* that answers with a response leaves its doubt in the response's token: if a write of the handler was on its
//! way, the next request asks the primary. A timeout *outside* drops the session with its doubt. Its response has no token,
//! and the next request does not depend on the write that timed out, whether it has happened or not; what other requests were
//! told of stays. The same holds for layers inside that return an *error*, such as tower's own `Timeout`: what makes a response of it
//! (axum's `HandleErrorLayer`) belongs inside, too. tonic's `Server::timeout` and its clients' `grpc-timeout` are always outside:
//! give tonic a layer of your own after `SessionLayer`.
//!
//! On the other side, [`PropagateLayer`] takes a response without a token that may be such a failure (5xx, 408; gRPC's `CANCELLED`,
//! `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`) for doubt, wherever it was made.
//!
//! # Caches
//!
//! A response with a token gets `cache-control: private`, unless it has a `cache-control` of its own. Don't say `public`
//! of such a response: a shared cache would give one user's token to others, who then lose their own. One that may be
//! stored says in `vary` that it depends on the token.
//!
//! # Features
//!
//! * `axum`: an extractor, so that handlers take the session as an argument.
//! * `cookie`: tokens in a cookie.
//! * `reqwest`: sessions for reqwest's requests.
//! * `store`: what a browser's parallel requests learn is kept together.

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
