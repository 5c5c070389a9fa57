//! What a read may show.

/// How fresh a read must be. Set per client, per session or per read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// Read from the primary. The reply carries a proof that the node was the primary, and that it
    /// had applied what the session wrote.
    Primary,
    /// Read-your-writes, and reads that never go back: a read also advances the session to the
    /// upper bound of what it may have seen.
    Monotonic,
    /// A session's reads show its own acknowledged writes. Reads may go back in time with respect
    /// to writes of *others*.
    #[default]
    ReadYourWrites,
    /// Any replica's present state, however old. No proof is asked for, and none is paid for.
    Eventual,
}

impl Consistency {
    /// The level's name, as command lines and logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Monotonic => "monotonic",
            Self::ReadYourWrites => "read-your-writes",
            Self::Eventual => "eventual",
        }
    }
}

impl std::fmt::Display for Consistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Consistency {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Primary,
            Self::Monotonic,
            Self::ReadYourWrites,
            Self::Eventual,
        ]
        .into_iter()
        .find(|level| level.as_str() == text)
        .ok_or(UnknownLevel)
    }
}

/// The text names no consistency level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLevel;

impl std::fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a consistency level is one of: primary, monotonic, read-your-writes, eventual")
    }
}

impl std::error::Error for UnknownLevel {}
