//! What the users do: change their cart, then look at it some times, with pauses, over and over.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use highwater_testkit::{InfoReplication, Mark, Monitor, Topology};
use indicatif::ProgressBar;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Error,
    http::{Browser, Routes},
    outcome::Outcome,
    service::Strategy,
};

/// Not counted: connections are made, and the service learns how far the replicas are.
const WARM_UP: Duration = Duration::from_millis(500);
const SKU: &str = "apples";

/// What is run against each service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) sessions: usize,
    pub(crate) reads_per_write: usize,
    /// The mean; times are exponentially distributed.
    pub(crate) think_time: Duration,
    duration: Duration,
}

/// One read of a session's own cart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// Where the primary was after the session's last write.
    pub(crate) mark: Mark,
    /// It did not show the session's last write.
    pub(crate) stale: bool,
    pub(crate) routes: Routes,
}

impl Workload {
    pub(crate) fn new(duration: Duration, reads_per_write: usize) -> Self {
        Self {
            sessions: 32,
            reads_per_write,
            think_time: Duration::from_millis(25),
            duration,
        }
    }

    pub(crate) fn length(&self) -> Duration {
        WARM_UP + self.duration
    }

    /// Runs it against the service at `address`.
    pub(crate) async fn run(
        &self,
        strategy: Strategy,
        topology: &Topology,
        address: SocketAddr,
        bar: &ProgressBar,
    ) -> Result<Outcome, Error> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
        let primary = redis::Client::open(topology.primary().url())?
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let monitor = Monitor::builder()
            .interval(Duration::from_millis(2))
            .watch(topology.replicas())?;
        let start = Instant::now();
        let count_from = start + WARM_UP;
        let mut sessions = JoinSet::new();
        for number in 0..self.sessions {
            let session = Session {
                workload: *self,
                user: format!("user-{number}"),
                browser: Browser::connect(address).await?,
                primary: primary.clone(),
                count_from,
                end: count_from + self.duration,
            };
            sessions.spawn(session.run());
        }
        let mut reads = Vec::new();
        let progress = async {
            loop {
                bar.set_position(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
                sleep(Duration::from_millis(100)).await;
            }
        };
        let collected = async {
            while let Some(session) = sessions.join_next().await {
                reads.extend(session??);
            }
            Ok::<_, Error>(())
        };
        tokio::select! {
            collected = collected => collected?,
            () = progress => {}
        }
        Outcome::new(strategy, self.duration, &reads, &monitor.stop())
    }
}

struct Session {
    workload: Workload,
    user: String,
    browser: Browser,
    /// The demo's own connection: tells what the session depends on, and is no part of the service.
    primary: MultiplexedConnection,
    count_from: Instant,
    end: Instant,
}

impl Session {
    async fn run(mut self) -> Result<Vec<Read>, Error> {
        let mut reads = Vec::new();
        for quantity in 1.. {
            self.think().await;
            if Instant::now() >= self.end {
                break;
            }
            self.browser.put(&self.user, SKU, quantity).await?;
            let mark = self.mark().await?;
            let mut looks = self.workload.reads_per_write;
            if quantity == 1 {
                // Not all users change their carts at the same time.
                looks = fastrand::usize(..=looks);
            }
            for _ in 0..looks {
                self.think().await;
                let began = Instant::now();
                if began >= self.end {
                    break;
                }
                let (items, routes) = self.browser.cart(&self.user).await?;
                if began >= self.count_from {
                    reads.push(Read {
                        began,
                        took: began.elapsed(),
                        mark,
                        stale: items.get(SKU).is_none_or(|seen| *seen < quantity),
                        routes,
                    });
                }
            }
        }
        Ok(reads)
    }

    async fn think(&self) {
        let time = self.workload.think_time.mul_f64(-(1.0 - fastrand::f64()).ln());
        sleep(time.min(self.end.saturating_duration_since(Instant::now()))).await;
    }

    /// Where the primary is now: at or past every write that was acknowledged before.
    async fn mark(&mut self) -> Result<Mark, Error> {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut self.primary)
            .await?;
        Ok(info.parse::<InfoReplication>()?.mark())
    }
}
