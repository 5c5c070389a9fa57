//! A browser's session: cookies, and what its parallel requests learn.
#![cfg(all(feature = "cookie", feature = "store"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use highwater_core::{MAX_TOKEN_LEN, Mark, Marks, Offset, Scope, SessionId, Token, TokenCodec};
use highwater_http::{
    Kept, MemoryStore, Revision, SameSite, SessionLayer, SessionStore, StoreError, TOKEN_HEADER, TokenCookie,
};
use http::{HeaderValue, Request, Response, header::SET_COOKIE};
use http_body_util::BodyExt;
use tower::{
    Layer, Service, ServiceExt, service_fn,
    util::{BoxCloneService, ServiceFn},
};

mod common;
use common::*;

/// The bodies are empty; what the session knew is in the extensions.
async fn handle(request: Request<String>) -> Result<Response<Pieces>, Infallible> {
    let session = session_of(&request);
    if request.uri().path() == "/settle" {
        let level = highwater_core::Consistency::ReadYourWrites;
        let requirement = session.requirement(&Scope::default(), level);
        session.settle_doubt(&requirement, &mark(50));
        session.settle_overdue(&requirement, &mark(50));
    }
    let mut response = match request.uri().path().strip_prefix("/stream/") {
        Some(offsets) => {
            let offsets: Vec<u64> = offsets.split(',').map(|offset| offset.parse().unwrap()).collect();
            Response::new(writing_body(session.clone(), offsets))
        }
        None => handler(request).await?.map(|_| writing_body(session.clone(), [])),
    };
    response.extensions_mut().insert(session);
    Ok(response)
}

type Shop = BoxCloneService<Request<String>, Response<Pieces>, Infallible>;

fn shop<P, T, S, R>(layer: &SessionLayer<P, T>) -> Shop
where
    SessionLayer<P, T>: Layer<Handler, Service = S>,
    S: Service<Request<String>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    R: http_body::Body<Data = bytes::Bytes, Error = Infallible> + Send + 'static,
{
    let handler: Handler = service_fn(|request| Box::pin(handle(request)));
    layer
        .layer(handler)
        .map_response(|response: Response<R>| response.map(BodyExt::boxed_unsync))
        .boxed_clone()
}

type Handled = Pin<Box<dyn Future<Output = Result<Response<Pieces>, Infallible>> + Send>>;
type Handler = ServiceFn<fn(Request<String>) -> Handled>;

fn service(store: impl SessionStore) -> Shop {
    shop(
        &SessionLayer::new(codec())
            .cookie(TokenCookie::new())
            .header(false)
            .store(store),
    )
}

/// The value of the token's cookie, if the response sets it.
fn cookie(response: &Response<impl Sized>) -> Option<String> {
    let set = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    let (pair, _) = set.split_once("; ").unwrap();
    Some(pair.strip_prefix("highwater-token=").unwrap().to_owned())
}

fn decoded(cookie: &str) -> Token {
    codec().decode_token(cookie.as_bytes(), now()).unwrap()
}

fn asking(path: &str, cookie: Option<&str>) -> Request<String> {
    let mut request = request(path, []);
    if let Some(cookie) = cookie {
        let value = format!("theme=dark; highwater-token={cookie}; a=\"b\"");
        request.headers_mut().insert("cookie", value.try_into().unwrap());
    }
    request
}

async fn ask(service: &Shop, path: &str, cookie: Option<&str>) -> Response<Pieces> {
    service.clone().oneshot(asking(path, cookie)).await.unwrap()
}

/// What the session knew in the end.
fn known(response: &Response<impl Sized>) -> Marks {
    response
        .extensions()
        .get::<highwater_core::Session>()
        .unwrap()
        .marks()
}

#[tokio::test]
async fn a_cookie_is_a_session_of_its_own_for_who_comes_without() {
    let service = service(MemoryStore::default());
    let [one, other] = [ask(&service, "/", None).await, ask(&service, "/", None).await];
    let [one, other] = [&one, &other].map(|response| decoded(&cookie(response).unwrap()));
    assert!(one.id.is_some() && one.id != other.id);
    assert_eq!(one.marks, Marks::new());
}

