//! Replies: the same values however the bytes are cut, the values that redis-rs reads where both read one, and no
//! text taken for an INFO that the parser would not take for a text.

use highwater::{
    ErrorKind,
    internals::{Received, text},
    redis::{self, PushKind, Value},
};

/// What became of some bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    values: Vec<String>,
    malformed: bool,
    /// Bytes that belong to no whole value.
    unread: Option<usize>,
}

/// The first two bytes say how the rest is cut.
///
/// # Panics
///
/// When a property does not hold.
pub fn check(input: &[u8]) {
    let Some((cut, bytes)) = input.split_at_checked(2) else {
        return;
    };
    let whole = read(std::iter::once(bytes));
    let seed = u64::from(cut[0]) << 8 | u64::from(cut[1]) | 1 << 16;
    assert_eq!(read(pieces(bytes, seed)), whole, "in pieces");
    assert_eq!(read(bytes.chunks(1)), whole, "byte by byte");
    against_redis_rs(bytes);
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut received = Received::default();
    let mut values = Vec::new();
    let mut malformed = false;
    'bytes: for piece in pieces {
        received.add(piece);
        loop {
            match received.next_value() {
                // As text, since NaN is not equal to itself.
                Ok(Some(value)) => values.push(format!("{value:?}")),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Protocol);
                    malformed = true;
                    break 'bytes;
                }
            }
        }
    }
    Outcome {
        values,
        malformed,
        unread: (!malformed).then(|| received.unread().len()),
    }
}

/// Pieces of 1 to 16 bytes, as a cheap generator says.
fn pieces(mut bytes: &[u8], mut seed: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let len = (1 + (seed >> 60) as usize).min(bytes.len());
        let (piece, rest) = bytes.split_at(len);
        bytes = rest;
        (len > 0).then_some(piece)
    })
}

fn against_redis_rs(mut bytes: &[u8]) {
    loop {
        let mut received = Received::default();
        received.add(bytes);
        let value = received.next_value();
        as_text(
            bytes,
            value.as_ref().ok().and_then(Option::as_ref),
            received.unread().len(),
        );
        // What this crate does not take for whole, redis-rs may read as it likes.
        let Ok(Some(value)) = value else { return };
        let (whole, rest) = bytes.split_at(bytes.len() - received.unread().len());
        if let Ok(theirs) = redis::parse_redis_value(whole) {
            // It takes a push inside of another reply for an element.
            if parts(&theirs).iter().any(|part| has_push(part)) {
                return;
            }
            assert_eq!(
                format!("{:?}", plain(value)),
                format!("{:?}", plain(theirs)),
                "{}",
                whole.escape_ascii()
            );
        }
        bytes = rest;
    }
}

fn has_push(value: &Value) -> bool {
    matches!(value, Value::Push { .. }) || parts(value).iter().any(|part| has_push(part))
}

/// What a value is made of.
fn parts(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) | Value::Set(values) | Value::Push { data: values, .. } => {
            values.iter().collect()
        }
        Value::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        Value::Attribute { data, attributes } => attributes
            .iter()
            .flat_map(|(key, value)| [key, value])
            .chain([&**data])
            .collect(),
        _ => Vec::new(),
    }
}

/// The shortcut for INFO takes a text out of the bytes exactly where the parser finds one.
fn as_text(bytes: &[u8], value: Option<&Value>, unread: usize) {
    let Ok((taken, len)) = text(bytes) else {
        assert_eq!(value, None);
        return;
    };
    let Some(Some(text)) = taken else {
        assert_eq!(len, 0, "what was not taken is still to be read");
        if let Some(value) = value {
            let has_text = matches!(value, Value::BulkString(_) | Value::VerbatimString { .. });
            assert!(
                taken == Some(None) && !(has_text && is_plain(bytes)),
                "{value:?} is not taken"
            );
        }
        return;
    };
    assert_eq!(len, bytes.len() - unread);
    match value {
        Some(Value::BulkString(parsed)) => assert_eq!(parsed, text),
        Some(Value::VerbatimString { text: parsed, .. }) => {
            assert_eq!(**parsed, *String::from_utf8_lossy(text));
        }
        other => panic!("the text {} was parsed as {other:?}", text.escape_ascii()),
    }
}

/// A bulk string, or a verbatim one whose format has three letters, as all servers' have.
fn is_plain(bytes: &[u8]) -> bool {
    let line = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .unwrap_or(bytes.len());
    let format = bytes.get(line + 2..line + 5).unwrap_or_default();
    match bytes.first() {
        Some(b'$') => true,
        Some(b'=') => bytes.get(line + 5) == Some(&b':') && !format.contains(&b':'),
        _ => false,
    }
}

/// Without what this crate leaves out on purpose: attributes, and the kinds of pushes other than invalidations.
fn plain(value: Value) -> Value {
    let all = |values: Vec<Value>| values.into_iter().map(plain).collect();
    let pairs = |pairs: Vec<(Value, Value)>| {
        pairs
            .into_iter()
            .map(|(key, value)| (plain(key), plain(value)))
            .collect()
    };
    match value {
        Value::Array(values) => Value::Array(all(values)),
        Value::Set(values) => Value::Set(all(values)),
        Value::Map(map) => Value::Map(pairs(map)),
        Value::Attribute { data, .. } => plain(*data),
        Value::Push { kind, data } => Value::Push {
            kind: match kind {
                PushKind::Invalidate => PushKind::Invalidate,
                _ => PushKind::Other(String::new()),
            },
            data: all(data),
        },
        value => value,
    }
}
