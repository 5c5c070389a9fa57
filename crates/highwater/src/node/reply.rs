//! Replies: from bytes to redis-rs values, a piece at a time.
//!
//! The parser keeps what it has read of a nested reply, so that a large one that comes in many
//! pieces is read once. Shapes that occur in hot replies are read here; rare scalars (errors,
//! doubles, big numbers, verbatim strings) go through redis-rs's own parser, so that they come out
//! as its users know them. `benches/benches/parser.rs` has the comparison that justifies this file.

use redis::{PushKind, Value};

use crate::error::{Error, ErrorKind};

/// The longest string that a reply may hold, in bytes: twice what servers allow by default.
const MAX_BULK: usize = 1 << 30;
/// The most that a nested reply may take in memory, in bytes, its strings and its elements together: a
/// server that goes on for ever is found out by its headers.
const MAX_REPLY: usize = 2 * MAX_BULK;
/// The deepest nesting that a reply may have.
const MAX_DEPTH: usize = 64;
/// The longest line (a simple string, an error, a number) that a reply may hold, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// How many elements are reserved for on the word of a header.
const MAX_RESERVE: usize = 1024;

/// A parser of one connection's replies.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    stack: Vec<Partial>,
    /// What the reply takes in memory, as far as it has been announced.
    size: usize,
}

/// A reply of which some elements are still to come.
#[derive(Debug)]
struct Partial {
    shape: Shape,
    remaining: usize,
    items: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Array,
    Set,
    Map,
    Push,
    /// Attributes and then the value that they belong to.
    Attribute,
}

impl Shape {
    /// How many values follow a header that says `len`.
    fn elements(self, len: usize) -> usize {
        match self {
            Self::Array | Self::Set | Self::Push => len,
            Self::Map => len * 2,
            Self::Attribute => len * 2 + 1,
        }
    }
}

/// A header line's number, or the end of what has been received.
type Read<T> = Result<Option<T>, Error>;

impl Parser {
    /// True when the next byte begins a new reply.
    pub(crate) fn between_replies(&self) -> bool {
        self.stack.is_empty()
    }

    /// The next whole reply or push at or after `at`, which moves past what has been read; `None` when
    /// more bytes are needed.
    ///
    /// A push can stand *inside* a reply: Redis 6.2.5 puts the invalidations that a transaction causes
    /// between the elements of EXEC's reply, uncounted. It is returned first, and then what is around it.
    pub(crate) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Read<Value> {
        loop {
            let Some(item) = self.item(bytes, at)? else {
                return Ok(None);
            };
            let mut value = match item {
                Item::Value(value) => value,
                Item::Opened => continue,
            };
            loop {
                let Some(partial) = self.stack.last_mut() else {
                    self.size = 0;
                    return Ok(Some(value));
                };
                partial.items.push(value);
                partial.remaining -= 1;
                if partial.remaining > 0 {
                    break;
                }
                let Some(done) = self.stack.pop() else { break };
                let apart = matches!(done.shape, Shape::Push);
                value = done.finish()?;
                if apart {
                    if self.stack.is_empty() {
                        self.size = 0;
                    }
                    return Ok(Some(value));
                }
            }
        }
    }

    /// One scalar, or the header of something nested.
    fn item(&mut self, bytes: &[u8], at: &mut usize) -> Read<Item> {
        let start = *at;
        let Some((line, after)) = line(bytes, start)? else {
            return Ok(None);
        };
        let Some((kind, text)) = line.split_first() else {
            return Err(malformed("an empty line"));
        };
        let value = match kind {
            b'+' if text == b"OK" => Value::Okay,
            b'+' => match std::str::from_utf8(text) {
                Ok(text) => Value::SimpleString(text.to_owned()),
                Err(_) => return Err(malformed("a status that is not UTF-8")),
            },
            b':' => Value::Int(integer(text)?),
            b'_' => Value::Nil,
            b'#' if text == b"t" => Value::Boolean(true),
            b'#' if text == b"f" => Value::Boolean(false),
            b'$' => match length(text, MAX_BULK)? {
                None => Value::Nil,
                Some(len) => {
                    let Some(data) = blob(bytes, after, len)? else {
                        return Ok(None);
                    };
                    self.announced(len)?;
                    *at = after + len + 2;
                    return Ok(Some(Item::Value(Value::BulkString(data.to_vec()))));
                }
            },
            b'=' | b'!' => {
                let len = length(text, MAX_BULK)?.ok_or_else(|| malformed("a string without a length"))?;
                if blob(bytes, after, len)?.is_none() {
                    return Ok(None);
                }
                self.announced(len)?;
                *at = after + len + 2;
                return by_library(bytes.get(start..*at)).map(|value| Some(Item::Value(value)));
            }
            b'-' | b',' | b'(' => {
                *at = after;
                return by_library(bytes.get(start..after)).map(|value| Some(Item::Value(value)));
            }
            b'*' => return self.open(Shape::Array, text, after, at),
            b'~' => return self.open(Shape::Set, text, after, at),
            b'%' => return self.open(Shape::Map, text, after, at),
            b'>' => return self.open(Shape::Push, text, after, at),
            b'|' => return self.open(Shape::Attribute, text, after, at),
            _ => return Err(malformed("an unknown type byte")),
        };
        *at = after;
        Ok(Some(Item::Value(value)))
    }

