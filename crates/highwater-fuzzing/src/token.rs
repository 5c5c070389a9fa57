//! Tokens: nothing that is not one is taken for one, and what is taken has one encoding and keeps its meaning.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use highwater_core::{
    History, MAX_TOKEN_LEN, Mark, Marks, Offset, Scope, SigningKey, TokenCodec, TokenErrorKind,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// When the tokens are looked at, in Unix seconds.
const NOW: u64 = 1_800_000_000;
const DOUBT: u8 = 2;
const ID: u8 = 4;
const SECRET: &[u8] = b"a secret of thirty-two bytes....";

/// The first byte says what the rest is: a token's text, an unsigned token's bytes, those of a signed one without
/// their signature, or steps that make marks.
///
/// # Panics
///
/// When a property does not hold.
pub fn check(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    match mode % 4 {
        0 => any_text(rest),
        1 => unsigned(&URL_SAFE_NO_PAD.encode(rest)),
        2 => signed(rest),
        _ => round_trip(&marks(rest)),
    }
}

fn signing() -> TokenCodec {
    TokenCodec::signed(SigningKey::new(SECRET).unwrap())
}

fn any_text(text: &[u8]) {
    let refused = signing().decode(text, NOW).unwrap_err();
    if text.len() > MAX_TOKEN_LEN {
        assert_eq!(refused.kind(), TokenErrorKind::TooLong);
    }
    if let Ok(text) = std::str::from_utf8(text) {
        unsigned(text);
    }
}

fn unsigned(token: &str) {
    let codec = TokenCodec::unsigned();
    let Ok(marks) = codec.decode(token.as_bytes(), NOW) else {
        return;
    };
    assert!(token.len() <= MAX_TOKEN_LEN);
    // Encoded at the same time, these marks can only be this token: a token has one encoding.
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    let issued = varint(&bytes[2..]);
    assert!((NOW - TokenCodec::DEFAULT_MAX_AGE.as_secs()..=NOW + 60).contains(&issued));
    assert_eq!(codec.encode(&marks, issued), token);
    keeps_its_meaning(&marks);
    signing().decode(token.as_bytes(), NOW).unwrap_err();
}

/// What is signed with the key is believed exactly as the same bytes unsigned, and with any bit changed not at all.
fn signed(payload: &[u8]) {
    // The layout, as the module `token` of highwater-core documents it.
    let hmac = || Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    let id = hmac().chain_update(b"highwater key id").finalize().into_bytes();
    let flags = payload.first().copied().unwrap_or_default() & (DOUBT | ID);
    let mut bytes = vec![1, 1 | flags];
    bytes.extend_from_slice(&id[..4]);
    let fields = payload.get(1..).unwrap_or_default();
    bytes.extend_from_slice(fields);
    let mac = hmac().chain_update(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac[..16]);
    let token = URL_SAFE_NO_PAD.encode(&bytes);
    let outcome = signing().decode(token.as_bytes(), NOW);
    if let Ok(said) = signing().decode_token(token.as_bytes(), NOW) {
        assert_eq!(said.id.is_some(), flags & ID != 0);
        let issued = varint(&bytes[6..]);
        assert_eq!(signing().encode_token(&said, issued, MAX_TOKEN_LEN), token);
    }

    let mut plain = vec![1, flags];
    plain.extend_from_slice(fields);
    let plain = TokenCodec::unsigned().decode(URL_SAFE_NO_PAD.encode(plain).as_bytes(), NOW);
    if flags & ID != 0 {
        // An identity is only believed when it is signed.
        plain.unwrap_err();
    } else if token.len() <= MAX_TOKEN_LEN {
        assert_eq!(outcome, plain);
    }
    let place = payload.len() * 7 % bytes.len();
    bytes[place] ^= 1 << (payload.len() % 8);
    signing()
        .decode(URL_SAFE_NO_PAD.encode(bytes).as_bytes(), NOW)
        .unwrap_err();
    if let Ok(marks) = outcome {
        keeps_its_meaning(&marks);
    }
}

/// Marks from steps of 25 bytes or less: which operation, scope and history, and an offset.
pub(crate) fn marks(steps: &[u8]) -> Marks {
    let mut marks = Marks::new();
    for step in steps.chunks(4) {
        let [kind, which, low, high] = [0, 1, 2, 3].map(|place| step.get(place).copied().unwrap_or_default());
        let offset = u64::from(low) << (high % 64);
        let mark = Mark {
            scope: Scope::new(&format!("s{}", "x".repeat(usize::from(which >> 4) * 4))).unwrap(),
            history: History::from_bytes([which & 15; 20]),
            offset: match kind >> 4 {
                0 => Offset::UNKNOWN,
                1 => Offset::unknown_since(NOW - (offset % NOW)),
                _ => Offset::at(offset),
            },
        };
        match kind & 15 {
            0 => drop(marks.merge(&Marks::in_doubt())),
            1 => drop(marks.settle(&mark)),
            2..=7 => drop(marks.add_written(&mark)),
            _ => drop(marks.add_read(&mark)),
        }
    }
    marks
}

fn round_trip(marks: &Marks) {
    for codec in [signing(), TokenCodec::unsigned()] {
        let token = codec.encode(marks, NOW);
        assert!(token.len() <= MAX_TOKEN_LEN);
        let decoded = codec.decode(token.as_bytes(), NOW).unwrap();
        if decoded == Marks::in_doubt() {
            continue;
        }
        assert!(alike(marks, &decoded));
        assert_eq!(codec.encode(&decoded, NOW), token);
        keeps_its_meaning(&decoded);
    }
}

/// The same but for when an unknown place came to be unknown: a token says that it was by the time of the token.
pub(crate) fn alike(a: &Marks, b: &Marks) -> bool {
    let undated = |mut mark: Mark| {
        if mark.offset.is_unknown() {
            mark.offset = Offset::UNKNOWN;
        }
        mark
    };
    let scopes = a.written().chain(a.read()).map(|mark| mark.scope);
    let elsewhere = Scope::new("elsewhere").unwrap();
    a.written().map(undated).eq(b.written().map(undated))
        && a.read().map(undated).eq(b.read().map(undated))
        && scopes
            .chain([elsewhere])
            .all(|scope| a.is_in_doubt(&scope) == b.is_in_doubt(&scope))
}

/// Encoded anew, also later, they come back the same; merged with themselves as well.
fn keeps_its_meaning(marks: &Marks) {
    for codec in [signing(), TokenCodec::unsigned()] {
        for now in [NOW + 60, NOW + 1_000_000] {
            let token = codec.encode(marks, now);
            assert!(token.len() <= MAX_TOKEN_LEN);
            let decoded = codec.decode(token.as_bytes(), now).unwrap();
            assert!(decoded == *marks || decoded == Marks::in_doubt());
        }
    }
    let mut twice = marks.clone();
    assert!(!twice.merge(marks));
    assert_eq!(twice, *marks);
}

fn varint(bytes: &[u8]) -> u64 {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
