//! The axum extractor, on a real `Router`.

#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use highwater_http::{Refuse, SessionLayer, TOKEN_HEADER, axum::Session};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

mod common;
use common::*;

/// Takes the session as highwater's client does.
fn with(session: &highwater_core::Session) -> usize {
    session.marks().written().count()
}

async fn show(session: Session) -> String {
    with(&session).to_string()
}

async fn write(session: Session) -> StatusCode {
    session.add_written(&mark(9));
    assert_eq!(session.clone().into_inner().marks(), session.marks());
    StatusCode::CONFLICT
}

async fn maybe(session: Option<Session>) -> String {
    session.is_some().to_string()
}

fn router() -> Router {
    Router::new()
        .route("/", get(show))
        .route("/write", post(write))
        .route("/maybe", get(maybe))
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn get_with(path: &str, token: Option<HeaderValue>) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(token) = token {
        request.headers_mut().insert(TOKEN_HEADER, token);
    }
    request
}

#[tokio::test]
async fn handlers_take_the_session_as_an_argument() {
    let app = router().layer(SessionLayer::new(codec()));
    let post = Request::post("/write").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
    let token = response.headers()[TOKEN_HEADER].clone();
    let response = app.clone().oneshot(get_with("/", Some(token))).await.unwrap();
    assert_eq!(text(response).await, "1");
    let response = app.clone().oneshot(get_with("/", None)).await.unwrap();
    assert_eq!(text(response).await, "0");
    let response = app.oneshot(get_with("/maybe", None)).await.unwrap();
    assert_eq!(text(response).await, "true");
}

#[tokio::test]
async fn a_missing_layer_is_an_error_that_says_what_to_add() {
    let response = router().oneshot(get_with("/", None)).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        text(response).await,
        "SessionLayer is missing: add `.layer(SessionLayer::new(codec))` to the Router"
    );
    let response = router().oneshot(get_with("/maybe", None)).await.unwrap();
    assert_eq!(text(response).await, "false");
}

#[tokio::test]
async fn a_router_can_refuse() {
    let app = router().layer(SessionLayer::new(codec()).on_bad_token(Refuse));
    let forged = get_with("/", Some(HeaderValue::from_static("made-up")));
    let response = app.oneshot(forged).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["highwater-error"], "malformed");
}
