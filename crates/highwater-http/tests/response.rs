//! What a session leaves in the response.

use std::{
    convert::Infallible,
    future::{Future, pending},
    marker::PhantomPinned,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use highwater_core::{Marks, Route, Scope, Session};
use highwater_http::{Refuse, SessionLayer, TOKEN_HEADER};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CACHE_CONTROL};
use tower::{Layer, Service, ServiceExt, service_fn};

mod common;
use common::*;

#[tokio::test]
async fn every_method_gets_a_token_exactly_when_the_session_has_moved() {
    let service = SessionLayer::new(codec()).layer(service_fn(handler));
    for method in [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::from_bytes(b"PURGE").unwrap(),
    ] {
        for (path, moved) in [
            ("/write/9", Some(marks(&[mark(9)]))),
            // Below what the user already depends on.
            ("/write/6", None),
            ("/nothing", None),
        ] {
            let mut request = request(path, [token(&[mark(7)])]);
            *request.method_mut() = method.clone();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(sent_back(&response, &codec()), moved, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn error_statuses_carry_tokens_too() {
    let service = SessionLayer::new(codec()).layer(service_fn(handler));
    for status in [201, 204, 302, 304, 400, 404, 409, 500, 503] {
        let request = request(&format!("/status/{status}/write/9"), []);
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
        assert_eq!(
            sent_back(&response, &codec()),
            Some(marks(&[mark(9)])),
            "{status}"
        );
    }
}

#[tokio::test]
async fn reads_move_a_session_too() {
    let service = SessionLayer::new(codec()).layer(service_fn(handler));
    let response = service.oneshot(request("/read/9", [])).await.unwrap();
    let seen: Vec<_> = sent_back(&response, &codec()).unwrap().read().collect();
    assert_eq!(seen, [mark(9)]);
}

#[tokio::test]
async fn settled_doubt_is_a_new_token() {
    let service = SessionLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        let session = session_of(&request);
        let requirement = session.requirement(&Scope::default(), highwater_core::Consistency::ReadYourWrites);
        session.settle_doubt(&requirement, &mark(40));
        Ok::<_, Infallible>(Response::new(()))
    }));
    let response = service
        .oneshot(request("/", [HeaderValue::from_static("made-up")]))
        .await
        .unwrap();
    let settled = sent_back(&response, &codec()).unwrap();
    assert!(!settled.is_in_doubt(&Scope::default()));
    assert!(settled.is_in_doubt(&Scope::new("another").unwrap()));
    assert_eq!(settled.written().collect::<Vec<_>>(), [mark(40)]);
}

#[tokio::test]
async fn a_write_whose_future_was_dropped_travels_as_doubt() {
    let service = SessionLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        let (on_the_wire, caller) = session_of(&request).begin_write(&Scope::default(), history());
        // The handler's timeout; the connection goes on with the write.
        drop(caller);
        Ok::<_, Infallible>(Response::new(on_the_wire))
    }));
    let response = service.oneshot(request("/", [])).await.unwrap();
    let sent = sent_back(&response, &codec()).unwrap();
    assert!(sent.written().next().unwrap().offset.is_unknown());
}

#[tokio::test]
async fn a_token_goes_from_one_service_to_another_with_the_same_key() {
    let one = SessionLayer::new(codec()).layer(service_fn(handler));
    let other = SessionLayer::new(codec());
    let response = one.oneshot(request("/write/9", [])).await.unwrap();
    let token = response.headers()[TOKEN_HEADER].clone();
    assert!(token.is_sensitive());
    let response = other
        .layer(service_fn(handler))
        .oneshot(request("/write/12", [token]))
        .await
        .unwrap();
    assert_eq!(*response.body().inner(), marks(&[mark(9)]));
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(12)])));
    assert_eq!(other.bad_tokens().total(), 0);
}