#[tokio::test]
async fn a_cookie_has_the_attributes_that_were_asked_for() {
    let set = async |cookie: TokenCookie| {
        let layer = SessionLayer::new(codec()).cookie(cookie);
        let service = layer.layer(service_fn(handler));
        let response = service.oneshot(request("/write/9", [])).await.unwrap();
        assert!(
            response.headers().contains_key(TOKEN_HEADER),
            "beside the header, unless it is switched off"
        );
        assert_eq!(response.headers()["cache-control"], "private");
        let value = &response.headers()[SET_COOKIE];
        assert!(value.is_sensitive());
        let text = value.to_str().unwrap();
        let (pair, rest) = text.split_once("; ").unwrap();
        let (name, token) = pair.split_once('=').unwrap();
        assert_eq!(decoded(token).marks, marks(&[mark(9)]));
        format!("{name}; {rest}")
    };
    assert_eq!(
        set(TokenCookie::new()).await,
        "highwater-token; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400"
    );
    let cookie = TokenCookie::new()
        .name("marks")
        .unwrap()
        .path("/shop")
        .unwrap()
        .max_age(None)
        .same_site(SameSite::Strict)
        .secure(false);
    assert_eq!(set(cookie).await, "marks; HttpOnly; SameSite=Strict; Path=/shop");
}

#[test]
fn what_is_no_part_of_a_cookie_is_refused() {
    for name in ["", "a b", "a=b", "a;b", "ä", "a\n"] {
        assert!(TokenCookie::new().name(name).is_err(), "{name:?}");
    }
    for path in ["", "shop", "/a;b", "/ä", "/\r\n"] {
        let error = TokenCookie::new().path(path).unwrap_err();
        assert!(error.to_string().contains("path"), "{path:?}");
    }
}

#[tokio::test]
async fn cookies_of_others_do_no_harm() {
    let layer = SessionLayer::new(codec()).cookie(TokenCookie::new());
    let service = layer.layer(service_fn(handler));
    let token = token(&[mark(7)]);
    let token = token.to_str().unwrap();
    for (cookies, good) in [
        (format!("highwater-token={token}").into_bytes(), true),
        (
            format!("=; ;;x;a=\"; highwater-token={token} ; b").into_bytes(),
            true,
        ),
        ([b"a=\xff\xfe; highwater-token=", token.as_bytes()].concat(), true),
        (
            format!("Highwater-Token={token}; xhighwater-token={token}").into_bytes(),
            false,
        ),
    ] {
        let mut request = request("/", []);
        let value = HeaderValue::from_bytes(&cookies).unwrap();
        request.headers_mut().insert("cookie", value);
        let response = service.clone().oneshot(request).await.unwrap();
        let expected = if good { marks(&[mark(7)]) } else { Marks::new() };
        assert_eq!(
            *response.body().inner(),
            expected,
            "{:?}",
            String::from_utf8_lossy(&cookies)
        );
    }
    assert_eq!(layer.bad_tokens().total(), 0);
}

#[tokio::test]
async fn a_flood_of_cookies_is_bounded_like_headers() {
    let layer = SessionLayer::new(codec()).cookie(TokenCookie::new());
    let service = layer.layer(service_fn(handler));
    let mut request = request("/", []);
    let flood = "highwater-token=x; ".repeat(10_000);
    request.headers_mut().insert("cookie", flood.try_into().unwrap());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(*response.body().inner(), Marks::in_doubt());
    assert_eq!(layer.bad_tokens().total(), highwater_http::MAX_TOKENS as u64 + 1);
    assert_eq!(layer.bad_tokens().too_many(), 1);
}

