//! Tokens: what goes in comes out, and nothing else does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{history, mark, marks, scope};
use highwater_core::{
    MAX_MARKS, MAX_TOKEN_LEN, Mark, Marks, Offset, Scope, Session, SessionId, SigningKey, Token, TokenCodec,
    TokenErrorKind,
};
use proptest::prelude::*;

const NOW: u64 = 1_780_000_000;
const SECRET: &str = "correct horse battery staple 123";

fn key(secret: &str) -> SigningKey {
    SigningKey::new(secret).unwrap()
}

fn signed() -> TokenCodec {
    TokenCodec::signed(key(SECRET))
}

fn one_mark() -> Marks {
    let mut marks = Marks::new();
    marks.add_written(&Mark {
        scope: Scope::default(),
        history: history(0),
        offset: Offset::at(1_000_000_000),
    });
    marks
}

fn kind(codec: &TokenCodec, token: impl AsRef<[u8]>, now: u64) -> TokenErrorKind {
    codec.decode(token.as_ref(), now).unwrap_err().kind()
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn round_trip(marks in marks(4, 7), now in 0..u64::MAX / 2) {
        for codec in [signed(), TokenCodec::unsigned()] {
            let token = codec.encode(&marks, now);
            prop_assert!(token.len() <= MAX_TOKEN_LEN);
            let decoded = codec.decode(token.as_bytes(), now).unwrap();
            // Unknown places come out with the time at which they were; `Debug` does not tell them apart.
            prop_assert_eq!(format!("{:?}", decoded), format!("{:?}", marks));
            prop_assert_eq!(codec.encode(&decoded, now), token);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for codec in [signed(), TokenCodec::unsigned()] {
            let _ = codec.decode(&bytes, NOW);
            // And with the outer shell right, signed and unsigned.
            let _ = codec.decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes(), NOW);
            for flags in 0..8 {
                let whole = [&[1, flags][..], &bytes].concat();
                let _ = codec.decode(URL_SAFE_NO_PAD.encode(whole).as_bytes(), NOW);
            }
        }
    }

    #[test]
    fn a_mutated_signed_token_is_refused(
        marks in marks(3, 3),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        bit in 0u8..8,
    ) {
        let token = signed().encode(&marks, NOW);
        // A byte of the text.
        let mut text = token.clone().into_bytes();
        let at = place.index(text.len());
        if text[at] != byte {
            text[at] = byte;
            prop_assert!(signed().decode(&text, NOW).is_err());
        }
        // A bit of what it stands for.
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(signed().decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes(), NOW).is_err());
        // Cut off, drawn out, and said twice.
        prop_assert!(signed().decode(&token.as_bytes()[..place.index(token.len())], NOW).is_err());
        for extra in [format!("{token}A"), format!("{token}="), format!("{token}\n"), format!("{token}{token}")] {
            prop_assert!(signed().decode(extra.as_bytes(), NOW).is_err());
        }
    }

    /// An unsigned token can claim anything, but what it claims is well formed: it encodes to itself.
    #[test]
    fn a_mutated_unsigned_token_has_one_encoding(
        marks in marks(3, 3),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let codec = TokenCodec::unsigned().max_age(Duration::MAX);
        let mut bytes = URL_SAFE_NO_PAD.decode(codec.encode(&marks, 5)).unwrap();
        let at = place.index(bytes.len() - 3) + 3;
        bytes[at] = byte;
        let token = URL_SAFE_NO_PAD.encode(&bytes);
        if let Ok(decoded) = codec.decode(token.as_bytes(), 5) {
            prop_assert_eq!(codec.encode(&decoded, 5), token);
        }
    }
}

