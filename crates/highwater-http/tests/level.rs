//! The level that a request asks for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use highwater_core::Consistency;
use highwater_http::{ERROR_HEADER, LEVEL_HEADER, Refuse, SessionLayer};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

mod common;
use common::*;

async fn level(request: Request<String>) -> Result<Response<Option<Consistency>>, Infallible> {
    Ok(Response::new(session_of(&request).level()))
}

fn asking(level: &[u8]) -> Request<String> {
    let mut request = request("/", []);
    let value = HeaderValue::from_bytes(level).unwrap();
    request.headers_mut().insert(LEVEL_HEADER, value);
    request
}

#[tokio::test]
async fn by_default_it_means_nothing() {
    let layer = SessionLayer::new(codec());
    let service = layer.layer(service_fn(level));
    for asked in [&b"primary"[..], b"nonsense"] {
        let response = service.clone().oneshot(asking(asked)).await.unwrap();
        assert_eq!(*response.body().inner(), None);
        assert!(!response.headers().contains_key(ERROR_HEADER));
    }
    assert_eq!(layer.bad_tokens().total(), 0);
}

#[tokio::test]
async fn what_is_allowed_is_had_and_the_rest_is_said() {
    let layer = SessionLayer::new(codec()).allow_level(|level| level != Consistency::Primary);
    let service = layer.layer(service_fn(level));
    for (asked, got) in [
        (&b"monotonic"[..], Some(Consistency::Monotonic)),
        (b"eventual", Some(Consistency::Eventual)),
        (b"primary", None),
        (b"nonsense", None),
        (b"", None),
        (b"\xff", None),
    ] {
        let response = service.clone().oneshot(asking(asked)).await.unwrap();
        assert_eq!(*response.body().inner(), got);
        let error = response.headers().get(ERROR_HEADER);
        assert_eq!(error.is_some(), got.is_none());
        assert!(error.is_none_or(|error| error == "level"));
    }
    assert_eq!(layer.bad_tokens().named("level"), 4);
    let response = service.oneshot(request("/", [])).await.unwrap();
    assert_eq!(*response.body().inner(), None);
}

#[tokio::test]
async fn it_is_refused_where_bad_tokens_are() {
    let layer = SessionLayer::new(codec())
        .allow_level(|_| true)
        .on_bad_token(Refuse);
    let service = layer.layer(service_fn(level));
    let response = service.clone().oneshot(asking(b"nonsense")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()[ERROR_HEADER], "level");
    let response = service.oneshot(asking(b"primary")).await.unwrap();
    assert_eq!(*response.body().inner(), Some(Consistency::Primary));
}
