//! Carriers: whatever a request's headers say, the handler's session depends on all that the good tokens say and is
//! in doubt about a bad one, and the response's token says what the session then depends on.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use highwater_core::{Marks, Session, SigningKey, TokenCodec};
use highwater_http::{ERROR_HEADER, MAX_TOKENS, Refuse, SessionLayer, TOKEN_HEADER, TokenCookie};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::token;

/// The cookie's usual name.
const NAME: &str = "highwater-token";

/// The first byte says how the service is set up and what its handler does; each line of the rest is a header's
/// value, or makes one: after `@` the bytes of an unsigned token, after `!` the steps of a good one. In cookies, what is
/// not made is noise around the tokens.
///
/// # Panics
///
/// When a property does not hold.
pub fn check(input: &[u8]) {
    let Some((setup, rest)) = input.split_first() else {
        return;
    };
    let has = |bit: u8| setup & (1 << bit) != 0;
    let codec = if has(0) {
        TokenCodec::unsigned()
    } else {
        TokenCodec::signed(SigningKey::new("a key that nobody has").unwrap())
    };
    let codec = codec.max_age(Duration::from_secs(u64::MAX));
    let before = unix_seconds();
    let in_cookies = has(4);
    let mut request = Request::new(());
    let mut values = Vec::new();
    for line in rest.split(|byte| *byte == b'\n') {
        let token = match line.split_first() {
            Some((b'@', bytes)) => URL_SAFE_NO_PAD.encode(bytes),
            Some((b'!', steps)) => codec.encode(&token::marks(steps), before),
            _ => {
                let Ok(value) = HeaderValue::from_bytes(line) else {
                    continue;
                };
                if !in_cookies {
                    request.headers_mut().append(TOKEN_HEADER, value.clone());
                    values.push(value);
                } else if !line.windows(NAME.len()).any(|part| part == NAME.as_bytes()) {
                    request.headers_mut().append(COOKIE, value);
                }
                continue;
            }
        };
        let name = if in_cookies { COOKIE } else { TOKEN_HEADER };
        let text = if in_cookies {
            format!("a=b; {NAME}={token}; c")
        } else {
            token.clone()
        };
        request
            .headers_mut()
            .append(name, HeaderValue::try_from(text).unwrap());
        values.push(HeaderValue::try_from(token).unwrap());
    }
    let (mut expected, bad) = expectation(&values, &codec, before);
    if has(1) {
        // An outer layer's session has a dependence of its own.
        let outer = token::marks(&[2, 3, 5, 0]);
        request.extensions_mut().insert(Session::resume(outer.clone()));
        let said = std::mem::replace(&mut expected, outer);
        expected.merge(&said);
    }
    let writes = has(2).then(|| token::marks(&[2, 7, 9, 1]));
    let handler = Handler {
        writes: writes.clone(),
    };

    let layer = SessionLayer::new(codec.clone());
    let layer = if in_cookies {
        layer.cookie(TokenCookie::new())
    } else {
        layer
    };
    let (response, counted) = if has(3) {
        let layer = layer.on_bad_token(Refuse);
        let response = answer(&mut layer.layer(handler), request);
        (response, layer.bad_tokens().total())
    } else {
        let response = answer(&mut layer.layer(handler), request);
        (response, layer.bad_tokens().total())
    };
    if unix_seconds() != before && bad != usize::try_from(counted).unwrap() {
        // A token of the next minute became one of this minute meanwhile.
        return;
    }
    assert_eq!(u64::try_from(bad).unwrap(), counted);
    let refused = has(3) && bad > 0;
    assert_eq!(response.headers().contains_key(ERROR_HEADER), refused);
    assert_eq!(response.status() == StatusCode::BAD_REQUEST, refused);
    let mut after = expected.clone();
    if !refused {
        let seen = response.extensions().get::<Seen>().unwrap();
        assert_eq!(seen.0, expected);
        after.merge(&writes.unwrap_or_default());
    }
    match response.headers().get(TOKEN_HEADER) {
        Some(token) => {
            let said = codec.decode(token.as_bytes(), unix_seconds()).unwrap();
            assert!(
                token::alike(&said, &after) || said == Marks::in_doubt(),
                "{said:?} is not {after:?}"
            );
            assert_eq!(response.headers()[CACHE_CONTROL], "private");
        }
        // Neither of two tokens says what the other does: who sent them is to be sent both in one.
        None => assert!(!refused && after == expected && values.len() <= 1),
    }
}

/// What the values say together, and how many of them are bad.
fn expectation(values: &[HeaderValue], codec: &TokenCodec, now: u64) -> (Marks, usize) {
    let mut marks = Marks::new();
    let mut bad = 0;
    for value in values.iter().take(MAX_TOKENS) {
        match codec.decode(value.as_bytes(), now) {
            Ok(said) => drop(marks.merge(&said)),
            Err(_) => {
                bad += 1;
                marks.merge(&Marks::in_doubt());
            }
        }
    }
    if values.len() > MAX_TOKENS {
        bad += 1;
        marks.merge(&Marks::in_doubt());
    }
    (marks, bad)
}

/// What the handler's session depended on when it was called.
#[derive(Clone)]
struct Seen(Marks);

struct Handler {
    writes: Option<Marks>,
}

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let session = request.extensions().get::<Session>().unwrap();
        let mut response = Response::new(());
        response.extensions_mut().insert(Seen(session.marks()));
        if let Some(writes) = &self.writes {
            session.merge(writes);
        }
        ready(Ok(response))
    }
}

fn answer<S, B>(service: &mut S, request: Request<()>) -> Response<()>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response.map(|_| ()),
        Poll::Pending => panic!("the handler is ready at once"),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
