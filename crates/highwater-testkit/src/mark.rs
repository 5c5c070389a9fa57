//! Points in a replication stream, as the servers print them.
//!
//! Deliberately not the types of `highwater-core`: a checker that shares code with what it checks shares its mistakes.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A replication ID (`master_replid`): the name of one history. 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicationId([u8; 20]);

impl ReplicationId {
    /// Whether it is all zeroes, which is how servers print "none".
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 20]
    }
}

impl FromStr for ReplicationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::new(
                ErrorKind::Protocol,
                format!("not a replication ID of 40 hex digits: {text:?}"),
            )
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(bad());
        };
        let mut id = [0; 20];
        if pairs.len() != id.len() {
            return Err(bad());
        }
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            let digit = |hex: &u8| {
                char::from(*hex)
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            *byte = (digit(high).ok_or_else(bad)? << 4) | digit(low).ok_or_else(bad)?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A point in a replication stream. Offsets compare only within one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The history that the offset counts in.
    pub history: ReplicationId,
    /// Bytes of replication stream up to this point.
    pub offset: u64,
}

impl Mark {
    /// A mark at an offset of a history.
    #[must_use]
    pub fn new(history: ReplicationId, offset: u64) -> Self {
        Self { history, offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_ids_round_trip() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(text.parse::<ReplicationId>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_40_hex_digits_is_refused() {
        for text in [
            "",
            "01",
            &"0".repeat(39),
            &"0".repeat(41),
            &"0".repeat(42),
            &"g".repeat(40),
        ] {
            assert!(text.parse::<ReplicationId>().is_err(), "{text}");
        }
    }
}