#[tokio::test]
async fn a_token_for_a_service_with_another_key_is_doubt() {
    let one = SessionLayer::new(codec()).layer(service_fn(handler));
    let other = SessionLayer::new(codec_of("the key of the other service"));
    let response = one.oneshot(request("/write/9", [])).await.unwrap();
    let token = response.headers()[TOKEN_HEADER].clone();
    let response = other
        .layer(service_fn(handler))
        .oneshot(request("/", [token]))
        .await
        .unwrap();
    assert_eq!(*response.body().inner(), Marks::in_doubt());
    assert_eq!(other.bad_tokens().total(), 1);
}

#[tokio::test]
async fn nested_layers_share_one_session_and_send_one_token() {
    let inner = SessionLayer::new(codec()).layer(service_fn(handler));
    let service = SessionLayer::new(codec()).layer(inner);
    let response = service
        .oneshot(request("/write/9", [token(&[mark(7)])]))
        .await
        .unwrap();
    assert_eq!(*response.body().inner().inner(), marks(&[mark(7)]));
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
}

#[tokio::test]
async fn nested_layers_with_two_keys_end_with_the_outer_ones_token() {
    let inner = SessionLayer::new(codec_of("the key of the inner layer")).layer(service_fn(handler));
    let service = SessionLayer::new(codec()).layer(inner);
    let response = service.oneshot(request("/write/9", [])).await.unwrap();
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
}

#[tokio::test]
async fn a_token_that_a_handler_has_set_is_replaced_only_when_the_session_has_moved() {
    let service = SessionLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        let mut response = handler(request).await?;
        let foreign = token(&[mark_in("foreign", 1)]);
        response.headers_mut().insert(TOKEN_HEADER, foreign);
        Ok::<_, Infallible>(response)
    }));
    let response = service.clone().oneshot(request("/", [])).await.unwrap();
    assert_eq!(
        sent_back(&response, &codec()),
        Some(marks(&[mark_in("foreign", 1)]))
    );
    assert_eq!(response.headers()[CACHE_CONTROL], "private");
    let response = service.oneshot(request("/write/9", [])).await.unwrap();
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
}

#[tokio::test]
async fn responses_with_a_token_are_private_unless_they_say_otherwise() {
    let cache_control = |response: &Response<_>| response.headers().get(CACHE_CONTROL).cloned();
    let layer = SessionLayer::new(codec());
    let service = layer.layer(service_fn(handler));
    let response = service.clone().oneshot(request("/write/9", [])).await.unwrap();
    assert_eq!(cache_control(&response).unwrap(), "private");
    let response = service.oneshot(request("/", [])).await.unwrap();
    assert_eq!(cache_control(&response), None);

    let outspoken = service_fn(async |request: Request<String>| {
        let mut response = handler(request).await?;
        let value = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, value);
        Ok::<_, Infallible>(response)
    });
    let service = layer.layer(outspoken);
    let response = service.oneshot(request("/write/9", [])).await.unwrap();
    assert_eq!(cache_control(&response).unwrap(), "no-store");

    let service = layer.cache_control(false).layer(service_fn(handler));
    let response = service.oneshot(request("/write/9", [])).await.unwrap();
    assert!(response.headers().contains_key(TOKEN_HEADER));
    assert_eq!(cache_control(&response), None);
}

#[tokio::test]
async fn routes_are_shown_on_request() {
    let reads = service_fn(async |request: Request<String>| {
        let session = session_of(&request);
        session.record_route(Route::Replica);
        session.record_route(Route::Replica);
        Ok::<_, Infallible>(Response::new(()))
    });
    let layer = SessionLayer::new(codec());
    let response = layer.layer(reads).oneshot(request("/", [])).await.unwrap();
    assert!(response.headers().is_empty());
    let service = layer.expose_route(true).layer(reads);
    let response = service.oneshot(request("/", [])).await.unwrap();
    assert_eq!(
        response.headers()["highwater-route"],
        "cache=0, replica=2, primary=0"
    );
}

#[tokio::test]
async fn errors_pass_unchanged() {
    #[derive(Debug, PartialEq)]
    struct Broken(u32);
    let service = SessionLayer::new(codec()).layer(service_fn(async |request: Request<String>| {
        session_of(&request).add_written(&mark(9));
        Err::<Response<()>, _>(Broken(3))
    }));
    assert_eq!(service.oneshot(request("/", [])).await.unwrap_err(), Broken(3));
}

