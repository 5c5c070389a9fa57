//! The name of a session, under which a store keeps what its parallel requests have learnt.

use std::{error, fmt};

/// The identity of a session: a UUID of version 7. It travels in signed tokens only, so one that a token
/// has brought was given out by a service with the key.
///
/// ```
/// use highwater_core::SessionId;
///
/// let id = SessionId::from_bytes(*b"\x01\x8f\x3c\x5a\x2b\x10\x7a\xbc\x9d\xef\x01\x23\x45\x67\x89\xab")?;
/// assert_eq!(id.to_string(), "018f3c5a-2b10-7abc-9def-0123456789ab");
/// # Ok::<(), highwater_core::SessionIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The identity with these bytes.
    ///
    /// # Errors
    ///
    /// When they are no UUID of version 7.
    pub const fn from_bytes(bytes: [u8; 16]) -> Result<Self, SessionIdError> {
        let [_, _, _, _, _, _, version, _, variant, ..] = bytes;
        if version >> 4 == 7 && variant >> 6 == 0b10 {
            Ok(Self(bytes))
        } else {
            Err(SessionIdError)
        }
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes are no UUID of version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionIdError;

impl fmt::Display for SessionIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session's id is a UUID of version 7")
    }
}

impl error::Error for SessionIdError {}
