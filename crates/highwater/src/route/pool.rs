//! Connections for commands that block, a bounded number of them: a command that waits would hold up
//! everybody on the shared connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::{Own, Reply, Router, closed};
use crate::{command::Command, error::Error};

/// The connections for commands that block. As many as there are permits, at most: each is either in
/// use, under a permit, or idle and left behind by a permit that was given back.
#[derive(Debug)]
pub(crate) struct BlockingPool {
    permits: Semaphore,
    idle: Mutex<Vec<Own>>,
}

impl BlockingPool {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            permits: Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Own>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more commands are taken; idle connections are closed.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    /// The connection that was used last, if it is still alive; those that are not are let go.
    fn take(&self) -> Option<Own> {
        let mut idle = self.idle();
        idle.retain(Own::is_as_new);
        idle.pop()
    }
}

impl Router {
    /// Carries out a unit that blocks, on a connection of its own. Callers wait in line for one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, so that nothing is taken for a caller who has gone.
    /// A write is then in doubt until it has been settled as on a lost connection.
    pub(super) async fn blocking(&self, command: &Command) -> Result<Reply, Error> {
        let _permit = self.blocking.permits.acquire().await.map_err(|_| closed())?;
        let idle = self.blocking.take();
        let mut own = match idle {
            Some(own) => own,
            None => self.open_own(()).await?,
        };
        let outcome = own.call(self, command).await;
        if own.is_as_new() && !self.blocking.permits.is_closed() {
            self.blocking.idle().push(own);
        }
        outcome
    }
}
