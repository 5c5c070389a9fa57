//! The layer's place among others.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{convert::Infallible, future::pending, time::Duration};

use bytes::Bytes;
use highwater_core::{Marks, Scope};
use highwater_http::{SessionLayer, TOKEN_HEADER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};

mod common;
use common::*;

/// A handler whose write has been sent when the time is up. The connection goes on with it.
fn hanging(
    request: &Request<String>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + use<> {
    let (on_the_wire, caller) = session_of(request).begin_write(&Scope::default(), history());
    async move {
        let _dropped_together = (on_the_wire, caller);
        pending::<()>().await;
        Ok(Response::default())
    }
}

/// No time has to pass: it is already up.
fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::ZERO)
}

#[tokio::test]
async fn a_timeout_inside_leaves_its_doubt_in_the_response() {
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(codec()))
        .layer(timeout())
        .service(service_fn(|request: Request<String>| hanging(&request)));
    let response = service.oneshot(request("/", [token(&[mark(7)])])).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let sent = sent_back(&response, &codec()).unwrap();
    assert!(sent.written().next().unwrap().offset.is_unknown());
}

/// What the documentation warns of: nobody hears of the doubt.
#[tokio::test]
async fn a_timeout_outside_drops_the_session_with_its_doubt() {
    let service = ServiceBuilder::new()
        .layer(timeout())
        .layer(SessionLayer::new(codec()))
        .service(service_fn(|request: Request<String>| hanging(&request)));
    let response = service.oneshot(request("/", [token(&[mark(7)])])).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(sent_back(&response, &codec()), None);
}

async fn body(request: Request<String>) -> Result<Response<Pieces>, Infallible> {
    streaming(request, 2..=200).await
}

#[tokio::test]
async fn compression_works_on_both_sides_and_leaves_the_trailers() {
    let session = || SessionLayer::new(codec());
    let mut ask = request("/", []);
    let gzip = HeaderValue::from_static("gzip");
    ask.headers_mut().insert("accept-encoding", gzip);
    *ask.version_mut() = http::Version::HTTP_2;
    let outside = ServiceBuilder::new()
        .layer(CompressionLayer::new().compress_when(tower_http::compression::predicate::SizeAbove::new(0)))
        .layer(session())
        .service(service_fn(body));
    let inside = ServiceBuilder::new()
        .layer(session())
        .layer(CompressionLayer::new().compress_when(tower_http::compression::predicate::SizeAbove::new(0)))
        .service(service_fn(body));
    let outside = outside.oneshot(ask.clone()).await.unwrap().into_parts();
    check(&outside.0.headers, outside.1.collect().await.unwrap());
    let inside = inside.oneshot(ask).await.unwrap().into_parts();
    check(&inside.0.headers, inside.1.collect().await.unwrap());
}

fn check(head: &HeaderMap, body: Collected<Bytes>) {
    assert_eq!(head["content-encoding"], "gzip");
    let read = |headers: &HeaderMap| -> Marks {
        let token = headers[TOKEN_HEADER].as_bytes();
        codec().decode(token, now()).unwrap()
    };
    assert_eq!(read(head), marks(&[mark(1)]));
    assert_eq!(read(body.trailers().unwrap()), marks(&[mark(200)]));
    assert!(body.to_bytes().starts_with(&[0x1f, 0x8b]));
}

/// A browser's question whether it may ask is answered without a session, and it may send and read tokens.
#[tokio::test]
async fn cors_goes_outside() {
    let cors = CorsLayer::new()
        .allow_origin(HeaderValue::from_static("https://shop.example"))
        .allow_headers([TOKEN_HEADER])
        .expose_headers([TOKEN_HEADER]);
    let layer = SessionLayer::new(codec());
    let service = ServiceBuilder::new()
        .layer(cors)
        .layer(layer.clone())
        .service(service_fn(async |request: Request<String>| {
            assert_ne!(request.method(), Method::OPTIONS, "it stays outside");
            Ok::<_, Infallible>(handler(request).await?.map(|_| String::new()))
        }));
    let mut question = request("/write/9", [HeaderValue::from_static("forged")]);
    *question.method_mut() = Method::OPTIONS;
    let origin = HeaderValue::from_static("https://shop.example");
    let method = HeaderValue::from_static("PUT");
    question.headers_mut().insert("origin", origin.clone());
    question
        .headers_mut()
        .insert("access-control-request-method", method);
    let answer = service.clone().oneshot(question).await.unwrap();
    assert_eq!(
        answer.headers()["access-control-allow-headers"],
        "highwater-token"
    );
    assert_eq!(layer.bad_tokens().total(), 0);

    let mut request = request("/write/9", [token(&[mark(7)])]);
    request.headers_mut().insert("origin", origin);
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()["access-control-expose-headers"],
        "highwater-token"
    );
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
}

/// Who may not come in costs no verification, and learns nothing.
#[tokio::test]
async fn authorization_goes_outside() {
    #[allow(deprecated, reason = "the simplest layer that refuses")]
    let auth = ValidateRequestHeaderLayer::bearer("secret");
    let layer = SessionLayer::new(codec());
    let service = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(auth)
        .layer(layer.clone())
        .service(service_fn(async |request: Request<String>| {
            Ok::<_, Infallible>(handler(request).await?.map(|_| Full::<Bytes>::default()))
        }));
    let stranger = request("/write/9", [HeaderValue::from_static("forged")]);
    let response = service.clone().oneshot(stranger).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(sent_back(&response, &codec()), None);
    assert_eq!(layer.bad_tokens().total(), 0);

    let mut known = request("/write/9", []);
    let bearer = HeaderValue::from_static("Bearer secret");
    known.headers_mut().insert("authorization", bearer);
    let response = service.oneshot(known).await.unwrap();
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
}
