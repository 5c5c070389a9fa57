//! The client's side of a chain.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{convert::Infallible, future::pending};

use bytes::Bytes;
use highwater_core::{MAX_TOKEN_LEN, Marks, Scope, Session, SessionId, Token};
use highwater_http::{MAX_TOKENS, PropagateLayer, SessionBody, SessionLayer, TOKEN_HEADER, TokenJar};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};

mod common;
use common::*;

/// Between two processes no extensions pass.
fn wire(mut request: Request<String>) -> Request<String> {
    request.extensions_mut().clear();
    request
}

type Other = BoxCloneService<Request<String>, Response<SessionBody<Empty<Bytes>>>, Infallible>;

/// The other service, which has what it knew of the session in the extensions of its responses.
fn other_with(layer: &SessionLayer) -> Other {
    layer
        .layer(service_fn(async |request: Request<String>| {
            let mut response = handler(request).await?;
            let arrived = response.body().clone();
            response.extensions_mut().insert(arrived);
            Ok::<_, Infallible>(response.map(|_| Empty::new()))
        }))
        .map_request(wire)
        .boxed_clone()
}

fn other() -> Other {
    other_with(&SessionLayer::new(codec()))
}

fn with(session: &Session, path: &str) -> Request<String> {
    let mut request = request(path, []);
    request.extensions_mut().insert(session.clone());
    request
}

fn in_doubt(session: &Session) -> bool {
    session.marks().is_in_doubt(&Scope::default())
}

#[tokio::test]
async fn the_session_goes_along_and_what_was_written_comes_back() {
    let service = PropagateLayer::new(codec()).layer(other());
    let session = Session::new();
    session.add_written(&mark_in("elsewhere", 3));
    // Errors have tokens as well.
    for (path, status) in [
        ("/write/9", 200),
        ("/status/503/write/11", 503),
        ("/status/404/write/13", 404),
    ] {
        let before = session.marks();
        let response = service.clone().oneshot(with(&session, path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
        assert_eq!(response.extensions().get(), Some(&before), "{path}");
    }
    assert_eq!(session.marks(), marks(&[mark(13), mark_in("elsewhere", 3)]));
}

#[tokio::test]
async fn a_request_without_a_session_passes_untouched() {
    let service = PropagateLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        assert!(request.headers().is_empty());
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    service.oneshot(request("/", [])).await.unwrap();
}

#[tokio::test]
async fn a_session_of_the_layer_is_for_requests_that_have_none() {
    let own = Session::new();
    let service = PropagateLayer::new(codec()).session(own.clone()).layer(other());
    service.clone().oneshot(request("/write/9", [])).await.unwrap();
    let other = Session::new();
    service.oneshot(with(&other, "/write/11")).await.unwrap();
    assert_eq!(own.marks(), marks(&[mark(9)]));
    assert_eq!(other.marks(), marks(&[mark(11)]));
}

#[tokio::test]
async fn what_a_request_says_itself_is_replaced_and_the_id_stays_here() {
    let session = Session::new();
    session.add_written(&mark(5));
    let mut id = [0x11; 16];
    (id[6], id[8]) = (0x71, 0x91);
    session.identify(SessionId::from_bytes(id).unwrap());
    let service = PropagateLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        let [token] = &request.headers().get_all(TOKEN_HEADER).iter().collect::<Vec<_>>()[..] else {
            panic!("one token");
        };
        assert!(token.is_sensitive());
        let token = codec().decode_token(token.as_bytes(), now()).unwrap();
        assert_eq!(token, Token::from(marks(&[mark(5)])));
        assert_eq!(request.headers()["te"], "trailers");
        // A store of the other service has ids of its own, which are none of ours.
        let mut response = Response::new(String::new());
        let text = codec().encode_token(&token, now(), MAX_TOKEN_LEN);
        response
            .headers_mut()
            .insert(TOKEN_HEADER, text.try_into().unwrap());
        Ok::<_, Infallible>(response)
    }));
    let mut request = with(&session, "/");
    request.headers_mut().insert(TOKEN_HEADER, token(&[mark(99)]));
    service.oneshot(request).await.unwrap();
    assert_eq!(session.id().unwrap().as_bytes(), &id);
}

#[tokio::test]
async fn a_call_without_a_response_is_doubt() {
    let service = PropagateLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        if request.uri().path() == "/hang" {
            pending::<()>().await;
        }
        Err::<Response<String>, _>("the connection was lost")
    }));
    for hangs in [false, true] {
        let session = Session::new();
        let path = if hangs { "/hang" } else { "/" };
        let mut call = Box::pin(service.clone().oneshot(with(&session, path)));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
        assert_eq!(polled.is_pending(), hangs);
        drop(call);
        assert!(in_doubt(&session), "{hangs}");
    }
}

