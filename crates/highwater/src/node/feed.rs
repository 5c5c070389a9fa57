//! The near cache's connection to a node: tracked in default mode, so that the server tells when a key that was
//! read on it is written. Driven as any other; all that comes goes to the cache's one writer, in wire order.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, select};

use super::{Connection, Driver, Node, driver::Use, handshake::Questions};
use crate::{
    cache::{Feed, FeedLink, FeedWriter, Shared},
    defaults::{FEED_REFUSED_PAUSE, MAX_BACKOFF, MIN_BACKOFF},
    error::{Error, ErrorKind},
    route::closed,
};

impl Node {
    /// Keeps a feed connected until the node is closed.
    pub(crate) async fn keep_fed(self: Arc<Self>, feed: Arc<Feed>, shared: Arc<Shared>) {
        let mut pause = MIN_BACKOFF;
        while !self.is_closing() {
            let opened = match select(pin!(self.open_feed(&feed, &shared)), pin!(self.until_closed())).await {
                Either::Left((opened, _)) => opened,
                Either::Right(_) => break,
            };
            let error = match opened {
                Ok((connection, mut driver)) => {
                    pause = MIN_BACKOFF;
                    feed.set_link(FeedLink::Up(Arc::clone(&connection)));
                    shared.changed();
                    let error = match select(pin!(driver.run()), pin!(self.until_closed())).await {
                        Either::Left((error, _)) => error,
                        Either::Right(((), driving)) => {
                            connection.drain(&closed());
                            driving.await
                        }
                    };
                    // Nobody asks here any more, and no entry is used; then what was in flight fails.
                    feed.is_down(&error);
                    drop(driver);
                    shared.changed();
                    error
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Config {
                if !matches!(feed.link(), FeedLink::Refused(_)) {
                    tracing::warn!(node = %self.address, %error, "the near cache is off for this node's share of keys");
                }
                feed.set_link(FeedLink::Refused(error.to_string()));
                pause = FEED_REFUSED_PAUSE;
            } else {
                tracing::debug!(node = %self.address, %error, "a feed of the near cache is down");
                feed.is_down(&error);
            }
            let jittered = pin!(tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)));
            select(jittered, pin!(self.until_closed())).await;
            pause = (pause * 2).min(MAX_BACKOFF);
        }
        feed.is_down(&closed());
    }

    async fn open_feed(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        shared: &Arc<Shared>,
    ) -> Result<(Arc<Connection>, Driver), Error> {
        let questions = Questions {
            role: self.expected_role,
            lost: Vec::new(),
            table: false,
            rights: false,
            feed: true,
            acks: false,
        };
        let opened = self.open(questions).await?;
        let connection = Connection::new(
            opened.write,
            self.settings.bounds,
            opened.manners,
            opened.progress.as_ref(),
            self.meters.clone(),
        );
        let connection = Arc::new(if opened.field_ttls {
            connection.with_keyspace()
        } else {
            connection
        });
        let writer = FeedWriter::new(Arc::clone(feed), Arc::clone(shared), opened.field_ttls);
        let driver = Driver::new(
            Arc::clone(self),
            Use::Feed,
            Arc::clone(&connection),
            (opened.read, opened.buffer),
            opened.identity,
            opened.progress,
        );
        Ok((connection, driver.with_feed(writer)))
    }
}
