//! What a request's header makes of its session.

use std::time::Duration;

use highwater_core::{MAX_TOKEN_LEN, Marks, Scope, Session, TokenErrorKind};
use highwater_http::{BadToken, BadTokens, MAX_TOKENS, Refuse, SessionLayer, TOKEN_HEADER};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

mod common;
use common::*;

/// The marks that a session has for a request with these tokens, and the layer's count.
async fn arrive(tokens: impl IntoIterator<Item = HeaderValue>) -> (Marks, BadTokens) {
    let layer = SessionLayer::new(codec());
    let service = layer.layer(service_fn(handler));
    let request = request("/", tokens);
    let several = request.headers().get_all(TOKEN_HEADER).iter().count() > 1;
    let response = service.oneshot(request).await.unwrap();
    // Nothing has moved since. But neither of two tokens says what the other does, so a client that keeps only
    // the last one has to be sent what they say together.
    let sent = sent_back(&response, &codec());
    assert_eq!(sent, several.then(|| response.body().inner().clone()));
    (response.into_body().into_inner(), layer.bad_tokens())
}

fn forged() -> HeaderValue {
    token_at(&codec_of("another key than that of the layer"), &[mark(1)], now())
}

#[tokio::test]
async fn no_header_is_a_fresh_session() {
    let (marks, bad) = arrive([]).await;
    assert_eq!(marks, Marks::new());
    assert_eq!(bad, BadTokens::default());
}

#[tokio::test]
async fn a_token_is_resumed() {
    let (arrived, bad) = arrive([token(&[mark(7)])]).await;
    assert_eq!(arrived, marks(&[mark(7)]));
    assert_eq!(bad.total(), 0);
}

#[tokio::test]
async fn several_tokens_are_merged() {
    let tokens = [
        token(&[mark(7)]),
        token(&[mark(9), mark_in("carts", 3)]),
        token(&[mark(8)]),
    ];
    let (arrived, bad) = arrive(tokens).await;
    assert_eq!(arrived, marks(&[mark(9), mark_in("carts", 3)]));
    assert_eq!(bad.total(), 0);
}

#[tokio::test]
async fn as_many_tokens_as_are_looked_at_are_no_doubt() {
    let (arrived, bad) = arrive((1..=MAX_TOKENS as u64).map(|offset| token(&[mark(offset)]))).await;
    assert_eq!(arrived, marks(&[mark(MAX_TOKENS as u64)]));
    assert_eq!(bad.total(), 0);
}

#[tokio::test]
async fn commas_do_not_separate_tokens() {
    let two = [token(&[mark(7)]), token(&[mark(9)])].map(|token| token.to_str().unwrap().to_owned());
    let (arrived, bad) = arrive([two.join(",").try_into().unwrap()]).await;
    assert_eq!(arrived, Marks::in_doubt());
    assert_eq!(bad.of(TokenErrorKind::Malformed), 1);
}

#[tokio::test]
async fn bad_tokens_are_doubt_and_counted_by_kind() {
    let cut_off = HeaderValue::from_bytes(&token(&[mark(1)]).as_bytes()[..40]).unwrap();
    let oversized = HeaderValue::try_from("A".repeat(MAX_TOKEN_LEN + 1)).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let from_the_future = token_at(&codec(), &[mark(1)], now() + 3600);
    let mut tampered = token(&[mark(1)]).as_bytes().to_vec();
    let last = tampered.len() - 2;
    tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
    for (token, kind) in [
        (HeaderValue::from_static(""), TokenErrorKind::Malformed),
        (
            HeaderValue::from_static("not base64url!"),
            TokenErrorKind::Malformed,
        ),
        (
            HeaderValue::from_bytes(b"\xff\xfe").unwrap(),
            TokenErrorKind::Malformed,
        ),
        (cut_off, TokenErrorKind::BadSignature),
        (
            HeaderValue::from_bytes(&tampered).unwrap(),
            TokenErrorKind::BadSignature,
        ),
        (oversized, TokenErrorKind::TooLong),
        (token_issued_ago(2 * day), TokenErrorKind::Expired),
        (from_the_future, TokenErrorKind::FromTheFuture),
        (forged(), TokenErrorKind::UnknownKey),
    ] {
        let (arrived, bad) = arrive([token]).await;
        assert_eq!(arrived, Marks::in_doubt(), "{kind:?}");
        assert_eq!((bad.of(kind), bad.total()), (1, 1), "{kind:?}: {bad:?}");
        assert_eq!(bad.iter().collect::<Vec<_>>(), [(kind.as_str(), 1)]);
    }
}

#[tokio::test]
async fn a_bad_token_does_not_spoil_what_a_good_one_says() {
    let (arrived, bad) = arrive([token(&[mark(7)]), forged(), token(&[mark(9)])]).await;
    assert!(arrived.is_in_doubt(&Scope::default()));
    assert_eq!(arrived.written().collect::<Vec<_>>(), [mark(9)]);
    assert_eq!(bad.total(), 1);
}

