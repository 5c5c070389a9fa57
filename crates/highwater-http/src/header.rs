//! The headers, and how tokens are read from them and written into them.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_core::{MAX_TOKEN_LEN, Marks, SessionId, Token, TokenCodec};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{TE, TRAILER, VARY},
};

use crate::BadToken;

/// The header that carries a session's token, in requests, in responses, and in the trailers of responses whose
/// body went on writing. gRPC calls it metadata.
///
/// Each value is one token; commas do not separate tokens. A request with several values, up to
/// [`MAX_TOKENS`], depends on all of them.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("highwater-token");

/// The request header that asks for a consistency level, where the service allows it with
/// [`SessionLayer::allow_level`](crate::SessionLayer::allow_level): `monotonic`, `bounded-staleness:250ms`.
pub const LEVEL_HEADER: HeaderName = HeaderName::from_static("highwater-level");

/// The response header that says where the reads of a request came from, with
/// [`SessionLayer::expose_route`](crate::SessionLayer::expose_route): `cache=0, replica=2, primary=0`.
pub const ROUTE_HEADER: HeaderName = HeaderName::from_static("highwater-route");

/// The response header that says that a mark of the session could not be honoured, with
/// [`SessionLayer::expose_continuity`](crate::SessionLayer::expose_continuity): `possibly_lost` when a failover may
/// have lost a write that the user depends on, `unknown_history` when the primary does not know what they depend on.
/// Never sent while all is well.
pub const CONTINUITY_HEADER: HeaderName = HeaderName::from_static("highwater-continuity");

/// The response header that says why a request's token was refused, or its level ignored, as
/// [`BadToken::as_str`] does.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("highwater-error");

/// How many tokens of a request are looked at. What a further one says is doubt.
pub const MAX_TOKENS: usize = 16;

/// What the tokens of a message say together.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) marks: Marks,
    /// Of the first one that has an id.
    pub(crate) id: Option<SessionId>,
    /// How many there were.
    pub(crate) tokens: usize,
}

impl Incoming {
    /// Takes a token in; what can't be used becomes doubt, and `bad` hears of it. False when no further one is
    /// looked at.
    pub(crate) fn take(
        &mut self,
        token: &[u8],
        codec: &TokenCodec,
        now: &mut Option<u64>,
        bad: &mut impl FnMut(BadToken),
    ) -> bool {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            self.doubt(BadToken::TooMany, bad);
            return false;
        }
        match codec.decode_token(token, *now.get_or_insert_with(unix_seconds)) {
            Ok(decoded) if self.tokens == 1 => (self.marks, self.id) = (decoded.marks, decoded.id),
            Ok(decoded) => {
                self.marks.merge(&decoded.marks);
                self.id = self.id.or(decoded.id);
            }
            Err(error) => {
                self.id = self.id.or(error.session_id());
                self.doubt(BadToken::Unusable(error), bad);
            }
        }
        true
    }

    fn doubt(&mut self, reason: BadToken, bad: &mut impl FnMut(BadToken)) {
        self.marks.merge(&Marks::in_doubt());
        bad(reason);
    }

    /// What the token header says.
    pub(crate) fn take_header(
        &mut self,
        headers: &HeaderMap,
        codec: &TokenCodec,
        now: &mut Option<u64>,
        bad: &mut impl FnMut(BadToken),
    ) {
        for token in headers.get_all(TOKEN_HEADER) {
            if !self.take(token.as_bytes(), codec, now, bad) {
                return;
            }
        }
    }
}

/// The token, issued now.
pub(crate) fn encode(codec: &TokenCodec, token: &Token) -> String {
    codec.encode_token(token, unix_seconds(), MAX_TOKEN_LEN)
}

/// Replaces any token in `headers` by this one.
pub(crate) fn put_token(headers: &mut HeaderMap, token: String) {
    let mut value = visible(token);
    // Kept out of logs, and out of HPACK's tables, where one that is sent once has no place.
    value.set_sensitive(true);
    headers.insert(TOKEN_HEADER, value);
}

/// The value of a header, from text without control characters.
#[expect(
    clippy::expect_used,
    reason = "tokens are base64url, routes are names and numbers, cookies' parts are checked"
)]
pub(crate) fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("only visible ASCII and spaces")
}

/// Whether a list of names in headers, separated by commas, has this one.
pub(crate) fn lists(headers: &HeaderMap, list: &HeaderName, name: &str) -> bool {
    headers
        .get_all(list)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Says that responses to requests with other tokens are others, unless that is said already.
pub(crate) fn vary_by(headers: &mut HeaderMap, name: &'static str) {
    if !lists(headers, &VARY, name) && !lists(headers, &VARY, "*") {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}

/// What a request's sender makes of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// It can't be sent any.
    None,
    /// They can be sent.
    Possible,
    /// It asks for them, and wants to be told which ones may come.
    Asked,
}

impl Trailers {
    pub(crate) fn of(version: Version, headers: &HeaderMap) -> Self {
        match version {
            Version::HTTP_09 | Version::HTTP_10 => Self::None,
            _ if lists(headers, &TE, "trailers") => Self::Asked,
            // HTTP/1 has no place for them that every client knows.
            Version::HTTP_11 => Self::None,
            _ => Self::Possible,
        }
    }

    /// Declares the token among the trailers.
    pub(crate) fn declare(self, headers: &mut HeaderMap) {
        if self == Self::Asked && !lists(headers, &TRAILER, TOKEN_HEADER.as_str()) {
            headers.append(TRAILER, HeaderValue::from_name(TOKEN_HEADER));
        }
    }
}

/// True for a failure that something between the service and us may have answered with, or a layer around the service's own:
/// a proxy, a time limit. The service may have written all the same.
pub(crate) fn may_be_anothers(status: StatusCode, headers: &HeaderMap) -> bool {
    // CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE.
    const GRPC: [&[u8]; 5] = [b"1", b"2", b"4", b"13", b"14"];
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || headers
            .get(GRPC_STATUS)
            .is_some_and(|code| GRPC.contains(&code.as_bytes()))
}

/// A clock before 1970 makes every token one from the future, which is doubt.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
