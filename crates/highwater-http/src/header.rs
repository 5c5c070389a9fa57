//! The headers, and how tokens are read from them and written into them.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_core::{Marks, TokenCodec};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::BadToken;

/// The header that carries a session's token, in requests and in responses.
///
/// Each value is one token; commas do not separate tokens. A request with several values, up to
/// [`MAX_TOKENS`], depends on all of them.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("highwater-token");

/// The response header that says where the reads of a request came from, with
/// [`SessionLayer::expose_route`](crate::SessionLayer::expose_route): `cache=0, replica=2, primary=0`.
pub const ROUTE_HEADER: HeaderName = HeaderName::from_static("highwater-route");

/// The response header that says that a mark of the session could not be honoured, with
/// [`SessionLayer::expose_continuity`](crate::SessionLayer::expose_continuity): `possibly_lost` when a failover may
/// have lost a write that the user depends on, `unknown_history` when the primary does not know what they depend on.
/// Never sent while all is well.
pub const CONTINUITY_HEADER: HeaderName = HeaderName::from_static("highwater-continuity");

/// The response header that says why a request's token was refused, as [`BadToken::as_str`] does.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("highwater-error");

/// How many values of [`TOKEN_HEADER`] are looked at. What a further one says is doubt.
pub const MAX_TOKENS: usize = 16;

/// Merges the tokens of a request; what can't be used becomes doubt, and `bad` hears of it.
pub(crate) fn read_tokens(headers: &HeaderMap, codec: &TokenCodec, mut bad: impl FnMut(BadToken)) -> Marks {
    let mut marks = Marks::new();
    if !headers.contains_key(TOKEN_HEADER) {
        return marks;
    }
    let mut tokens = headers.get_all(TOKEN_HEADER).iter();
    let now = unix_seconds();
    let mut doubt = |marks: &mut Marks, reason| {
        marks.merge(&Marks::in_doubt());
        bad(reason);
    };
    for token in tokens.by_ref().take(MAX_TOKENS) {
        match codec.decode(token.as_bytes(), now) {
            Ok(decoded) => drop(marks.merge(&decoded)),
            Err(error) => doubt(&mut marks, BadToken::Unusable(error)),
        }
    }
    if tokens.next().is_some() {
        doubt(&mut marks, BadToken::TooMany);
    }
    marks
}

/// Replaces any token in `headers` by one for `marks`.
pub(crate) fn write_token(headers: &mut HeaderMap, codec: &TokenCodec, marks: &Marks) {
    let mut token = visible(codec.encode(marks, unix_seconds()));
    // Kept out of logs, and out of HPACK's tables, where one that is sent once has no place.
    token.set_sensitive(true);
    headers.insert(TOKEN_HEADER, token);
}

/// The value of a header, from text without control characters.
#[expect(
    clippy::expect_used,
    reason = "tokens are base64url, routes are names and numbers"
)]
pub(crate) fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("only visible ASCII and spaces")
}

/// A clock before 1970 makes every token one from the future, which is doubt.
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