#[test]
fn a_doubt_keeps_its_time_from_token_to_token() {
    let codec = signed();
    let mut marks = one_mark();
    let known = marks.written().next().unwrap();
    marks.add_written(&Mark {
        offset: Offset::UNKNOWN,
        ..known
    });
    let since = |marks: &Marks| marks.written().next().unwrap().offset.since();
    assert_eq!(since(&marks), None);
    let first = codec
        .decode(codec.encode(&marks, NOW).as_bytes(), NOW + 10)
        .unwrap();
    assert_eq!(since(&first), Some(NOW));
    let second = codec
        .decode(codec.encode(&first, NOW + 20).as_bytes(), NOW + 30)
        .unwrap();
    assert_eq!(since(&second), Some(NOW));
    // A later doubt is the greater one.
    let mut both = second;
    both.merge(&marks);
    assert_eq!(since(&both), None);
}

#[test]
fn lengths_of_a_token_with_one_mark() {
    // version 1 + flags 1 + issued 5 + count 1 + scope 8 + history 20 + kind 1 + offset 5 = 42 bytes.
    assert_eq!(TokenCodec::unsigned().encode(&one_mark(), NOW).len(), 56);
    // + key id 4 + signature 16.
    assert_eq!(signed().encode(&one_mark(), NOW).len(), 83);
}

#[test]
fn keys_rotate() {
    let (old, new) = (
        key("the old secret, long enough"),
        key("the new secret, long enough"),
    );
    let before = TokenCodec::signed(old.clone());
    let after = TokenCodec::signed(new.clone()).also_verify(old.clone());
    let token = before.encode(&one_mark(), NOW);
    assert_eq!(after.decode(token.as_bytes(), NOW).unwrap(), one_mark());
    let token = after.encode(&one_mark(), NOW);
    assert_eq!(
        kind(&before, &token, NOW),
        TokenErrorKind::UnknownKey,
        "the first key signs"
    );
    assert_eq!(
        before.also_verify(new).decode(token.as_bytes(), NOW).unwrap(),
        one_mark()
    );
    // An unsigned codec does not become a signed one by a key to verify with.
    let unsigned = TokenCodec::unsigned().also_verify(old);
    assert!(
        unsigned
            .decode(unsigned.encode(&one_mark(), NOW).as_bytes(), NOW)
            .is_ok()
    );
}

#[test]
fn too_long() {
    assert_eq!(
        kind(&signed(), "A".repeat(MAX_TOKEN_LEN + 1), NOW),
        TokenErrorKind::TooLong
    );
    assert_eq!(kind(&signed(), vec![0xff; 1 << 20], NOW), TokenErrorKind::TooLong);
}

