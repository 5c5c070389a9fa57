//! Connections of one caller's own: for commands that block their connection or change its state. They
//! speak the same protocol as the shared one, by the same driver, which here sends nothing unasked: an
//! INFO in the wrong place would become part of the caller's transaction.

use std::{
    pin::pin,
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use tokio::{task::JoinSet, time::timeout_at};

use super::{
    Node, Sample,
    connection::{Connection, Ending, Request, Sent},
    driver::{Driver, Use, unsent},
    handshake::Questions,
    lost::Identity,
};
use crate::{
    defaults::{MAX_BACKOFF, MIN_BACKOFF},
    error::{Error, ErrorKind},
    route::closed,
};

/// A connection of one caller's own. Dropped, it ends when what is in flight has been answered. When it has ended
/// by itself, its socket is closed, also while this is kept.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    connection: Weak<Connection>,
    /// Why it has.
    ended: Arc<OnceLock<Error>>,
}

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
        let (own, _) = self
            .open_driven(Use::Exclusive, self.plainly(Vec::new()), held)
            .await?;
        Ok(own)
    }

    /// Opens a connection that is driven until its handle is dropped, and says why what is on disk can't be waited for
    /// on it, if that was asked. `held` is kept until it is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what has been opened.
    pub(super) async fn open_driven(
        self: &Arc<Self>,
        usage: Use,
        questions: Questions,
        held: impl Send + 'static,
    ) -> Result<(OwnConnection, Option<Error>), Error> {
        if self.is_closing() {
            return Err(closed());
        }
        let asked = Instant::now();
        let opened = self.open(questions).await?;
        let first = opened.progress;
        let connection = Connection::new(
            opened.write,
            self.settings.bounds,
            opened.manners,
            first.as_ref(),
            self.meters.clone(),
        );
        let connection = Arc::new(if usage == Use::Acked {
            connection.with_acks()
        } else {
            connection
        });
        if let Some(progress) = first {
            let at = Instant::now();
            self.publish(Sample { progress, at }, Some(asked));
        }
        let driver = Driver::new(
            Arc::clone(self),
            usage,
            Arc::clone(&connection),
            (opened.read, opened.buffer),
            opened.identity,
            first,
        );
        // It ends when the handle is dropped, at the latest a response timeout later.
        let handle = OwnConnection {
            connection: Arc::downgrade(&connection),
            ended: Arc::default(),
        };
        let driving = drive(
            Arc::clone(self),
            connection,
            driver,
            Arc::clone(&handle.ended),
            held,
        );
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are forgotten, so that there are no more than are alive.
        while own.try_join_next().is_some() {}
        own.spawn(driving);
        drop(own);
        Ok((handle, opened.no_aof))
    }

    pub(super) fn plainly(&self, lost: Vec<Identity>) -> Questions {
        Questions {
            role: self.expected_role,
            lost,
            table: false,
            rights: false,
            feed: false,
            acks: false,
        }
    }

    /// Settles the writes of lost connections while the shared one is up, until the node is closed: the lost
    /// connection is killed from a new one, which then takes a sample.
    pub(super) async fn keep_settled(self: Arc<Self>) {
        select(pin!(self.settle()), pin!(self.until_closed())).await;
    }

    async fn settle(&self) {
        loop {
            self.orphans.notified().await;
            let mut pause = MIN_BACKOFF;
            loop {
                let unasked = self.lost.unasked();
                if unasked.is_empty() {
                    break;
                }
                match self.open(self.plainly(unasked)).await {
                    Ok(opened) => {
                        if let Some(progress) = &opened.progress {
                            let settled = self.lost.learnt(&opened.fates, progress);
                            self.meters.settled(settled);
                        }
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

    fn take_own(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the connections of callers' own, whatever is in flight on them.
    pub(crate) fn abort_own(&self) {
        self.take_own().abort_all();
    }

    /// Waits until the connections of callers' own have ended, which closing the node makes them do. Those
    /// that have not by the deadline are cut off: then this is true.
    pub(crate) async fn own_ended(&self, deadline: tokio::time::Instant) -> bool {
        let mut own = self.take_own();
        let all = async { while own.join_next().await.is_some() {} };
        let cut_off = timeout_at(deadline, all).await.is_err();
        own.shutdown().await;
        cut_off
    }
}

/// Drives a connection of a caller's own to its end. When the node is closed, it ends once what is in flight has
/// been answered.
async fn drive(
    node: Arc<Node>,
    connection: Arc<Connection>,
    mut driver: Driver,
    ended: Arc<OnceLock<Error>>,
    held: impl Send,
) {
    let error = match select(pin!(driver.run()), pin!(node.until_closed())).await {
        Either::Left((error, _)) => error,
        Either::Right(((), driving)) => {
            connection.drain(&closed());
            driving.await
        }
    };
    tracing::debug!(%error, "a connection of a caller's own has ended");
    let _ = ended.set(error);
    drop((driver, held));
}

impl OwnConnection {
    /// Sends a request, whose replies may take `patience` longer than usual.
    ///
    /// # Errors
    ///
    /// When the connection has ended. Then nothing has been sent.
    pub(crate) fn send(&self, request: &Request<'_>, patience: Duration) -> Result<Sent, Error> {
        let Some(connection) = self.connection.upgrade() else {
            let ended = self.ended.get().cloned();
            return Err(unsent(&ended.unwrap_or_else(|| {
                Error::new(ErrorKind::Disconnected, "the connection was ended")
            })));
        };
        connection.set_patience(patience);
        connection.send(request)
    }

    /// The connection, as long as something can be sent on it.
    pub(super) fn live(&self) -> Option<Arc<Connection>> {
        self.connection
            .upgrade()
            .filter(|connection| !connection.is_over())
    }

    pub(crate) fn end(&self, ending: Ending) {
        if let Some(connection) = self.connection.upgrade() {
            connection.end(ending);
        }
    }

    /// True when nothing can be sent on it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.connection
            .upgrade()
            .is_none_or(|connection| connection.is_over())
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.end(Ending::Answered);
    }
}
