//! The session as an argument of axum handlers (feature `axum`).
//!
//! ```
//! use axum::{Router, body::Body, routing::get};
//! use highwater_core::{SigningKey, TokenCodec};
//! use highwater_http::{SessionLayer, axum::Session};
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! // With highwater's client, `client.with(&session)` is what commands are run on.
//! async fn show(session: Session) -> String {
//!     format!("{} writes", session.marks().written().count())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let app: Router = Router::new().route("/", get(show)).layer(SessionLayer::new(codec));
//!
//! let response = app.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```

use std::{convert::Infallible, error, fmt, ops::Deref};

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

/// The request's session, as [`SessionLayer`](crate::SessionLayer) made it. Used like the
/// [`highwater_core::Session`] that it holds; clones share the view.
///
/// Without the layer the request fails with [`SessionLayerMissing`]; `Option<Session>` is `None` then.
#[derive(Clone, Debug)]
pub struct Session(highwater_core::Session);

impl Session {
    /// The session itself.
    #[must_use]
    pub fn into_inner(self) -> highwater_core::Session {
        self.0
    }
}

impl Deref for Session {
    type Target = highwater_core::Session;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Session> for highwater_core::Session {
    fn from(session: Session) -> Self {
        session.0
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionLayerMissing;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        find(parts).ok_or(SessionLayerMissing)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(find(parts))
    }
}

fn find(parts: &Parts) -> Option<Session> {
    parts.extensions.get().cloned().map(Session)
}

/// A handler asks for a [`Session`], and no [`SessionLayer`](crate::SessionLayer) made one. The response
/// is a 500 whose body says so.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionLayerMissing;

impl fmt::Display for SessionLayerMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLayer is missing: add `.layer(SessionLayer::new(codec))` to the Router")
    }
}

impl error::Error for SessionLayerMissing {}

impl IntoResponse for SessionLayerMissing {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