#[test]
fn malformed() {
    for token in ["", "A", "é", "AQ=", "AQ", "AQE"] {
        assert_eq!(
            kind(&signed(), token, NOW),
            TokenErrorKind::Malformed,
            "{token:?}"
        );
    }
    let codec = TokenCodec::unsigned().max_age(Duration::MAX);
    let id = [7; 20];
    let entry = |scope: &[u8], rest: &[u8]| [scope, &id, rest].concat();
    let good = entry(b"\x01s", &[1, 9]);
    assert!(
        codec
            .decode(
                URL_SAFE_NO_PAD
                    .encode([&[1, 0, 0, 1], &good[..]].concat())
                    .as_bytes(),
                0
            )
            .is_ok()
    );
    for (why, body) in [
        ("nothing after the flags", vec![]),
        ("a varint that never ends", vec![0xff; 11]),
        ("a varint beyond 64 bits", [&[0xff; 9][..], &[2, 0]].concat()),
        ("a varint that is not its shortest", vec![0x80, 0, 0]),
        ("more marks said than there are", [&[0, 2], &good[..]].concat()),
        (
            "a count that would take all memory",
            [&[0], &[0xff; 9][..], &[1]].concat(),
        ),
        ("bytes left over", [&[0, 1], &good[..], &[0]].concat()),
        ("no kind", [&[0, 1], &entry(b"\x01s", &[0, 9])[..]].concat()),
        (
            "a kind that does not exist",
            [&[0, 1], &entry(b"\x01s", &[4, 9])[..]].concat(),
        ),
        ("an empty scope", [&[0, 1], &entry(b"\x00", &[1, 9])[..]].concat()),
        (
            "a scope with a blank",
            [&[0, 1], &entry(b"\x01 ", &[1, 9])[..]].concat(),
        ),
        (
            "a scope that is no text",
            [&[0, 1], &entry(b"\x01\xff", &[1, 9])[..]].concat(),
        ),
        ("the same mark twice", [&[0, 2], &good[..], &good[..]].concat()),
        (
            "an offset beyond 2^63",
            [&[0, 1], &entry(b"\x01s", &[1])[..], &[0xff; 9], &[1]].concat(),
        ),
    ] {
        let token = URL_SAFE_NO_PAD.encode([&[1, 0][..], &body].concat());
        assert_eq!(kind(&codec, token, 0), TokenErrorKind::Malformed, "{why}");
    }
    // Settled scopes, too, are listed in order and once.
    for (scopes, fine) in [
        (b"\x01a\x01b", true),
        (b"\x01a\x01a", false),
        (b"\x01b\x01a", false),
    ] {
        let token = URL_SAFE_NO_PAD.encode([&[1, 2, 0, 2], &scopes[..], &[0]].concat());
        assert_eq!(codec.decode(token.as_bytes(), 0).is_ok(), fine, "{scopes:?}");
    }
    // More marks than a set holds: the token is doubt, the surplus is not silently dropped.
    let many: Vec<u8> = (0..=MAX_MARKS as u8)
        .flat_map(|n| [&b"\x01s"[..], &[n; 20], &[1, 9]].concat())
        .collect();
    let token = URL_SAFE_NO_PAD.encode([&[1, 0, 0, MAX_MARKS as u8 + 1], &many[..]].concat());
    assert_eq!(kind(&codec, token, 0), TokenErrorKind::Malformed);
}

#[test]
fn version() {
    for head in [[0, 0], [2, 0], [1, 8], [1, 16], [1, 0x80], [1, 0xff]] {
        let token = URL_SAFE_NO_PAD.encode([&head[..], &[0; 40]].concat());
        assert_eq!(kind(&signed(), &token, NOW), TokenErrorKind::Version, "{head:?}");
        assert_eq!(
            kind(&TokenCodec::unsigned(), &token, NOW),
            TokenErrorKind::Version,
            "{head:?}"
        );
    }
}

#[test]
fn unknown_key() {
    let token = TokenCodec::signed(key("another secret altogether")).encode(&one_mark(), NOW);
    assert_eq!(kind(&signed(), &token, NOW), TokenErrorKind::UnknownKey);
    assert_eq!(
        kind(&TokenCodec::unsigned(), &token, NOW),
        TokenErrorKind::UnknownKey
    );
}

#[test]
fn not_signed() {
    let token = TokenCodec::unsigned().encode(&one_mark(), NOW);
    assert_eq!(kind(&signed(), &token, NOW), TokenErrorKind::NotSigned);
    // Nor by taking the flag away from a signed one.
    let mut bytes = URL_SAFE_NO_PAD.decode(signed().encode(&one_mark(), NOW)).unwrap();
    bytes[1] = 0;
    assert_eq!(
        kind(&signed(), URL_SAFE_NO_PAD.encode(bytes), NOW),
        TokenErrorKind::NotSigned
    );
}

