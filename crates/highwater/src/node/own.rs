//! Connections of one caller's own: for commands that block their connection or change its state. They
//! speak the same protocol as the shared one, by the same driver, which here sends nothing unasked: an
//! INFO in the wrong place would become part of the caller's transaction.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};

use super::{
    Node, Sample,
    connection::{Connection, Ending, Request, Sent},
    driver::{Driver, Use},
};
use crate::{
    defaults::{MAX_BACKOFF, MIN_BACKOFF},
    error::Error,
};

/// A connection of one caller's own. Dropped, it ends when what is in flight has been answered.
#[derive(Debug)]
pub(crate) struct OwnConnection(Arc<Connection>);

impl Node {
    /// Opens a connection of the caller's own. `held` is kept until it is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what has been opened.
    pub(crate) async fn open_own(
        self: &Arc<Self>,
        held: impl Send + 'static,
    ) -> Result<OwnConnection, Error> {
        let asked = Instant::now();
        let opened = self.open(Vec::new(), false).await?;
        let first = opened.progress;
        let connection = Connection::new(
            opened.write,
            self.settings.bounds,
            opened.manners,
            first.as_ref(),
            self.meters.clone(),
        );
        let connection = Arc::new(connection);
        if let Some(progress) = first {
            let at = Instant::now();
            self.publish(Sample { progress, at }, Some(asked));
        }
        let mut driver = Driver::new(
            Arc::clone(self),
            Use::Exclusive,
            Arc::clone(&connection),
            (opened.read, opened.buffer),
            opened.identity,
            first,
        );
        // It ends when the handle is dropped, at the latest a response timeout later.
        tokio::spawn(async move {
            let error = driver.run().await;
            tracing::debug!(%error, "a connection of a caller's own has ended");
            drop((driver, held));
        });
        Ok(OwnConnection(connection))
    }

    /// Settles the writes of lost connections while a shared one is up, until the node is closed: the lost
    /// connection is killed from a new one, which then takes a sample.
    pub(crate) async fn keep_settled(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        loop {
            let orphans = pin!(self.orphans.notified());
            let closed = pin!(closing.wait_for(|closing| *closing));
            if let Either::Right(_) = select(orphans, closed).await {
                return;
            }
            let mut pause = MIN_BACKOFF;
            while self.lost.any_unasked() && !self.is_closing() {
                match self.open(self.lost.connections(), false).await {
                    Ok(opened) => {
                        // Without proofs nothing is ever lost from a session.
                        let Some(progress) = &opened.progress else { break };
                        self.meters.settled(self.lost.learnt(&opened.fates, progress));
                    }
                    Err(error) => {
                        tracing::debug!(node = %self.address, %error, "lost writes can't be settled yet");
                        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                        pause = (pause * 2).min(MAX_BACKOFF);
                    }
                }
            }
        }
    }
}

impl OwnConnection {
    /// Sends a request, whose replies may take `patience` longer than usual.
    ///
    /// # Errors
    ///
    /// When the connection has ended. Then nothing has been sent.
    pub(crate) fn send(&self, request: &Request<'_>, patience: Duration) -> Result<Sent, Error> {
        self.0.set_patience(patience);
        self.0.send(request)
    }

    pub(crate) fn end(&self, ending: Ending) {
        self.0.end(ending);
    }

    /// True when nothing can be sent on it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.end(Ending::Answered);
    }
}
