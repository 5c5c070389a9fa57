//! What a workload runs against.

use std::future::Future;
use std::sync::Arc;

use crate::Mark;
use crate::history::{Outcome, Route};

/// What a read returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadReply {
    pub(super) version: Option<u64>,
    pub(super) newest: Option<u64>,
    pub(super) route: Route,
    pub(super) mark: Option<Mark>,
    pub(super) failed: bool,
    pub(super) guarantees_lost: bool,
}

impl ReadReply {
    /// The version that was seen, `None` for a missing key, and where it came from.
    #[must_use]
    pub fn seen(version: Option<u64>, route: Route) -> Self {
        Self {
            version,
            newest: version,
            route,
            mark: None,
            failed: false,
            guarantees_lost: false,
        }
    }

    /// The versions that were seen of a key's parts, `None` for a missing one, and where they came from.
    ///
    /// A value that is none of this key's, such as a reply to somebody else's read, is a version that nobody writes:
    /// `u64::MAX`.
    #[must_use]
    pub fn parts(versions: impl IntoIterator<Item = Option<u64>> + Clone, route: Route) -> Self {
        Self {
            newest: versions.clone().into_iter().max().flatten(),
            ..Self::seen(versions.into_iter().min().flatten(), route)
        }
    }

    /// The read failed.
    #[must_use]
    pub fn failed() -> Self {
        Self {
            failed: true,
            ..Self::seen(None, Route::Unknown)
        }
    }

    /// With the session's mark from before the read, which is needed to know whether the read was at risk.
    #[must_use]
    pub fn required(mut self, mark: Option<Mark>) -> Self {
        self.mark = mark;
        self
    }

    /// The client said with this reply that it could not keep the session's guarantees.
    #[must_use]
    pub fn guarantees_lost(mut self) -> Self {
        self.guarantees_lost = true;
        self
    }
}

/// What a workload runs against: the client under test, with a session for each index.
pub trait Subject: Send + Sync + 'static {
    /// Sets the key to the version, in a session.
    fn write(&self, session: usize, key: u64, version: u64) -> impl Future<Output = Outcome> + Send;

    /// Reads the version of the key, in a session.
    fn read(&self, session: usize, key: u64) -> impl Future<Output = ReadReply> + Send;

    /// Hands the token of session `from` to `session`. Only called if the workload has a share of adoptions.
    fn adopt(&self, session: usize, from: usize) -> impl Future<Output = ()> + Send {
        let _ = (session, from);
        async {}
    }
}

impl<S: Subject> Subject for Arc<S> {
    fn write(&self, session: usize, key: u64, version: u64) -> impl Future<Output = Outcome> + Send {
        S::write(self, session, key, version)
    }

    fn read(&self, session: usize, key: u64) -> impl Future<Output = ReadReply> + Send {
        S::read(self, session, key)
    }

    fn adopt(&self, session: usize, from: usize) -> impl Future<Output = ()> + Send {
        S::adopt(self, session, from)
    }
}

/// A [`Subject`] made of two functions that return futures.
#[derive(Debug, Clone, Copy)]
pub struct Functions<W, R> {
    write: W,
    read: R,
}

impl<W, R> Functions<W, R> {
    /// `write(session, key, version)` and `read(session, key)`.
    #[must_use]
    pub fn new(write: W, read: R) -> Self {
        Self { write, read }
    }
}

impl<W, WriteFuture, R, ReadFuture> Subject for Functions<W, R>
where
    W: Fn(usize, u64, u64) -> WriteFuture + Send + Sync + 'static,
    WriteFuture: Future<Output = Outcome> + Send,
    R: Fn(usize, u64) -> ReadFuture + Send + Sync + 'static,
    ReadFuture: Future<Output = ReadReply> + Send,
{
    fn write(&self, session: usize, key: u64, version: u64) -> impl Future<Output = Outcome> + Send {
        (self.write)(session, key, version)
    }

    fn read(&self, session: usize, key: u64) -> impl Future<Output = ReadReply> + Send {
        (self.read)(session, key)
    }
}