#[tokio::test]
async fn ten_thousand_duplicates_cost_no_more_than_the_first_few() {
    let (arrived, bad) = arrive(std::iter::repeat_n(forged(), 10_000)).await;
    assert_eq!(arrived, Marks::in_doubt());
    // Each decoding of one of these would be counted.
    assert_eq!(bad.of(TokenErrorKind::UnknownKey), MAX_TOKENS as u64);
    assert_eq!(bad.too_many(), 1);
    assert_eq!(bad.total(), MAX_TOKENS as u64 + 1);
}

#[tokio::test]
async fn what_good_tokens_beyond_the_bound_say_is_doubt() {
    let tokens = (1..=MAX_TOKENS as u64 + 1).map(|offset| token(&[mark(offset)]));
    let (arrived, bad) = arrive(tokens).await;
    assert!(arrived.is_in_doubt(&Scope::default()));
    assert_eq!(arrived.written().collect::<Vec<_>>(), [mark(MAX_TOKENS as u64)]);
    assert_eq!((bad.too_many(), bad.total()), (1, 1));
}

#[tokio::test]
async fn counters_are_shared_by_clones_and_services() {
    let layer = SessionLayer::new(codec());
    let one = layer.clone().layer(service_fn(handler));
    let other = layer.clone().expose_route(true).layer(service_fn(handler));
    one.oneshot(request("/", [forged()])).await.unwrap();
    other.oneshot(request("/", [forged()])).await.unwrap();
    assert_eq!(layer.bad_tokens().of(TokenErrorKind::UnknownKey), 2);
}

#[tokio::test]
async fn refused_requests_do_not_reach_the_inner_service() {
    let layer = SessionLayer::new(codec()).on_bad_token(Refuse);
    let service = layer.layer(service_fn(async |request: Request<String>| {
        assert!(
            !request.headers().contains_key(TOKEN_HEADER),
            "refused ones stay outside"
        );
        handler(request).await
    }));
    let bad = request(
        "/",
        [
            token(&[mark(7)]),
            token_issued_ago(Duration::from_secs(1_000_000)),
            forged(),
        ],
    );
    let response = service.clone().oneshot(bad).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["highwater-error"], "expired");
    let reason = response.extensions().get::<BadToken>().unwrap();
    assert!(matches!(reason, BadToken::Unusable(error) if error.kind() == TokenErrorKind::Expired));
    // Whoever keeps this one is served next time, and has not lost what the good token said.
    let kept = sent_back(&response, &codec()).unwrap();
    assert!(kept.is_in_doubt(&Scope::default()));
    assert_eq!(kept.written().collect::<Vec<_>>(), [mark(7)]);
    assert_eq!(response.headers()["cache-control"], "private");
    assert_eq!(*response.body().inner(), Marks::default());

    let response = service.oneshot(request("/", [])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(layer.bad_tokens().total(), 2);
}

#[tokio::test]
async fn too_many_tokens_are_refused_too() {
    let service = SessionLayer::new(codec())
        .on_bad_token(Refuse)
        .layer(service_fn(handler));
    let tokens = std::iter::repeat_n(token(&[mark(1)]), MAX_TOKENS + 1);
    let response = service.oneshot(request("/", tokens)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["highwater-error"], "too_many");
}

#[tokio::test]
async fn good_tokens_pass_a_layer_that_refuses() {
    let service = SessionLayer::new(codec())
        .on_bad_token(Refuse)
        .layer(service_fn(handler));
    let response = service.oneshot(request("/", [token(&[mark(7)])])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*response.body().inner(), marks(&[mark(7)]));
}

#[tokio::test]
async fn a_body_that_has_no_default_needs_none_unless_the_layer_refuses() {
    #[derive(Debug)]
    struct Body(&'static str);
    let inner = service_fn(async |_: Request<String>| Ok::<_, &str>(Response::new(Body("served"))));

    let doubting = SessionLayer::new(codec()).layer(inner);
    let response = doubting.oneshot(request("/", [forged()])).await.unwrap();
    assert_eq!(response.body().inner().0, "served");

    let layer = SessionLayer::new(codec()).on_bad_token(|error: BadToken| {
        assert_eq!(error.as_str(), "unknown_key");
        Response::new(Body("refused"))
    });
    let response = layer
        .layer(inner)
        .oneshot(request("/", [forged()]))
        .await
        .unwrap();
    assert_eq!(response.body().inner().0, "refused");
    assert_eq!(response.headers()["highwater-error"], "unknown_key");
}

#[tokio::test]
async fn a_session_of_an_outer_layer_is_used_and_merged_into() {
    let outer = Session::new();
    outer.add_written(&mark_in("orders", 5));
    let service = SessionLayer::new(codec()).layer(service_fn(handler));
    let mut request = request("/write/9", [token(&[mark(7)])]);
    request.extensions_mut().insert(outer.clone());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(*response.body().inner(), marks(&[mark(7), mark_in("orders", 5)]));
    let after = marks(&[mark(9), mark_in("orders", 5)]);
    assert_eq!(outer.marks(), after);
    assert_eq!(sent_back(&response, &codec()), Some(after));
}
