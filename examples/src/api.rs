//! The shop's HTTP API: what comes in, checked, and what goes out, always as JSON.
//!
//! | request | reply |
//! | --- | --- |
//! | `PUT /carts/{user}/items/{sku}` with `{"quantity": n}` | 200, the line |
//! | `DELETE /carts/{user}/items/{sku}` | 204 |
//! | `GET /carts/{user}` | 200, `{"user": …, "items": {sku: quantity}}` |
//! | `GET /status` | 200, how the service is doing |
//!
//! Errors are `{"error": reason}`.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use redis::RedisError;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest name of a user or an item, in bytes.
pub const MAX_NAME: usize = 128;
/// The most of one item that a cart holds.
pub const MAX_QUANTITY: u32 = 1_000_000;
/// The longest request body, in bytes.
const MAX_BODY: usize = 4096;

/// What is in a cart: quantities by item.
pub type Items = BTreeMap<String, u32>;

/// A cart, as `GET` returns it.
#[derive(Clone, Debug, Serialize)]
pub struct Cart {
    /// Whose it is.
    pub user: String,
    /// What is in it.
    pub items: Items,
}

/// One line of a cart, as `PUT` returns it.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The item.
    pub sku: String,
    /// How many.
    pub quantity: u32,
}

/// The user named in the path.
#[derive(Clone, Debug)]
pub struct User(pub String);

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let user = path::<String, S>(parts, state).await?;
        Ok(Self(name("user", user)?))
    }
}

/// The user and the item named in the path.
#[derive(Clone, Debug)]
pub struct Item {
    /// Whose cart it is in.
    pub user: String,
    /// The item.
    pub sku: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Item {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (user, sku) = path::<(String, String), S>(parts, state).await?;
        Ok(Self {
            user: name("user", user)?,
            sku: name("sku", sku)?,
        })
    }
}

async fn path<T, S>(parts: &mut Parts, state: &S) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    match Path::from_request_parts(parts, state).await {
        Ok(Path(names)) => Ok(names),
        Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
    }
}

fn name(what: &str, name: String) -> Result<String, ApiError> {
    if (1..=MAX_NAME).contains(&name.len()) {
        Ok(name)
    } else {
        let reason = format!("the {what} must have 1 to {MAX_NAME} bytes");
        Err(ApiError::new(StatusCode::BAD_REQUEST, reason))
    }
}

/// The quantity in a request's body: from 1 to [`MAX_QUANTITY`].
#[derive(Clone, Copy, Debug)]
pub struct Quantity(pub u32);

impl<S: Send + Sync> FromRequest<S> for Quantity {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            quantity: u32,
        }
        match Json::from_request(request, state).await {
            Ok(Json(Body { quantity })) if (1..=MAX_QUANTITY).contains(&quantity) => Ok(Self(quantity)),
            Ok(_) => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the quantity must be from 1 to {MAX_QUANTITY}; to take an item out, DELETE it"),
            )),
            Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// A request that failed: a status, and a reason for the caller.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    reason: String,
}

impl ApiError {
    /// An error of this status.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

impl From<RedisError> for ApiError {
    /// Works for errors of redis-rs and, through them, for those of highwater. Callers hear what to
    /// do; what happened to which node is for the operator.
    fn from(error: RedisError) -> Self {
        use highwater::ErrorKind as Kind;
        tracing::debug!(%error, "a request failed");
        let down = |reason| Self::new(StatusCode::SERVICE_UNAVAILABLE, reason);
        match highwater::Error::of(&error).map(highwater::Error::kind) {
            Some(Kind::InDoubt) => {
                down("the change may have happened or not: look at the cart before you repeat it")
            }
            Some(Kind::PossiblyLost | Kind::UnknownHistory) => {
                down("a change of yours may have been lost: look at the cart again")
            }
            Some(Kind::Unavailable | Kind::Disconnected | Kind::Overloaded) => {
                down("the shop can't reach its data at the moment: try again soon")
            }
            // redis-rs alone does not tell a write that never left from one in doubt.
            None if error.is_io_error() => {
                down("the shop lost its data while it answered: a change may have happened or not")
            }
            None if is_passing(&error) => down("the shop's data can't be used at the moment: try again soon"),
            _ => {
                tracing::error!(%error, "a request failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the shop's data is not what it should be",
                )
            }
        }
    }
}

/// Whether a server's error reply says that it can't answer now.
fn is_passing(error: &RedisError) -> bool {
    use redis::ServerErrorKind as Kind;
    matches!(
        error.kind(),
        redis::ErrorKind::Server(
            Kind::BusyLoading | Kind::MasterDown | Kind::ReadOnly | Kind::TryAgain | Kind::ClusterDown
        )
    )
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.reason }));
        (self.status, body).into_response()
    }
}

/// Adds to a service's routes what all of the API has: a bound on bodies, and JSON errors for
/// everything that is no route.
pub fn complete(routes: Router) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not possible here")
        })
}