#[tokio::test]
async fn what_does_not_fit_into_a_cookie_is_doubt() {
    let layer = SessionLayer::new(codec()).cookie(TokenCookie::new());
    let service = layer.layer(service_fn(async |request: Request<String>| {
        let mut marks = Marks::in_doubt();
        for number in 0..17 {
            let mark = mark_in(&format!("{number:0>64}"), 1 << 60);
            marks.settle(&mark);
            marks.add_read(&mark);
        }
        session_of(&request).merge(&marks);
        Ok::<_, Infallible>(Response::new(()))
    }));
    let response = service.oneshot(request("/", [])).await.unwrap();
    assert!(response.headers()[SET_COOKIE].len() < 4096);
    let sent = sent_back(&response, &codec()).unwrap();
    assert_eq!(sent.written().count(), 17, "the header has room");
    assert_eq!(decoded(&cookie(&response).unwrap()).marks, Marks::in_doubt());
}

/// Of two requests side by side, the response of the one that has written less is the last to come.
#[tokio::test]
async fn parallel_requests_lose_nothing_by_the_order_of_their_responses() {
    let service = service(MemoryStore::default());
    let page = cookie(&ask(&service, "/", None).await).unwrap();
    let mut responses = Vec::new();
    for offset in [30, 10, 20] {
        responses.push(ask(&service, &format!("/write/{offset}"), Some(&page)).await);
    }
    for response in &responses {
        // Whichever cookie the browser has kept.
        let kept = cookie(response).unwrap();
        let response = ask(&service, "/", Some(&kept)).await;
        assert_eq!(known(&response), marks(&[mark(30)]));
        // And a token that lags behind is brought up to date.
        let behind = decoded(&kept).marks != marks(&[mark(30)]);
        assert_eq!(cookie(&response).is_some(), behind);
    }
    // The first cookie of all, too.
    assert_eq!(known(&ask(&service, "/", Some(&page)).await), marks(&[mark(30)]));
}

#[tokio::test]
async fn the_store_knows_before_each_piece_of_the_body_leaves() {
    let store = MemoryStore::default();
    let service = service(store.clone());
    let page = cookie(&ask(&service, "/", None).await).unwrap();
    let mut streaming = ask(&service, "/stream/9", Some(&page)).await;
    assert_eq!(known(&ask(&service, "/", Some(&page)).await), Marks::new());
    let piece = streaming.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "9\n");
    assert_eq!(known(&ask(&service, "/", Some(&page)).await), marks(&[mark(9)]));
}

