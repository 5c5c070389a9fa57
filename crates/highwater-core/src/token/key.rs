//! Keys that sign tokens.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) const KEY_ID_LEN: usize = 4;

/// A secret with which tokens are signed. Not printed by `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) id: [u8; KEY_ID_LEN],
    pub(super) mac: Hmac<Sha256>,
}

impl SigningKey {
    /// The shortest secret, in bytes.
    pub const MIN_LEN: usize = 16;

    /// A key from a secret of at least [`SigningKey::MIN_LEN`] bytes; 32 random bytes are best.
    ///
    /// # Errors
    ///
    /// When the secret is too short.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        if secret.len() < Self::MIN_LEN {
            return Err(KeyError);
        }
        let mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| KeyError)?;
        let named = mac
            .clone()
            .chain_update(b"highwater key id")
            .finalize()
            .into_bytes();
        let mut id = [0; KEY_ID_LEN];
        id.iter_mut().zip(named).for_each(|(to, from)| *to = from);
        Ok(Self { id, mac })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.id;
        write!(f, "SigningKey(id {a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// The secret is too short for a [`SigningKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a token key needs at least {} bytes; use 32 random ones",
            SigningKey::MIN_LEN
        )
    }
}

impl std::error::Error for KeyError {}
