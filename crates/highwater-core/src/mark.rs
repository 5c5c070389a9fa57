//! Marks: points in the replication stream of one deployment.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::History;

/// A position in one history, in bytes of replication stream, or an unknown one (written ∞).
///
/// An unknown position is greater than every known one: it stands for "a write whose place is not
/// known", which no replica can prove to have applied. It can say since when that is so; later is
/// greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The place of a write that may be anywhere, and may still happen: the greatest of all.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// Unknown positions have this bit; the others say since when.
    const UNKNOWN_BIT: u64 = 1 << 63;

    /// The place of a write that was begun before `since` (Unix seconds) and may be anywhere.
    #[must_use]
    pub const fn unknown_since(since: u64) -> Self {
        Self(Self::UNKNOWN_BIT | since)
    }

    /// Since when the place is unknown (Unix seconds), if that is said.
    #[must_use]
    pub const fn since(self) -> Option<u64> {
        if self.is_unknown() && self.0 != u64::MAX {
            Some(self.0 & !Self::UNKNOWN_BIT)
        } else {
            None
        }
    }

    /// The position `bytes` into the stream. Positions that no server can reach (2⁶³ and more)
    /// are taken as [`Offset::UNKNOWN`].
    #[must_use]
    pub const fn at(bytes: u64) -> Self {
        if bytes > i64::MAX as u64 {
            Self::UNKNOWN
        } else {
            Self(bytes)
        }
    }

    /// The position in bytes, or `None` for an unknown one.
    #[must_use]
    pub const fn position(self) -> Option<u64> {
        if self.is_unknown() { None } else { Some(self.0) }
    }

    /// True for unknown positions.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 & Self::UNKNOWN_BIT != 0
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position() {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("∞"),
        }
    }
}

/// The name of one Redis deployment, given to the client builder.
///
/// A client judges marks of its own scope only and passes the others through untouched.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        // A client's marks have its own scope in them, and each read compares.
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Hash for Scope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Scope {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// A scope of this name.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than [`Scope::MAX_LEN`], or has a byte that is not visible ASCII.
    pub fn new(name: &str) -> Result<Self, ScopeError> {
        if name.is_empty() || name.len() > Self::MAX_LEN || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ScopeError);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Scope {
    /// The scope of services with one deployment: `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no name for a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeError;

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a scope's name has 1 to {} visible ASCII characters",
            Scope::MAX_LEN
        )
    }
}

impl std::error::Error for ScopeError {}

/// A point in one deployment's replication stream: everything up to `offset` of `history` is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The deployment.
    pub scope: Scope,
    /// The history that `offset` counts in.
    pub history: History,
    /// How far into the history.
    pub offset: Offset,
}
