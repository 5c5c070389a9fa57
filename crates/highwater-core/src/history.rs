//! Histories: the names of replication streams.

use std::{fmt, str::FromStr};

/// One replication history: a server's `master_replid`, 40 hexadecimal digits.
///
/// Offsets can be compared only within one history (invariant 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History([u8; 20]);

impl History {
    /// The history with these twenty bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The twenty bytes that the forty digits stand for.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Reads forty hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When there are not exactly forty digits, or one of them is no hexadecimal digit.
    pub fn from_hex(digits: &[u8]) -> Result<Self, ParseHistoryError> {
        let digits: &[u8; 40] = digits.try_into().map_err(|_| ParseHistoryError)?;
        let mut bytes = [0; 20];
        let mut wrong = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(hex_value);
            wrong |= high | low;
            *byte = high << 4 | (low & 0xf);
        }
        if wrong > 0xf {
            Err(ParseHistoryError)
        } else {
            Ok(Self(bytes))
        }
    }

    /// True for the all-zero ID by which servers say "none".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 20]
    }

    /// A short number for hints: equal histories have equal tags.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The value of one digit, or 0xff where the byte is none.
const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0xff,
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for History {
    type Err = ParseHistoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_hex(text.as_bytes())
    }
}

/// The text is no replication ID of forty hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseHistoryError;

impl fmt::Display for ParseHistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a replication ID has exactly 40 hexadecimal digits")
    }
}

impl std::error::Error for ParseHistoryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_forty_digits() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(text.parse::<History>().unwrap().to_string(), text);
        assert_eq!(text.to_uppercase().parse::<History>().unwrap().to_string(), text);
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "00",
            &"g".repeat(40),
            &"0".repeat(39),
            &"0".repeat(41),
            &"é".repeat(20),
        ] {
            assert_eq!(text.parse::<History>(), Err(ParseHistoryError), "{text:?}");
        }
        let mut digits = [b'0'; 40];
        for place in 0..40 {
            digits[place] = b'x';
            assert!(History::from_hex(&digits).is_err(), "{place}");
            digits[place] = b'0';
        }
    }
}
