//! Tokens: a session's marks, encoded to travel.
//!
//! Layout of version 1, before base64url without padding: version (1 byte), flags (1), key id (4,
//! signed tokens only), issued-at (varint, Unix seconds), then, if the id flag is set (signed tokens only),
//! the session's id (16), then, if the doubt flag is set, the number
//! of settled scopes (varint) and their names, then the number of marks (varint) and the marks, each
//! a scope (length byte and name), a history (20 bytes), a kind byte (1 written, 2 read, 3 both) and
//! for each kind a varint (offset + 1, or 0 for ∞ and then, as another one, how many seconds before
//! issued-at that came to be); last, in signed tokens, the first 16 bytes of
//! the HMAC-SHA-256 of everything before.
//!
//! Version 1 is frozen: `tests/golden.rs` has its bytes. A token has one encoding, so what is added takes a
//! flag or a version of its own, which older builds take for doubt.

mod error;
mod key;
mod wire;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac;

pub use self::{
    error::{TokenError, TokenErrorKind},
    key::{KeyError, SigningKey},
};
use self::{
    key::KEY_ID_LEN,
    wire::{Reader, put_scope, put_varint},
};
use crate::{Marks, SessionId, marks::Doubt};

/// The longest token, encoded, in bytes. A longer one is refused before it is looked at.
pub const MAX_TOKEN_LEN: usize = 4096;

const VERSION: u8 = 1;
const FLAG_SIGNED: u8 = 1;
const FLAG_DOUBT: u8 = 2;
const FLAG_ID: u8 = 4;
const MAC_LEN: usize = 16;
/// How far in the future a token may have been issued: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What a token says: what a session depends on, and which session it is.
///
/// A plain value, for a job or a queue within one process; a [`TokenCodec`] makes text of it, and
/// [`Session::resume`](crate::Session::resume) a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// What the session depends on.
    pub marks: Marks,
    /// Its identity, if it has one.
    pub id: Option<SessionId>,
}

impl From<Marks> for Token {
    fn from(marks: Marks) -> Self {
        Self { marks, id: None }
    }
}

/// Encodes sessions into tokens and decodes them. Cheap to clone.
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

    /// Whether tokens are signed, and what they say of a session's identity is believed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The token for these marks, issued at `now` (Unix seconds). At most [`MAX_TOKEN_LEN`] bytes.
    #[must_use]
    pub fn encode(&self, marks: &Marks, now: u64) -> String {
        self.encode_parts(marks, None, now, MAX_TOKEN_LEN)
    }

    /// The same, with the session's identity if the tokens are signed, and at most `max_len` bytes long (never
    /// less than some 60). What does not fit becomes doubt.
    #[must_use]
    pub fn encode_token(&self, token: &Token, now: u64, max_len: usize) -> String {
        self.encode_parts(&token.marks, token.id, now, max_len.min(MAX_TOKEN_LEN))
    }

    fn encode_parts(&self, marks: &Marks, id: Option<SessionId>, now: u64, max_len: usize) -> String {
        // Nobody would believe an unsigned one.
        let id = id.filter(|_| self.is_signed());
        let token = self.encode_whole(marks, id, now);
        if token.len() <= max_len {
            return token;
        }
        // Doubt is what does not fit (invariant 5).
        self.encode_whole(&Marks::in_doubt(), id, now)
    }

    fn encode_whole(&self, marks: &Marks, id: Option<SessionId>, now: u64) -> String {
        let mut bytes = Vec::with_capacity(112);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.is_signed(), FLAG_SIGNED)
            | flag(*marks.doubt() != Doubt::Nowhere, FLAG_DOUBT)
            | flag(id.is_some(), FLAG_ID);
        bytes.extend_from_slice(&[VERSION, flags]);
        if let Some(key) = self.keys.first() {
            bytes.extend_from_slice(&key.id);
        }
        put_varint(&mut bytes, now);
        if let Some(id) = id {
            bytes.extend_from_slice(id.as_bytes());
        }
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
    /// As [`decode_token`](Self::decode_token).
    pub fn decode(&self, token: &[u8], now: u64) -> Result<Marks, TokenError> {
        Ok(self.decode_token(token, now)?.marks)
    }

    /// What a token says, at `now` (Unix seconds).
    ///
    /// # Errors
    ///
    /// When it is too long, malformed, of another version, not signed with a known key, expired, or
    /// issued in the future. Each is doubt ([`Marks::in_doubt`]), never "no token" (invariant 5).
    pub fn decode_token(&self, token: &[u8], now: u64) -> Result<Token, TokenError> {
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
        if flags & !(FLAG_SIGNED | FLAG_DOUBT | FLAG_ID) != 0 {
            return Err(Kind::Version.into());
        }
        match (flags & FLAG_SIGNED != 0, self.is_signed()) {
            (true, true) => reader = Reader(self.verified(&bytes, &mut reader)?),
            (false, false) => {}
            (true, false) => return Err(Kind::UnknownKey.into()),
            (false, true) => return Err(Kind::NotSigned.into()),
        }
        let issued = reader.varint()?;
        let id = match flags & FLAG_ID != 0 {
            false => None,
            true if self.is_signed() => Some(reader.session_id()?),
            // Anybody could say that they are anybody.
            true => return Err(Kind::Malformed.into()),
        };
        if now.saturating_sub(issued) > self.max_age.as_secs() {
            return Err(TokenError::expired(id));
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
            Ok(Token { marks, id })
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
