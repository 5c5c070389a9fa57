//! A failover as users live through it: three nodes, three sentinels, and the primary is killed.

mod load;
mod report;
mod timeline;

use std::{
    io,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use highwater::{Client, Sentinel};
use highwater_testkit::{Sentinels, ServerKind, wait_until_async};
use indicatif::ProgressBar;
use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval_at},
};

use self::{
    load::{Load, Log},
    report::Report,
    timeline::{Event, INTERVAL, Operation, Outcome, Timeline},
};
use crate::Error;

const NODES: usize = 3;
const SENTINELS: usize = 3;
const DOWN_AFTER: Duration = Duration::from_millis(500);
const READY: Duration = Duration::from_secs(20);
/// Not shown: connections are made, and the client learns how far the replicas are.
const WARM_UP: Duration = Duration::from_millis(500);
/// Sentinels count votes, and sometimes count them again.
const FAILOVER: Duration = Duration::from_secs(20);
/// What is answered later after the kill than this did not come from the dead primary.
const LEFTOVERS: Duration = Duration::from_millis(100);

/// Runs it, with so much time shown before the kill and after the first write that works again.
pub(crate) async fn show(kind: ServerKind, around: Duration, json: bool) -> Result<(), Error> {
    let bar = ProgressBar::new_spinner().with_message("starting the servers");
    bar.enable_steady_tick(Duration::from_millis(100));
    let sentinels = block_in_place(|| {
        Sentinels::builder()
            .kind(kind)
            .replicas(NODES - 1)
            .sentinels(SENTINELS)
            .down_after(DOWN_AFTER)
            .start()
    })?;
    let client = Client::builder()
        .discovery(Sentinel::new(Sentinels::NAME, sentinels.urls()))
        .connect()
        .await?;
    wait_until_async(READY, "the client knows all nodes", || {
        let replicas = client.status().replicas;
        replicas.len() == NODES - 1 && replicas.iter().all(|replica| replica.connection == "up")
    })
    .await?;
    bar.finish_and_clear();

    let log = Log::default();
    let load = Load::start(&client, &log);
    tokio::time::sleep(WARM_UP).await;
    drop(log.take());
    let report = if json {
        Report::Json(Vec::new(), Vec::new())
    } else {
        Report::Text
    };
    let now = Instant::now();
    let mut show = Show {
        report,
        timeline: Timeline::new(now, now + around),
        log,
        switched: None,
        back: None,
    };
    show.report.begin(kind)?;
    show.go_through(&sentinels, now + around, around).await?;
    let losses = load.end().await?;
    let summary = show.timeline.summary(losses);
    show.report.end(kind, &summary)?;
    client.shutdown().await?;
    match summary.stale_reads {
        0 => Ok(()),
        stale => Err(format!("{stale} stale reads").into()),
    }
}

struct Show {
    report: Report,
    timeline: Timeline,
    log: Log,
    /// The sentinels have named another primary.
    switched: Option<Instant>,
    /// A write has worked since.
    back: Option<Instant>,
}

impl Show {
    async fn go_through(
        &mut self,
        sentinels: &Sentinels,
        kill_at: Instant,
        around: Duration,
    ) -> Result<(), Error> {
        let hearing = block_in_place(|| sentinels.hear("+switch-master"))?;
        let start = kill_at - around;
        let mut ticks = interval_at((start + INTERVAL).into(), INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut killed = None;
        loop {
            let now = ticks.tick().await.into_std();
            let operations = self.log.take();
            if let Some(killed) = killed {
                self.mark(killed, &hearing, &operations)?;
            }
            let row = self.timeline.row(now, operations);
            self.report.row(row)?;
            match (killed, self.back) {
                (None, _) if now >= kill_at => {
                    block_in_place(|| sentinels.node(0).kill());
                    let at = Instant::now();
                    killed = Some(at);
                    self.timeline.kill(at);
                    self.tell(at, "the primary is killed")?;
                }
                (_, Some(back)) if now >= back + around => return Ok(()),
                (Some(killed), None) if now >= killed + FAILOVER => {
                    return Err("no write works: the sentinels have not failed over".into());
                }
                _ => {}
            }
        }
    }

    /// Marks what has happened in this interval.
    fn mark(
        &mut self,
        killed: Instant,
        hearing: &Receiver<Instant>,
        operations: &[Operation],
    ) -> io::Result<()> {
        let mut events = Vec::new();
        if self.switched.is_none()
            && let Ok(at) = hearing.try_recv()
        {
            self.switched = Some(at);
            events.push((at, "+switch-master: the sentinels name another primary"));
        }
        if self.back.is_none() {
            let writes = operations.iter().filter(|operation| {
                operation.route.is_none()
                    && operation.outcome == Outcome::Worked
                    && operation.ended > killed + LEFTOVERS
            });
            self.back = writes.map(|operation| operation.ended).min();
            events.extend(self.back.map(|at| (at, "the first write at the new primary")));
        }
        events.sort_unstable();
        events.into_iter().try_for_each(|(at, what)| self.tell(at, what))
    }

    fn tell(&mut self, at: Instant, what: &'static str) -> io::Result<()> {
        let at_ms = self.timeline.place(at);
        self.report.event(Event { at_ms, what })
    }
}