#[test]
fn bad_signature() {
    let mut bytes = URL_SAFE_NO_PAD.decode(signed().encode(&one_mark(), NOW)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(
        kind(&signed(), URL_SAFE_NO_PAD.encode(&bytes), NOW),
        TokenErrorKind::BadSignature
    );
    // The right key's id before another key's signature.
    let other = TokenCodec::signed(key("another secret altogether")).encode(&one_mark(), NOW);
    let mut forged = URL_SAFE_NO_PAD.decode(other).unwrap();
    forged[2..6].copy_from_slice(&bytes[2..6]);
    assert_eq!(
        kind(&signed(), URL_SAFE_NO_PAD.encode(forged), NOW),
        TokenErrorKind::BadSignature
    );
    // No signature at all after the key's id.
    for len in 6..22 {
        assert!(
            signed()
                .decode(URL_SAFE_NO_PAD.encode(&bytes[..len]).as_bytes(), NOW)
                .is_err()
        );
    }
}

#[test]
fn expired_and_from_the_future() {
    let codec = signed().max_age(Duration::from_secs(100));
    let token = codec.encode(&one_mark(), NOW);
    assert!(codec.decode(token.as_bytes(), NOW + 100).is_ok());
    assert_eq!(kind(&codec, &token, NOW + 101), TokenErrorKind::Expired);
    assert!(codec.decode(token.as_bytes(), NOW - 60).is_ok(), "clocks differ");
    assert_eq!(kind(&codec, &token, NOW - 61), TokenErrorKind::FromTheFuture);
    assert_eq!(kind(&codec, &token, u64::MAX), TokenErrorKind::Expired);
    assert_eq!(kind(&codec, &token, 0), TokenErrorKind::FromTheFuture);
}

#[test]
fn each_kind_has_a_name_and_says_what_is_wrong() {
    let kinds = [
        TokenErrorKind::TooLong,
        TokenErrorKind::Malformed,
        TokenErrorKind::Version,
        TokenErrorKind::UnknownKey,
        TokenErrorKind::NotSigned,
        TokenErrorKind::BadSignature,
        TokenErrorKind::Expired,
        TokenErrorKind::FromTheFuture,
    ];
    let names: std::collections::HashSet<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), kinds.len());
    assert!(TokenErrorKind::TooLong.as_str() == "too_long");
    let error = signed().decode(b"", NOW).unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
}

#[test]
fn what_does_not_fit_is_doubt() {
    let mut marks = Marks::new();
    let long = |n: usize| Scope::new(&format!("{n:0>64}")).unwrap();
    marks.merge(&Marks::in_doubt());
    for n in 0..MAX_MARKS {
        let mark = Mark {
            scope: long(n),
            history: history(n as u8),
            offset: Offset::at(i64::MAX as u64),
        };
        marks.settle(&mark);
        marks.add_read(&mark);
    }
    let token = signed().encode(&marks, NOW);
    assert!(token.len() <= MAX_TOKEN_LEN);
    assert_eq!(signed().decode(token.as_bytes(), NOW).unwrap(), Marks::in_doubt());
}

#[test]
fn doubt_travels_and_so_does_what_was_settled() {
    let mut marks = Marks::in_doubt();
    marks.settle(&mark(1, 1, 10));
    marks.add_written(&mark(2, 1, u64::MAX));
    let token = signed().encode(&marks, NOW);
    let decoded = signed().decode(token.as_bytes(), NOW).unwrap();
    assert!(decoded.is_in_doubt(&scope(0)) && !decoded.is_in_doubt(&scope(1)));
    assert!(
        decoded.requirement(&scope(2), false).points()[0]
            .offset
            .is_unknown()
    );
}

#[test]
fn secrets_are_not_printed() {
    let codec = signed().also_verify(key("the old secret, long enough"));
    for text in [
        format!("{codec:?}"),
        format!("{codec:#?}"),
        format!("{:?}", key(SECRET)),
    ] {
        assert!(!text.contains("horse") && !text.contains("old secret"), "{text}");
        // Nor as bytes, nor as the state that they were hashed into.
        assert!(!text.contains("99, 111, 114") && text.len() < 300, "{text}");
    }
}

#[test]
fn a_short_secret_is_refused() {
    assert!(SigningKey::new([7; SigningKey::MIN_LEN - 1]).is_err());
    assert!(SigningKey::new([7; SigningKey::MIN_LEN]).is_ok());
    assert!(SigningKey::new("").unwrap_err().to_string().contains("16"));
}

fn session_id() -> SessionId {
    let mut bytes = [0x5a; 16];
    (bytes[6], bytes[8]) = (0x7a, 0x9a);
    SessionId::from_bytes(bytes).unwrap()
}