#[tokio::test]
async fn dropping_the_response_future_drops_the_handler_and_leaves_the_rest_whole() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    let session = Session::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = dropped.clone();
    let mut service = SessionLayer::new(codec()).layer(service_fn(move |request: Request<String>| {
        let flag = Flag(flag.clone());
        async move {
            let _flag = flag;
            if request.uri().path() == "/hang" {
                session_of(&request).add_written(&mark(9));
                pending::<()>().await;
            }
            handler(request).await
        }
    }));
    let mut hanging = request("/hang", []);
    hanging.extensions_mut().insert(session.clone());
    let mut response = Box::pin(service.ready().await.unwrap().call(hanging));
    assert!(
        response
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert!(!dropped.load(SeqCst));
    drop(response);
    assert!(dropped.load(SeqCst));
    assert_eq!(session.marks(), marks(&[mark(9)]));

    let response = service
        .ready()
        .await
        .unwrap()
        .call(request("/write/3", []))
        .await
        .unwrap();
    assert_eq!(*response.body().inner(), Marks::new());
    assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(3)])));
}

/// Is ready after one poll, may be called once per readiness, and answers with a future that can't move.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: u32,
}

struct Pinned {
    session: Session,
    _pin: PhantomPinned,
}

impl Future for Pinned {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.session.add_written(&mark(9));
        Poll::Ready(Ok(Response::new(())))
    }
}

impl Service<Request<String>> for Strict {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pinned;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Pinned {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been ready"
        );
        self.calls += 1;
        Pinned {
            session: session_of(&request),
            _pin: PhantomPinned,
        }
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let mut service = SessionLayer::new(codec())
        .on_bad_token(Refuse)
        .layer(Strict::default());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let refused = request("/", [HeaderValue::from_static("made-up")]);
    let response = pin!(service.call(refused)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(service.inner().calls, 0);

    for calls in 1..=3 {
        assert!(service.poll_ready(&mut cx).is_ready());
        let response = pin!(service.call(request("/", []))).await.unwrap();
        assert_eq!(sent_back(&response, &codec()), Some(marks(&[mark(9)])));
        assert_eq!(service.inner().calls, calls);
    }
}

#[test]
fn the_service_and_its_future_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let mut service = send(SessionLayer::new(codec()).layer(service_fn(handler)));
    drop(send(service.call(request("/", []))));
}

/// A handler whose reads meet what the path says.
async fn meets(request: Request<String>) -> Result<Response<()>, Infallible> {
    use highwater_core::{Ancestor, Consistency, Edges, History, Progress, Role};
    let session = session_of(&request);
    let required = session.requirement(&Scope::default(), Consistency::ReadYourWrites);
    let ancestor = Ancestor {
        history: history(),
        fork: 5,
    };
    let progress = Progress {
        role: Role::Primary,
        history: History::from_bytes([9; 20]),
        ancestor: (request.uri().path() == "/lost").then_some(ancestor),
        applied: 100,
        link_up: true,
        read_only: true,
    };
    if request.uri().path() != "/intact" {
        session.record_discontinuity(&Scope::default(), &required, &progress, &Edges::default());
    }
    Ok(Response::new(()))
}

#[tokio::test]
async fn continuity_is_told_when_asked_for_and_only_when_it_is_broken() {
    for expose in [false, true] {
        let service = SessionLayer::new(codec())
            .expose_continuity(expose)
            .layer(service_fn(meets));
        for (path, told) in [
            ("/intact", None),
            ("/lost", Some("possibly_lost")),
            ("/unknown", Some("unknown_history")),
        ] {
            let response = service
                .clone()
                .oneshot(request(path, [token(&[mark(9)])]))
                .await
                .unwrap();
            let header = response.headers().get(highwater_http::CONTINUITY_HEADER);
            let header = header.map(|value| value.to_str().unwrap());
            assert_eq!(header, told.filter(|_| expose), "{path} {expose}");
        }
    }
}