    fn open(&mut self, shape: Shape, text: &[u8], after: usize, at: &mut usize) -> Read<Item> {
        let remaining = match (shape, length(text, usize::MAX >> 8)?) {
            // RESP2's null. Of a push it would be a reply that nobody asked for.
            (Shape::Array, None) => {
                *at = after;
                return Ok(Some(Item::Value(Value::Nil)));
            }
            (_, None) => return Err(malformed("a length that can't be")),
            (shape, Some(len)) => shape.elements(len),
        };
        if self.stack.len() >= MAX_DEPTH {
            return Err(malformed("nested too deeply"));
        }
        self.announced(remaining.saturating_mul(size_of::<Value>()))?;
        *at = after;
        let partial = Partial {
            shape,
            remaining,
            items: Vec::with_capacity(remaining.min(MAX_RESERVE)),
        };
        if remaining == 0 {
            return partial.finish().map(|value| Some(Item::Value(value)));
        }
        self.stack.push(partial);
        Ok(Some(Item::Opened))
    }

    fn announced(&mut self, size: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(size);
        if self.size > MAX_REPLY {
            return Err(malformed("larger than any reply may be"));
        }
        Ok(())
    }
}

enum Item {
    Value(Value),
    Opened,
}

impl Partial {
    fn finish(self) -> Result<Value, Error> {
        Ok(match self.shape {
            Shape::Array => Value::Array(self.items),
            Shape::Set => Value::Set(self.items),
            Shape::Map => Value::Map(pairs(self.items)),
            // What attributes say (key popularity and the like) is of no use to callers here.
            Shape::Attribute => self.items.into_iter().next_back().unwrap_or(Value::Nil),
            Shape::Push => {
                let mut items = self.items.into_iter();
                let kind = match items.next() {
                    Some(Value::BulkString(kind)) => kind,
                    Some(Value::SimpleString(kind)) => kind.into_bytes(),
                    _ => return Err(malformed("a push without a kind")),
                };
                // Of the others, nobody needs to know what they are.
                let kind = if kind == b"invalidate" {
                    PushKind::Invalidate
                } else {
                    PushKind::Other(String::from_utf8_lossy(&kind).into_owned())
                };
                Value::Push {
                    kind,
                    data: items.collect(),
                }
            }
        })
    }
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// The text of a bulk or verbatim string that begins at `at`, without copying it: for INFO. `None`
/// when it has not come whole; `Some(None)` when something else begins there, which is then still to be
/// read.
pub(crate) fn text<'a>(bytes: &'a [u8], at: &mut usize) -> Read<Option<&'a [u8]>> {
    let verbatim = match bytes.get(*at) {
        None => return Ok(None),
        Some(b'=') => true,
        Some(b'$') => false,
        Some(_) => return Ok(Some(None)),
    };
    let Some((header, after)) = line(bytes, *at)? else {
        return Ok(None);
    };
    let Some(len) = length(header.get(1..).unwrap_or_default(), MAX_BULK)? else {
        return Ok(Some(None));
    };
    let Some(data) = blob(bytes, after, len)? else {
        return Ok(None);
    };
    let text = match data.split_at_checked(4) {
        _ if !verbatim => data,
        // A verbatim string opens with its format: `txt:`.
        Some(([format @ .., b':'], text)) if !format.contains(&b':') => text,
        _ => return Ok(Some(None)),
    };
    *at = after + len + 2;
    Ok(Some(Some(text)))
}

