//! What kind of thing a command is.

/// What kind of thing a command is, as far as routing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// It reads keys: any node that proves its progress may answer.
    Read,
    /// A cursor (`SCAN` and its kin): it belongs to the process that gave it, the primary by default.
    Cursor,
    /// It writes, or may write: it goes to the primary, and its place in the stream becomes a mark.
    Write,
    /// It blocks its connection: it runs on one of a few that are kept for such commands.
    Blocking,
    /// It changes the state of its connection, or answers for it: not possible on a shared one.
    ConnectionState,
}
