//! Tokens: a session's marks, encoded to travel.
//!
//! Layout of version 1, before base64url without padding: version (1 byte), flags (1), key id (4,
//! signed tokens only), issued-at (varint, Unix seconds), then, if the doubt flag is set, the number
//! of settled scopes (varint) and their names, then the number of marks (varint) and the marks, each
//! a scope (length byte and name), a history (20 bytes), a kind byte (1 written, 2 read, 3 both) and
//! for each kind a varint (offset + 1, or 0 for ∞ and then, as another one, how many seconds before
//! issued-at that came to be); last, in signed tokens, the first 16 bytes of
//! the HMAC-SHA-256 of everything before.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    History, Marks, Offset, Scope,
    marks::{Doubt, Entry},
};

/// The longest token, encoded, in bytes. A longer one is refused before it is looked at.
pub const MAX_TOKEN_LEN: usize = 4096;

const VERSION: u8 = 1;
const FLAG_SIGNED: u8 = 1;
const FLAG_DOUBT: u8 = 2;
const MAC_LEN: usize = 16;
const KEY_ID_LEN: usize = 4;
/// How far in the future a token may have been issued: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A secret with which tokens are signed. Not printed by `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    id: [u8; KEY_ID_LEN],
    mac: Hmac<Sha256>,
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

/// Encodes marks into tokens and decodes them. Cheap to clone.
///
/// ```
/// use highwater_core::{Marks, SigningKey, TokenCodec};
///
/// let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
/// let token = codec.encode(&Marks::new(), 1_700_000_000);
/// assert_eq!(codec.decode(token.as_bytes(), 1_700_000_001)?, Marks::new());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenCodec {
    /// The first one signs.
    keys: Vec<SigningKey>,
    max_age: Duration,
}

impl TokenCodec {
    /// The default age at which a token expires: one day.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

    /// Signs with `key`, and accepts only tokens signed with it.
    #[must_use]
    pub fn signed(key: SigningKey) -> Self {
        Self {
            keys: vec![key],
            max_age: Self::DEFAULT_MAX_AGE,
        }
    }

    /// Neither signs nor checks. Clients can then claim any mark: at worst they read from the
    /// primary. For services whose tokens come from trusted callers only.
    #[must_use]
    pub fn unsigned() -> Self {
        Self {
            keys: Vec::new(),
            max_age: Self::DEFAULT_MAX_AGE,
        }
    }

    /// Accepts tokens signed with `key` as well: for key rotation. No effect on an unsigned codec.
    #[must_use]
    pub fn also_verify(mut self, key: SigningKey) -> Self {
        if !self.keys.is_empty() {
            self.keys.push(key);
        }
        self
    }

    /// The age at which tokens expire. An expired token is doubt, so that nothing is lost by a
    /// short one but a sample of the primary.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// The token for these marks, issued at `now` (Unix seconds). At most [`MAX_TOKEN_LEN`] bytes.
    #[must_use]
    pub fn encode(&self, marks: &Marks, now: u64) -> String {
        let token = self.encode_whole(marks, now);
        if token.len() <= MAX_TOKEN_LEN {
            return token;
        }
        // Doubt is what does not fit (invariant 5).
        self.encode_whole(&Marks::in_doubt(), now)
    }