#[test]
fn an_id_travels_in_signed_tokens_only() {
    let token = Token {
        id: Some(session_id()),
        ..one_mark().into()
    };
    let text = signed().encode_token(&token, NOW, MAX_TOKEN_LEN);
    assert_eq!(signed().decode_token(text.as_bytes(), NOW).unwrap(), token);

    let unsigned = TokenCodec::unsigned();
    let text = unsigned.encode_token(&token, NOW, MAX_TOKEN_LEN);
    assert_eq!(unsigned.decode_token(text.as_bytes(), NOW).unwrap().id, None);
    // Nor does an unsigned codec believe one that somebody has put in.
    let bytes = [&[1, 4, 0][..], session_id().as_bytes(), &[0]].concat();
    assert_eq!(
        kind(&unsigned, URL_SAFE_NO_PAD.encode(bytes), 0),
        TokenErrorKind::Malformed
    );
}

#[test]
fn an_id_is_a_uuid_of_version_7() {
    assert_eq!(session_id().to_string(), "5a5a5a5a-5a5a-7a5a-9a5a-5a5a5a5a5a5a");
    for (version, variant) in [(0x4a, 0x9a), (0x7a, 0x1a), (0x7a, 0xda)] {
        let mut bytes = *session_id().as_bytes();
        (bytes[6], bytes[8]) = (version, variant);
        assert!(SessionId::from_bytes(bytes).is_err());
    }
}

/// Its signature is right and only its marks are old, so it is still known whose it is.
#[test]
fn an_expired_token_says_whose_it_is() {
    let codec = signed().max_age(Duration::from_secs(100));
    let token = Token {
        id: Some(session_id()),
        ..one_mark().into()
    };
    let text = codec.encode_token(&token, NOW, MAX_TOKEN_LEN);
    let error = codec.decode_token(text.as_bytes(), NOW + 101).unwrap_err();
    assert_eq!(
        (error.kind(), error.session_id()),
        (TokenErrorKind::Expired, Some(session_id()))
    );
    let other = TokenCodec::signed(key("another secret altogether"));
    for error in [
        codec.decode(text.as_bytes(), NOW - 61).unwrap_err(),
        other.decode(text.as_bytes(), NOW + 101).unwrap_err(),
        codec
            .decode(&text.as_bytes()[..text.len() - 4], NOW + 101)
            .unwrap_err(),
    ] {
        assert_eq!(error.session_id(), None, "{error}");
    }
}

#[test]
fn what_a_carrier_has_no_room_for_is_doubt_of_the_same_session() {
    let token = Token {
        id: Some(session_id()),
        ..one_mark().into()
    };
    let whole = signed().encode_token(&token, NOW, MAX_TOKEN_LEN);
    assert_eq!(signed().encode_token(&token, NOW, whole.len()), whole);
    let cut = signed().encode_token(&token, NOW, whole.len() - 1);
    assert!(cut.len() < whole.len());
    let cut = signed().decode_token(cut.as_bytes(), NOW).unwrap();
    assert_eq!((cut.marks, cut.id), (Marks::in_doubt(), token.id));
}

#[test]
fn a_session_goes_on_from_its_token() {
    let session = Session::new();
    session.add_written(&mark(0, 0, 7));
    assert_eq!(session.token().id, None);
    assert_eq!(session.identify(session_id()), session_id());
    let moved = session.version();
    // The first one stays.
    let mut other = *session_id().as_bytes();
    other[0] = 1;
    let other = SessionId::from_bytes(other).unwrap();
    assert_eq!(session.identify(other), session_id());
    assert_eq!(session.version(), moved);

    let resumed = Session::resume(session.token());
    assert_eq!(
        (resumed.marks(), resumed.id()),
        (session.marks(), Some(session_id()))
    );
    resumed.add_written(&mark(0, 0, 9));
    assert_ne!(
        resumed.marks(),
        session.marks(),
        "the two share nothing from there on"
    );
}