/// The store has merged what two requests had learnt; only one of them goes on.
#[tokio::test]
async fn a_request_that_saves_twice_keeps_what_others_have_saved_in_between() {
    let service = service(MemoryStore::default());
    let page = cookie(&ask(&service, "/", None).await).unwrap();
    let mut streaming = ask(&service, "/stream/9,10", Some(&page)).await;
    ask(&service, "/write/30", Some(&page)).await;
    for offset in [9, 10] {
        streaming.body_mut().frame().await.unwrap().unwrap();
        let known = known(&ask(&service, "/", Some(&page)).await);
        assert_eq!(known, marks(&[mark(30)]), "after the piece {offset}");
    }
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_in_doubt_until_that_is_settled() {
    let layer = SessionLayer::new(codec())
        .cookie(TokenCookie::new())
        .header(false);
    let before = service(MemoryStore::default());
    let page = cookie(&ask(&before, "/", None).await).unwrap();
    // A restart, or an eviction: what parallel requests had written may be lost.
    let layer = layer.store(MemoryStore::default());
    let after = shop(&layer);
    let response = ask(&after, "/", Some(&page)).await;
    assert!(known(&response).is_in_doubt(&Scope::default()));
    assert_eq!(layer.bad_tokens().named("forgotten"), 1);
    // It is the same session, and a second request has the doubt as well.
    let kept = cookie(&response).unwrap();
    assert_eq!(decoded(&kept).id, decoded(&page).id);
    let response = ask(&after, "/settle", Some(&page)).await;
    assert_eq!(layer.bad_tokens().named("forgotten"), 1);
    // Once it is settled, it stays settled.
    let kept = cookie(&response).unwrap();
    for token in [&kept, &page] {
        let response = ask(&after, "/", Some(token)).await;
        assert!(!known(&response).is_in_doubt(&Scope::default()));
        assert_eq!(known(&response).written().collect::<Vec<_>>(), [mark(50)]);
    }
}

#[tokio::test]
async fn a_doubt_that_is_settled_does_not_come_back_from_the_store() {
    let service = service(MemoryStore::default());
    let page = cookie(&ask(&service, "/", None).await).unwrap();
    let id = decoded(&page).id;
    let with_doubt = |since| {
        let marks = marks(&[Mark {
            offset: Offset::unknown_since(since),
            ..mark(0)
        }]);
        codec().encode_token(&Token { marks, id }, now(), MAX_TOKEN_LEN)
    };
    let response = ask(&service, "/", Some(&with_doubt(now() - 100))).await;
    assert!(known(&response).written().next().unwrap().offset.is_unknown());
    // The store has the doubt, so a token that does not has it again,
    let response = ask(&service, "/", Some(&page)).await;
    assert!(known(&response).written().next().unwrap().offset.is_unknown());
    // until a request has settled it.
    let response = ask(&service, "/settle", Some(&page)).await;
    assert_eq!(known(&response), marks(&[mark(50)]));
    let response = ask(&service, "/", Some(&page)).await;
    assert_eq!(known(&response), marks(&[mark(50)]));
}

#[tokio::test]
async fn an_expired_cookie_is_doubt_of_the_same_session() {
    let service = service(MemoryStore::default());
    let page = cookie(&ask(&service, "/write/9", None).await).unwrap();
    let day = 24 * 60 * 60;
    let old = codec().encode_token(&decoded(&page), now() - 2 * day, MAX_TOKEN_LEN);
    let response = ask(&service, "/", Some(&old)).await;
    assert!(known(&response).is_in_doubt(&Scope::default()));
    assert_eq!(known(&response).written().collect::<Vec<_>>(), [mark(9)]);
    assert_eq!(decoded(&cookie(&response).unwrap()).id, decoded(&page).id);
}

/// Notes which ids it is asked for, and can be broken.
#[derive(Clone, Debug, Default)]
struct Watched {
    inner: MemoryStore,
    asked: Arc<Mutex<Vec<SessionId>>>,
    broken: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl SessionStore for Watched {
    async fn load(&self, id: SessionId) -> Result<Option<Kept>, StoreError> {
        self.asked.lock().unwrap().push(id);
        if self.broken.load(SeqCst) {
            return Err("it is broken".into());
        }
        self.inner.load(id).await
    }

    async fn save(&self, id: SessionId, marks: Marks, seen: Option<Revision>) -> Result<Kept, StoreError> {
        self.asked.lock().unwrap().push(id);
        if self.broken.load(SeqCst) {
            return Err("it is broken".into());
        }
        self.inner.save(id, marks, seen).await
    }
}

#[tokio::test]
async fn a_store_is_never_asked_for_an_id_that_is_not_signed() {
    let store = Watched::default();
    let service = service(store.clone());
    let good = cookie(&ask(&service, "/write/9", None).await).unwrap();
    let id = decoded(&good).id;
    assert!(store.asked.lock().unwrap().iter().all(|asked| Some(*asked) == id));
    store.asked.lock().unwrap().clear();

    let other = codec_of("another key than that of the layer");
    let mut bytes = good.clone().into_bytes();
    let last = bytes.len() - 2;
    bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
    for forged in [
        other.encode_token(&decoded(&good), now(), MAX_TOKEN_LEN),
        TokenCodec::unsigned().encode_token(&decoded(&good), now(), MAX_TOKEN_LEN),
        String::from_utf8(bytes).unwrap(),
    ] {
        let response = ask(&service, "/", Some(&forged)).await;
        // It has a session, but a new one.
        assert_ne!(decoded(&cookie(&response).unwrap()).id, id);
        assert!(known(&response).is_in_doubt(&Scope::default()));
        assert_eq!(known(&response).written().count(), 0);
    }
    assert!(!store.asked.lock().unwrap().contains(&id.unwrap()));

    // With unsigned tokens there is no id to go by.
    store.asked.lock().unwrap().clear();
    let unsigned = SessionLayer::new(TokenCodec::unsigned()).cookie(TokenCookie::new());
    let unsigned = shop(&unsigned.store(store.clone()));
    let response = ask(&unsigned, "/write/9", None).await;
    let token = TokenCodec::unsigned()
        .decode_token(cookie(&response).unwrap().as_bytes(), now())
        .unwrap();
    assert_eq!(token, Token::from(marks(&[mark(9)])));
    ask(&unsigned, "/", Some(&cookie(&response).unwrap())).await;
    assert!(store.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_fails_is_doubt_and_no_failure() {
    let store = Watched::default();
    let layer = SessionLayer::new(codec())
        .cookie(TokenCookie::new())
        .store(store.clone());
    let service = shop(&layer);
    let page = cookie(&ask(&service, "/write/9", None).await).unwrap();
    store.broken.store(true, SeqCst);
    let response = ask(&service, "/write/11", Some(&page)).await;
    assert!(known(&response).is_in_doubt(&Scope::default()));
    assert_eq!(known(&response).written().collect::<Vec<_>>(), [mark(11)]);
    assert_eq!(layer.bad_tokens().named("store_failed"), 2, "to load and to save");
    // The token has it all the same.
    let kept = cookie(&response).unwrap();
    store.broken.store(false, SeqCst);
    let written: Vec<_> = known(&ask(&service, "/", Some(&kept)).await).written().collect();
    assert_eq!(written, [mark(11)]);
}

fn id(number: u8) -> SessionId {
    let mut bytes = [number; 16];
    (bytes[6], bytes[8]) = (0x70, 0x80);
    SessionId::from_bytes(bytes).unwrap()
}

#[tokio::test]
async fn memory_keeps_the_rules_of_a_store() {
    let store = MemoryStore::default();
    assert_eq!(store.load(id(1)).await.unwrap(), None);
    let doubt = Marks::in_doubt();
    let first = store.save(id(1), doubt.clone(), None).await.unwrap().revision;
    // In place of what was seen.
    let second = store.save(id(1), marks(&[mark(5)]), Some(first)).await.unwrap();
    assert_eq!(second.marks, marks(&[mark(5)]));
    assert_eq!(store.load(id(1)).await.unwrap().unwrap(), second);
    // Together with what was not.
    let third = store
        .save(id(1), marks(&[mark(3), mark_in("b", 1)]), Some(first))
        .await
        .unwrap();
    assert_eq!(third.marks, marks(&[mark(5), mark_in("b", 1)]));
    assert_eq!(store.load(id(1)).await.unwrap().unwrap(), third);
    // What was forgotten is doubt.
    store.save(id(2), marks(&[mark(7)]), Some(first)).await.unwrap();
    let kept = store.load(id(2)).await.unwrap().unwrap();
    assert!(kept.marks.is_in_doubt(&Scope::default()));
    assert_eq!(kept.marks.written().collect::<Vec<_>>(), [mark(7)]);
}

#[tokio::test]
async fn memory_is_bounded_in_number_and_time() {
    let store = MemoryStore::new(10).time_to_live(Duration::ZERO);
    store.save(id(1), Marks::new(), None).await.unwrap();
    assert_eq!(store.load(id(1)).await.unwrap(), None);

    let store = MemoryStore::new(10);
    for number in 0..200 {
        store.save(id(number), Marks::new(), None).await.unwrap();
    }
    assert_eq!(store.sessions(), 10);
    let mut kept = 0;
    for number in 0..200 {
        kept += usize::from(store.load(id(number)).await.unwrap().is_some());
    }
    assert!(kept <= 10, "{kept}");
}
