//! The bytes of token version 1, frozen: services of different builds share tokens, and so do services that
//! are being rolled out. They were made by an independent program from the layout in `src/token/mod.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use highwater_core::{
    MAX_TOKEN_LEN, Mark, Marks, Offset, Scope, SessionId, SigningKey, Token, TokenCodec, TokenErrorKind,
};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "thirty-two bytes from /dev/random";
const ONE: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn signed() -> TokenCodec {
    TokenCodec::signed(SigningKey::new(SECRET).unwrap())
}

fn mark(scope: &str, history: &str, offset: Offset) -> Mark {
    Mark {
        scope: Scope::new(scope).unwrap(),
        history: history.parse().unwrap(),
        offset,
    }
}

fn one_mark() -> Marks {
    let mut marks = Marks::new();
    marks.add_written(&mark("default", ONE, Offset::at(1_000_000_000)));
    marks
}

/// Doubt, but for one scope; a write of unknown place; a read; and a write and a read of one history.
fn everything() -> Marks {
    let mut marks = Marks::in_doubt();
    marks.settle(&mark("carts", ONE, Offset::unknown_since(NOW - 90)));
    marks.add_read(&mark("carts", OTHER, Offset::at(7)));
    marks.add_written(&mark("default", ONE, Offset::at(41)));
    marks.add_read(&mark("default", ONE, Offset::at(42)));
    marks
}

fn id() -> SessionId {
    SessionId::from_bytes(*b"\x01\x8f\x3c\x5a\x2b\x10\x7a\xbc\x9d\xef\x01\x23\x45\x67\x89\xab").unwrap()
}

fn golden(codec: &TokenCodec, marks: Marks, id: Option<SessionId>, text: &str) {
    let token = Token { marks, id };
    assert_eq!(codec.encode_token(&token, NOW, MAX_TOKEN_LEN), text);
    assert_eq!(codec.decode_token(text.as_bytes(), NOW).unwrap(), token);
}

#[test]
fn nothing() {
    let text = "AQGm2iHSgKSn2gYAMSXLAVUZ5Yc5VpDTnKzFbQ";
    golden(&signed(), Marks::new(), None, text);
}

#[test]
fn one_write() {
    let text = "AQGm2iHSgKSn2gYBB2RlZmF1bHQBI0VniavN7wEjRWeJq83vASNFZwGBlOvcAxnoXAZdvNhytaIs2jnUu0g";
    golden(&signed(), one_mark(), None, text);
    assert_eq!(signed().encode(&one_mark(), NOW), text);
}

#[test]
fn one_write_of_a_session_with_an_id() {
    let text = "AQWm2iHSgKSn2gYBjzxaKxB6vJ3vASNFZ4mrAQdkZWZhdWx0ASNFZ4mrze8BI0VniavN7wEjRWcBgZTr3ANoasOOLBr7kyaWKz9_j6OA";
    golden(&signed(), one_mark(), Some(id()), text);
}

#[test]
fn unsigned() {
    let text = "AQCApKfaBgEHZGVmYXVsdAEjRWeJq83vASNFZ4mrze8BI0VnAYGU69wD";
    golden(&TokenCodec::unsigned(), one_mark(), None, text);
}

#[test]
fn every_field() {
    let text = "AQem2iHSgKSn2gYBjzxaKxB6vJ3vASNFZ4mrAQVjYXJ0cwMFY2FydHMBI0VniavN7wEjRWeJq83vASNFZwEAWgVjYXJ0c4mrze8BI0VniavN7wEjRWeJq83vAggHZGVmYXVsdAEjRWeJq83vASNFZ4mrze8BI0VnAyorMSr9TxFiszLtwGhACs-olw";
    golden(&signed(), everything(), Some(id()), text);
}

#[test]
fn a_flag_of_the_future_is_doubt() {
    for flags in ["AQg", "AQk", "AYE"] {
        let error = signed()
            .decode(format!("{flags}AAAA").as_bytes(), NOW)
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Version, "{flags}");
    }
}
