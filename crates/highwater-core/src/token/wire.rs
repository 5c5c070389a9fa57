//! The fields of a token, as bytes.

use super::{TokenError, TokenErrorKind};
use crate::{History, Offset, Scope, SessionId, marks::Entry};

pub(super) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(super) fn put_scope(bytes: &mut Vec<u8>, scope: &Scope) {
    // A scope has at most 64 bytes.
    bytes.push(scope.as_str().len() as u8);
    bytes.extend_from_slice(scope.as_str().as_bytes());
}

/// What has not been read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], TokenError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TokenErrorKind::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, TokenError> {
        let (byte, rest) = self.0.split_first().ok_or(TokenErrorKind::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A varint in its shortest form, so that a token has one encoding.
    pub(super) fn varint(&mut self) -> Result<u64, TokenError> {
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

    pub(super) fn session_id(&mut self) -> Result<SessionId, TokenError> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.take(16)?);
        Ok(SessionId::from_bytes(bytes).map_err(|_| TokenErrorKind::Malformed)?)
    }

    fn scope(&mut self) -> Result<Scope, TokenError> {
        let len = self.byte()?.into();
        let name = std::str::from_utf8(self.take(len)?).map_err(|_| TokenErrorKind::Malformed)?;
        Ok(Scope::new(name).map_err(|_| TokenErrorKind::Malformed)?)
    }

    pub(super) fn settled_scopes(&mut self) -> Result<Vec<Scope>, TokenError> {
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

    pub(super) fn entry(&mut self, issued: u64) -> Result<Entry, TokenError> {
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