/// A proxy's, or of a time limit around the service: the service may have written.
#[tokio::test]
async fn a_failure_that_may_be_somebody_elses_is_doubt_unless_it_has_a_token() {
    let service = PropagateLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        let mut parts = request.uri().path().split('/').skip(1);
        let mut next = || parts.next().filter(|part| *part != "-");
        let mut response = Response::builder().status(next().unwrap());
        if let Some(code) = next() {
            response = response.header("grpc-status", code);
        }
        if next().is_some() {
            response = response.header(TOKEN_HEADER, token(&[mark(9)]));
        }
        Ok::<_, Infallible>(response.body(String::new()).unwrap())
    }));
    for (path, doubt) in [
        ("/200", false),
        ("/404", false),
        ("/429", false),
        ("/408", true),
        ("/500", true),
        ("/502", true),
        ("/504", true),
        ("/504/-/token", false),
        ("/200/0", false),
        ("/200/5", false),
        ("/200/1", true),
        ("/200/2", true),
        ("/200/4", true),
        ("/200/13", true),
        ("/200/14", true),
        ("/200/14/token", false),
    ] {
        let session = Session::new();
        service.clone().oneshot(with(&session, path)).await.unwrap();
        assert_eq!(in_doubt(&session), doubt, "{path}");
    }
}

/// Something between the service and us hands on that there may be trailers, and then has none.
#[tokio::test]
async fn announced_trailers_that_do_not_come_are_doubt() {
    for (announced, trailers, doubt) in [
        (false, None, false),
        (true, None, true),
        (true, Some("grpc-status"), true),
        (true, Some("highwater-token"), false),
    ] {
        let service = PropagateLayer::new(codec()).layer(service_fn(async |_: Request<String>| {
            let data = Frame::data(Bytes::from("1"));
            let last = trailers.map(|name| {
                let value = if name == "grpc-status" {
                    "0".parse().unwrap()
                } else {
                    token(&[mark(9)])
                };
                Frame::trailers(HeaderMap::from_iter([(name.parse().unwrap(), value)]))
            });
            let frames = [Some(data), last].into_iter().flatten().map(Ok::<_, Infallible>);
            let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)));
            if announced {
                response
                    .headers_mut()
                    .insert("trailer", HeaderValue::from_name(TOKEN_HEADER));
            }
            Ok::<_, Infallible>(response)
        }));
        let session = Session::new();
        let response = service.oneshot(with(&session, "/")).await.unwrap();
        assert!(!in_doubt(&session));
        let mut body = response.into_body();
        while body.frame().await.is_some() {}
        assert_eq!(in_doubt(&session), doubt, "{announced} {trailers:?}");
    }
}

#[tokio::test]
async fn a_response_is_no_doubt_unless_its_token_is_bad() {
    let strange = SessionLayer::new(codec_of("another key than that of the layer"));
    let session = Session::new();
    let service = PropagateLayer::new(codec()).layer(other());
    service.oneshot(with(&session, "/")).await.unwrap();
    assert_eq!(session.marks(), Marks::new());
    let service = PropagateLayer::new(codec()).layer(other_with(&strange));
    service.oneshot(with(&session, "/write/9")).await.unwrap();
    assert!(in_doubt(&session));
}

#[tokio::test]
async fn a_client_without_a_key_passes_on_what_it_gets() {
    let jar = TokenJar::new();
    let service = PropagateLayer::opaque(jar.clone()).layer(other());
    let arrived = |response: &Response<_>| response.extensions().get::<Marks>().unwrap().clone();
    service.clone().oneshot(request("/write/9", [])).await.unwrap();
    let response = service.clone().oneshot(request("/write/11", [])).await.unwrap();
    assert_eq!(arrived(&response), marks(&[mark(9)]));
    assert_eq!(jar.tokens().len(), 1);

    // Two side by side, of which the one that wrote less comes back last.
    let calls = [request("/write/20", []), request("/write/15", [])].map(|mut request| {
        request.extensions_mut().insert(jar.clone());
        service.clone().oneshot(request)
    });
    for call in calls {
        call.await.unwrap();
    }
    let response = service.oneshot(request("/", [])).await.unwrap();
    assert_eq!(arrived(&response), marks(&[mark(20)]));
    assert_eq!(jar.tokens().len(), 1, "the answer says what both said");
}

#[tokio::test]
async fn more_tokens_than_a_service_looks_at_are_doubt() {
    let jar = TokenJar::new();
    (0..100).for_each(|offset| jar.add(token(&[mark(offset)])));
    assert_eq!(jar.tokens().len(), MAX_TOKENS + 1);
    let service = PropagateLayer::opaque(jar.clone()).layer(other());
    let response = service.clone().oneshot(request("/", [])).await.unwrap();
    assert!(
        response
            .extensions()
            .get::<Marks>()
            .unwrap()
            .is_in_doubt(&Scope::default())
    );
    assert_eq!(jar.tokens().len(), 1);
    assert_eq!(format!("{jar:?}"), "TokenJar { tokens: 1 }");
    let kept = TokenJar::new();
    kept.add(HeaderValue::from_static("kept elsewhere"));
    assert!(kept.tokens()[0].is_sensitive());
}
