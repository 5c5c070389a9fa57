//! What the tests share: tokens, and a handler that moves its session as the request's path says.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use highwater_core::{History, Mark, Marks, Offset, Scope, Session, SigningKey, TokenCodec};
use highwater_http::TOKEN_HEADER;
use http::{HeaderValue, Request, Response, StatusCode};

pub(crate) const KEY: &str = "the key that most of the tests use";

pub(crate) fn codec_of(key: &str) -> TokenCodec {
    TokenCodec::signed(SigningKey::new(key).unwrap())
}

pub(crate) fn codec() -> TokenCodec {
    codec_of(KEY)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn history() -> History {
    "0123456789abcdef0123456789abcdef01234567".parse().unwrap()
}

pub(crate) fn mark(offset: u64) -> Mark {
    mark_in("default", offset)
}

pub(crate) fn mark_in(scope: &str, offset: u64) -> Mark {
    Mark {
        scope: Scope::new(scope).unwrap(),
        history: history(),
        offset: Offset::at(offset),
    }
}

pub(crate) fn marks(written: &[Mark]) -> Marks {
    let mut marks = Marks::new();
    for mark in written {
        marks.add_written(mark);
    }
    marks
}

/// A token of the codec that the tests share.
pub(crate) fn token(written: &[Mark]) -> HeaderValue {
    token_at(&codec(), written, now())
}

pub(crate) fn token_at(codec: &TokenCodec, written: &[Mark], issued: u64) -> HeaderValue {
    codec.encode(&marks(written), issued).try_into().unwrap()
}

pub(crate) fn token_issued_ago(ago: Duration) -> HeaderValue {
    token_at(&codec(), &[mark(1)], now() - ago.as_secs())
}

pub(crate) fn request(path: &str, tokens: impl IntoIterator<Item = HeaderValue>) -> Request<String> {
    let mut request = Request::get(path).body(String::new()).unwrap();
    for token in tokens {
        request.headers_mut().append(TOKEN_HEADER, token);
    }
    request
}

/// The marks in the one token of a response, if it has one.
pub(crate) fn sent_back<R>(response: &Response<R>, codec: &TokenCodec) -> Option<Marks> {
    let tokens: Vec<_> = response.headers().get_all(TOKEN_HEADER).iter().collect();
    assert!(tokens.len() <= 1, "{tokens:?}");
    tokens
        .first()
        .map(|token| codec.decode(token.as_bytes(), now()).unwrap())
}

pub(crate) fn session_of<B>(request: &Request<B>) -> Session {
    request.extensions().get::<Session>().unwrap().clone()
}

/// A response without anything in its body but the marks with which the request arrived.
///
/// `/write/N` adds the mark of a write at N, `/read/N` one of a read, `/status/S/write/N` fails with the status S
/// after the write; any other path touches nothing.
#[allow(clippy::unused_async, reason = "a handler is")]
pub(crate) async fn handler(request: Request<String>) -> Result<Response<Marks>, Infallible> {
    let session = session_of(&request);
    let mut response = Response::new(session.marks());
    let path: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let path = match path.as_slice() {
        ["status", status, rest @ ..] => {
            *response.status_mut() = status.parse::<StatusCode>().unwrap();
            rest
        }
        rest => rest,
    };
    match path {
        ["write", offset] => session.add_written(&mark(offset.parse().unwrap())),
        ["read", offset] => session.add_read(&mark(offset.parse().unwrap())),
        _ => {}
    }
    Ok(response)
}

/// A body in pieces, each of which is made when it is asked for, after a write at its offset.
pub(crate) type Pieces = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Infallible>;

/// The session writes at each of these offsets while the body is under way.
pub(crate) fn writing_body(session: Session, offsets: impl IntoIterator<Item = u64>) -> Pieces {
    let offsets: Vec<_> = offsets.into_iter().collect();
    let pieces = tokio_stream::StreamExt::map(tokio_stream::iter(offsets), move |offset| {
        session.add_written(&mark(offset));
        Ok(http_body::Frame::data(bytes::Bytes::from(format!("{offset}\n"))))
    });
    http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(pieces))
}

#[allow(clippy::unused_async, reason = "a handler is")]
/// Writes at 1 before the response, and at these while its body is under way.
pub(crate) async fn streaming<B>(
    request: Request<B>,
    offsets: std::ops::RangeInclusive<u64>,
) -> Result<Response<Pieces>, Infallible> {
    let session = session_of(&request);
    session.add_written(&mark(1));
    Ok(Response::new(writing_body(session, offsets)))
}