    fn encode_whole(&self, marks: &Marks, now: u64) -> String {
        let mut bytes = Vec::with_capacity(96);
        let signed = if self.keys.is_empty() { 0 } else { FLAG_SIGNED };
        let doubt = if *marks.doubt() == Doubt::Nowhere {
            0
        } else {
            FLAG_DOUBT
        };
        bytes.extend_from_slice(&[VERSION, signed | doubt]);
        if let Some(key) = self.keys.first() {
            bytes.extend_from_slice(&key.id);
        }
        put_varint(&mut bytes, now);
        if let Doubt::Except(settled) = marks.doubt() {
            put_varint(&mut bytes, settled.len() as u64);
            settled.iter().for_each(|scope| put_scope(&mut bytes, scope));
        }
        put_varint(&mut bytes, marks.entries().len() as u64);
        for entry in marks.entries() {
            put_scope(&mut bytes, &entry.scope);
            bytes.extend_from_slice(entry.history.as_bytes());
            bytes.push(u8::from(entry.written.is_some()) | u8::from(entry.read.is_some()) << 1);
            for offset in [entry.written, entry.read].into_iter().flatten() {
                match offset.position() {
                    Some(position) => put_varint(&mut bytes, position + 1),
                    None => {
                        put_varint(&mut bytes, 0);
                        put_varint(&mut bytes, now.saturating_sub(offset.since().unwrap_or(now)));
                    }
                }
            }
        }
        if let Some(key) = self.keys.first() {
            let mac = key.mac.clone().chain_update(&bytes).finalize().into_bytes();
            bytes.extend(mac.into_iter().take(MAC_LEN));
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The marks in a token, at `now` (Unix seconds).
    ///
    /// # Errors
    ///
    /// When it is too long, malformed, of another version, not signed with a known key, expired, or
    /// issued in the future. Each is doubt ([`Marks::in_doubt`]), never "no token" (invariant 5).
    pub fn decode(&self, token: &[u8], now: u64) -> Result<Marks, TokenError> {
        use TokenErrorKind as Kind;
        if token.len() > MAX_TOKEN_LEN {
            return Err(Kind::TooLong.into());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Kind::Malformed)?;
        let mut reader = Reader(&bytes);
        if reader.byte()? != VERSION {
            return Err(Kind::Version.into());
        }
        let flags = reader.byte()?;
        if flags & !(FLAG_SIGNED | FLAG_DOUBT) != 0 {
            return Err(Kind::Version.into());
        }
        match (flags & FLAG_SIGNED != 0, self.keys.is_empty()) {
            (true, false) => reader = Reader(self.verified(&bytes, &mut reader)?),
            (false, true) => {}
            (true, true) => return Err(Kind::UnknownKey.into()),
            (false, false) => return Err(Kind::NotSigned.into()),
        }
        let issued = reader.varint()?;
        if now.saturating_sub(issued) > self.max_age.as_secs() {
            return Err(Kind::Expired.into());
        }
        if issued.saturating_sub(now) > CLOCK_SKEW.as_secs() {
            return Err(Kind::FromTheFuture.into());
        }
        let mut marks = Marks::new();
        if flags & FLAG_DOUBT != 0 {
            marks.set_doubt(Doubt::Except(reader.settled_scopes()?));
        }
        for _ in 0..reader.varint()? {
            if !marks.push_decoded(reader.entry(issued)?) {
                return Err(Kind::Malformed.into());
            }
        }
        if reader.0.is_empty() {
            Ok(marks)
        } else {
            Err(Kind::Malformed.into())
        }
    }

    /// The payload of a signed token whose signature is right.
    fn verified<'a>(&self, bytes: &'a [u8], reader: &mut Reader<'a>) -> Result<&'a [u8], TokenError> {
        let id = reader.take(KEY_ID_LEN)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or(TokenErrorKind::UnknownKey)?;
        let signed_len = bytes
            .len()
            .checked_sub(MAC_LEN)
            .ok_or(TokenErrorKind::Malformed)?;
        let (signed, mac) = bytes
            .split_at_checked(signed_len)
            .ok_or(TokenErrorKind::Malformed)?;
        // Constant-time comparison.
        key.mac
            .clone()
            .chain_update(signed)
            .verify_truncated_left(mac)
            .map_err(|_| TokenErrorKind::BadSignature)?;
        Ok(signed.get(2 + KEY_ID_LEN..).ok_or(TokenErrorKind::Malformed)?)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_scope(bytes: &mut Vec<u8>, scope: &Scope) {
    // A scope has at most 64 bytes.
    bytes.push(scope.as_str().len() as u8);
    bytes.extend_from_slice(scope.as_str().as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], TokenError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TokenErrorKind::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        let (byte, rest) = self.0.split_first().ok_or(TokenErrorKind::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A varint in its shortest form, so that a token has one encoding.
    fn varint(&mut self) -> Result<u64, TokenError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part || (byte == 0 && shift > 0) {
                return Err(TokenErrorKind::Malformed.into());
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(TokenErrorKind::Malformed.into())
    }

    fn scope(&mut self) -> Result<Scope, TokenError> {
        let len = self.byte()?.into();
        let name = std::str::from_utf8(self.take(len)?).map_err(|_| TokenErrorKind::Malformed)?;
        Ok(Scope::new(name).map_err(|_| TokenErrorKind::Malformed)?)
    }

    fn settled_scopes(&mut self) -> Result<Vec<Scope>, TokenError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for _ in 0..self.varint()? {
            let scope = self.scope()?;
            if scopes.last().is_some_and(|last| *last >= scope) {
                return Err(TokenErrorKind::Malformed.into());
            }
            scopes.push(scope);
        }
        Ok(scopes)
    }

    fn entry(&mut self, issued: u64) -> Result<Entry, TokenError> {
        let scope = self.scope()?;
        let mut history = [0; 20];
        history.copy_from_slice(self.take(20)?);
        let kind = self.byte()?;
        if !(1..=3).contains(&kind) {
            return Err(TokenErrorKind::Malformed.into());
        }
        let written = if kind & 1 != 0 {
            Some(self.offset(issued)?)
        } else {
            None
        };
        let read = if kind & 2 != 0 {
            Some(self.offset(issued)?)
        } else {
            None
        };
        Ok(Entry {
            scope,
            history: History::from_bytes(history),
            written,
            read,
        })
    }

    fn offset(&mut self, issued: u64) -> Result<Offset, TokenError> {
        match self.varint()?.checked_sub(1) {
            None => {
                let since = issued
                    .checked_sub(self.varint()?)
                    .ok_or(TokenErrorKind::Malformed)?;
                Ok(Offset::unknown_since(since))
            }
            Some(position) if !Offset::at(position).is_unknown() => Ok(Offset::at(position)),
            Some(_) => Err(TokenErrorKind::Malformed.into()),
        }
    }
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// Longer than [`MAX_TOKEN_LEN`].
    TooLong,
    /// Not base64url, cut off, or with fields that make no sense.
    Malformed,
    /// Of a version, or with flags, that this build does not know.
    Version,
    /// Signed with a key that this codec does not have.
    UnknownKey,
    /// Not signed, and this codec asks for a signature.
    NotSigned,
    /// The signature is wrong.
    BadSignature,
    /// Older than the codec's maximum age.
    Expired,
    /// Issued more than a minute in the future.
    FromTheFuture,
}

impl TokenErrorKind {
    /// The name in counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::UnknownKey => "unknown_key",
            Self::NotSigned => "not_signed",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

/// A token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenError {
    kind: TokenErrorKind,
}

impl TokenError {
    /// Why.
    #[must_use]
    pub const fn kind(&self) -> TokenErrorKind {
        self.kind
    }
}

impl From<TokenErrorKind> for TokenError {
    fn from(kind: TokenErrorKind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.kind {
            TokenErrorKind::TooLong => "it is longer than 4096 bytes",
            TokenErrorKind::Malformed => "it is malformed or cut off",
            TokenErrorKind::Version => "it is of a version that this service does not know",
            TokenErrorKind::UnknownKey => "it is signed with a key that this service does not have",
            TokenErrorKind::NotSigned => "it is not signed",
            TokenErrorKind::BadSignature => "its signature is wrong",
            TokenErrorKind::Expired => "it has expired",
            TokenErrorKind::FromTheFuture => "it was issued in the future: check the clocks",
        };
        write!(f, "the session token can't be used: {problem}")
    }
}

impl std::error::Error for TokenError {}