/// The line that begins at `at`, without its end, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Read<(&[u8], usize)> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\r', rest) else {
        return if rest.len() > MAX_LINE {
            Err(malformed("a line without end"))
        } else {
            Ok(None)
        };
    };
    match rest.get(end + 1) {
        // However much of it came at once.
        _ if end > MAX_LINE => Err(malformed("a line without end")),
        None => Ok(None),
        Some(b'\n') => Ok(rest.get(..end).map(|line| (line, at + end + 2))),
        Some(_) => Err(malformed("a line with a carriage return in it")),
    }
}

/// The string of `len` bytes that begins at `at`, once its end has come too.
fn blob(bytes: &[u8], at: usize, len: usize) -> Read<&[u8]> {
    let Some(whole) = bytes.get(at..at + len + 2) else {
        return Ok(None);
    };
    match whole.split_at_checked(len) {
        Some((data, b"\r\n")) => Ok(Some(data)),
        _ => Err(malformed("a string that is longer than it says")),
    }
}

fn integer(text: &[u8]) -> Result<i64, Error> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(malformed("a number without digits"));
    }
    let mut value: i64 = 0;
    for digit in digits {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        // Counting down reaches the lowest number too.
        value = match value.checked_mul(10).and_then(|value| value.checked_sub(digit)) {
            Some(value) if digit <= 9 => value,
            _ => return Err(malformed("a number that is none")),
        };
    }
    let signed = if negative {
        Some(value)
    } else {
        value.checked_neg()
    };
    signed.ok_or_else(|| malformed("a number that is too large"))
}

/// A length, or `None` for −1.
fn length(text: &[u8], most: usize) -> Read<usize> {
    match integer(text)? {
        -1 => Ok(None),
        len => match usize::try_from(len) {
            Ok(len) if len <= most => Ok(Some(len)),
            _ => Err(malformed("a length that can't be")),
        },
    }
}

fn by_library(bytes: Option<&[u8]>) -> Result<Value, Error> {
    redis::parse_redis_value(bytes.unwrap_or_default())
        .map_err(|error| malformed("a scalar that redis-rs can't read").with_source(error))
}

