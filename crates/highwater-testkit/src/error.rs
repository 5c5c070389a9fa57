//! The one error type of this crate. Messages say what to do next.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No server binary was found.
    MissingServer,
    /// A server was started and did not come up.
    Start,
    /// Something was asked for that does not exist or makes no sense.
    Usage,
    /// A socket, a process or a file failed.
    Io,
    /// The server answered with an error reply; [`Error::reply`] has its text.
    Reply,
    /// The server's bytes are not what was expected.
    Protocol,
    /// A condition did not come true before its deadline.
    Timeout,
}

/// A failure of the test kit.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<std::io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::Io,
            message: what.into(),
            source: Some(source),
        }
    }

    pub(crate) fn timeout(what: &str, within: std::time::Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("not within {within:?}: {what}"))
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text of the server's error reply, if this is one: `READONLY You can't write against a read only replica.`
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        (self.kind == ErrorKind::Reply).then_some(self.message.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// The same as `Display` with the kind in front, because tests print errors through `unwrap`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
