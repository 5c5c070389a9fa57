//! The primary, whichever node that is: it can be replaced at any moment, also while it is being asked.

use std::sync::{Arc, atomic::Ordering};

use highwater_core::Progress;
use tokio::time::timeout;

#[cfg(doc)]
use super::Members;
use super::Router;
use crate::{
    error::{Error, ErrorKind},
    node::{Connection, Node, Request, Sent},
};

impl Router {
    /// # Errors
    ///
    /// When it is not known which node is the primary.
    pub(crate) fn primary(&self) -> Result<Arc<Node>, Error> {
        self.members.now().primary().map(Arc::clone)
    }

    /// The primary; waits for a discovery's first word.
    ///
    /// # Errors
    ///
    /// Why it is not known which node is the primary.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub(crate) async fn known_primary(&self) -> Result<Arc<Node>, Error> {
        let mut members = self.members.subscribe();
        let known = members.wait_for(|members| members.primary.is_some());
        // The sender lives in this router, so only the time can run out.
        let _ = timeout(self.connect_timeout, known).await;
        self.primary()
    }

    /// The primary's connection; waits for the first attempt to make one. The primary has changed, or the client
    /// is new.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub(crate) async fn primary_connection(&self) -> Result<Arc<Connection>, Error> {
        match self.at_primary(Arc::clone) {
            Some(connection) => Ok(connection),
            // Rare, so it does not make every call's future larger.
            None => Box::pin(self.first_connection()).await,
        }
    }

    /// Uses the primary's connection, if there is one.
    pub(super) fn at_primary<T>(&self, of: impl FnOnce(&Arc<Connection>) -> T) -> Option<T> {
        self.members.now().primary().ok()?.with_connection(of)
    }

    async fn first_connection(&self) -> Result<Arc<Connection>, Error> {
        loop {
            match self.known_primary().await?.first_attempt().await {
                Err(error) if self.has_moved(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// True when a node has refused a request, or to be waited for, only because another one has taken its place:
    /// nothing has been sent, and the other one can be asked. What a client in use has closed is what it does not
    /// use any more, and [`Members`] are told first.
    pub(crate) fn has_moved(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Closed && !self.closing.load(Ordering::Relaxed)
    }

    /// Sends a request to whoever is the primary.
    pub(super) async fn send_to_primary(&self, request: &Request<'_>) -> Result<Sent, Error> {
        loop {
            let sent = match self.at_primary(|connection| connection.send(request)) {
                Some(sent) => sent,
                None => Box::pin(self.first_connection()).await?.send(request),
            };
            match sent {
                Err(error) if self.has_moved(&error) => {}
                sent => return sent,
            }
        }
    }

    /// Where the primary is at a moment after this call began, by a sample that all who ask at the same time share.
    ///
    /// # Errors
    ///
    /// When it can't be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the others' waits as they are.
    pub(super) async fn sample_primary(&self) -> Result<Progress, Error> {
        loop {
            match self.barrier.join(&self.known_primary().await?).await {
                Err(error) if self.has_moved(&error) => {}
                sample => return sample,
            }
        }
    }

    /// # Errors
    ///
    /// While it is not known which of two primaries is the one: what the other gets would be lost.
    pub(crate) fn check_uncontested(&self) -> Result<(), Error> {
        if self.steward.is_contested() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "two nodes say that they are the primary, and the discovery has not said yet which one is: nothing \
                 is written until then",
            ));
        }
        Ok(())
    }
}