fn malformed(what: &'static str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the server sent no valid RESP: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(bytes: &[u8]) -> Vec<Value> {
        let mut parser = Parser::default();
        let mut at = 0;
        let mut values = Vec::new();
        while let Some(value) = parser.next(bytes, &mut at).unwrap() {
            values.push(value);
        }
        assert_eq!(at, bytes.len());
        assert!(parser.between_replies());
        values
    }

    const SAMPLES: &[&[u8]] = &[
        b"+OK\r\n",
        b"+PONG\r\n",
        b":-42\r\n",
        b":-9223372036854775808\r\n",
        b"$5\r\nhe\r\no\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n:1\r\n*2\r\n+a\r\n$1\r\nb\r\n_\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n",
        b"~2\r\n:1\r\n:2\r\n",
        b",3.25\r\n",
        b"#f\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"-ERR no\r\n",
        b"-CUSTOM thing happened\r\n",
        b"!8\r\nERR a\r\nb\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
    ];

    #[test]
    fn agrees_with_redis_rs() {
        for sample in SAMPLES {
            let expected = redis::parse_redis_value(sample).unwrap();
            assert_eq!(parse_all(sample), [expected], "{}", sample.escape_ascii());
        }
    }

    #[test]
    fn any_split_gives_the_same_values() {
        let stream: Vec<u8> = SAMPLES.concat();
        let expected = parse_all(&stream);
        for step in 1..40 {
            let mut parser = Parser::default();
            let (mut at, mut seen, mut values) = (0, 0, Vec::new());
            while seen < stream.len() {
                seen = (seen + step).min(stream.len());
                while let Some(value) = parser.next(&stream[..seen], &mut at).unwrap() {
                    values.push(value);
                }
            }
            assert_eq!(values, expected, "step {step}");
        }
    }

    #[test]
    fn attributes_give_the_value_they_belong_to() {
        assert_eq!(parse_all(b"|1\r\n+k\r\n:1\r\n:7\r\n"), [Value::Int(7)]);
    }

    #[test]
    fn pushes_are_told_apart() {
        let null = parse_all(b">2\r\n$10\r\ninvalidate\r\n_\r\n");
        assert_eq!(
            null,
            [Value::Push {
                kind: PushKind::Invalidate,
                data: vec![Value::Nil]
            }]
        );
    }

    /// As Redis 6.2.5 answers `MULTI, SET, FLUSHALL, SET, EXEC` on a connection with tracking.
    #[test]
    fn a_push_inside_a_reply_is_no_element_of_it() {
        let push = Value::Push {
            kind: PushKind::Invalidate,
            data: vec![Value::Nil],
        };
        for (bytes, elements) in [
            (
                &b"*3\r\n+OK\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n+OK\r\n+OK\r\n"[..],
                vec![Value::Okay; 3],
            ),
            (
                b"*1\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n+OK\r\n",
                vec![Value::Okay],
            ),
            (
                b"*1\r\n*1\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n:1\r\n",
                vec![Value::Array(vec![Value::Int(1)])],
            ),
        ] {
            let expected = [push.clone(), Value::Array(elements), Value::Int(7)];
            let stream = [bytes, b":7\r\n"].concat();
            assert_eq!(parse_all(&stream), expected);
        }
    }

    #[test]
    fn a_push_is_known_by_its_kind_however_that_is_said() {
        let null = parse_all(b">2\r\n+invalidate\r\n_\r\n");
        assert_eq!(
            null,
            [Value::Push {
                kind: PushKind::Invalidate,
                data: vec![Value::Nil]
            }]
        );
    }

    #[test]
    fn each_reply_has_a_bound_of_its_own() {
        let mut parser = Parser::default();
        let within = b"*1\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n:1\r\n";
        for bytes in [
            SAMPLES.concat().as_slice(),
            b">2\r\n$10\r\ninvalidate\r\n_\r\n",
            within,
        ] {
            let mut at = 0;
            while parser.next(bytes, &mut at).unwrap().is_some() {}
            assert_eq!((at, parser.size), (bytes.len(), 0));
        }
    }

    #[test]
    fn a_long_line_is_refused_however_it_comes() {
        let line = |len: usize| [b"+", &b"x".repeat(len)[..], b"\r\n"].concat();
        parse_all(&line(MAX_LINE - 1));
        let long = line(MAX_LINE);
        for seen in [long.len(), long.len() - 1, long.len() - 2] {
            Parser::default().next(&long[..seen], &mut 0).unwrap_err();
        }
        assert_eq!(Parser::default().next(&long[..MAX_LINE], &mut 0).unwrap(), None);
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let deep = b"*1\r\n".repeat(1000);
        for bytes in [
            &b"?\r\n"[..],
            b"\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$4294967296\r\n",
            b"$1\r\nab\r\n",
            b"*9223372036854775807\r\n",
            b"*100000000\r\n",
            b"%50000000\r\n",
            b"*2\r\n*60000000\r\n",
            b":1x\r\n",
            b":\r\n",
            b"+a\rb\r\n",
            b"#x\r\n",
            b",x\r\n",
            b">1\r\n:1\r\n",
            b">0\r\n",
            b">-1\r\n+OK\r\n",
            b"%-1\r\n",
            b"~-1\r\n",
            b"|-1\r\n+OK\r\n",
            &deep,
        ] {
            let mut at = 0;
            let error = Parser::default().next(bytes, &mut at).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn info_text_is_not_copied() {
        let mut at = 0;
        assert_eq!(
            text(b"=7\r\ntxt:abc\r\n+", &mut at).unwrap(),
            Some(Some(&b"abc"[..]))
        );
        assert_eq!(at, 13);
        assert_eq!(text(b"$3\r\nabc\r\n", &mut 0).unwrap(), Some(Some(&b"abc"[..])));
        assert_eq!(text(b"$3\r\nab", &mut 0).unwrap(), None);
        for other in [
            &b"-NOPERM no\r\n"[..],
            b"=2\r\nab\r\n$1\r\nx\r\n",
            b"=9\r\nlonger:ab\r\n",
            b"=7\r\ntx::abc\r\n",
            b"$-1\r\n",
        ] {
            let mut at = 0;
            assert_eq!(text(other, &mut at).unwrap(), Some(None));
            assert_eq!(at, 0, "somebody else's reply would be taken for it");
        }
    }
}
