//! Records how far each replica was, all through a test.
//!
//! Every replica is asked for `INFO replication` in a loop on a connection and thread of its own, so that a frozen one
//! does not hide the others. The checker turns the samples into "this read was at risk".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Control, Error, InfoReplication, Mark, Result, Server, Topology, lock};

/// After this long without a reply a node counts as unreachable until it answers again.
const UNREACHABLE: Duration = Duration::from_millis(500);

/// What one INFO said, and between which instants it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Before the INFO was sent.
    pub sent_at: Instant,
    /// After its reply was received.
    pub received_at: Instant,
    /// The node's history, and what it had applied of it.
    pub applied: Mark,
    /// Whether the node could be read from: not in the middle of a full sync.
    pub readable: bool,
}

impl Sample {
    fn new(sent_at: Instant, info: &InfoReplication) -> Self {
        Self {
            sent_at,
            received_at: Instant::now(),
            applied: info.mark(),
            readable: !info.sync_in_progress,
        }
    }
}

/// The samples of one node, in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    samples: Vec<Sample>,
}

impl Samples {
    /// How old a proof may be at most: later samples may belong to a node that died or was moved meanwhile.
    const WINDOW: Duration = Duration::from_millis(250);

    /// Whether it is certain that at `instant` this node could be read and had not applied `mark`.
    ///
    /// Certain means: the next sample that was *sent* after that instant still shows less, in the mark's history. An
    /// applied offset only grows within one history, except when a node is moved to a primary that lags; so the sample
    /// before must not show more either. Where samples don't say, the answer is no: this never counts too much.
    #[must_use]
    pub fn surely_behind(&self, mark: Mark, instant: Instant) -> bool {
        let after = self.samples.partition_point(|sample| sample.sent_at < instant);
        let Some(next) = self.samples.get(after) else {
            return false;
        };
        let behind = |sample: &Sample| {
            sample.readable && sample.applied.history == mark.history && sample.applied.offset < mark.offset
        };
        let before = after.checked_sub(1).and_then(|before| self.samples.get(before));
        behind(next)
            && next.received_at.duration_since(instant) <= Self::WINDOW
            && before.is_none_or(|before| behind(before) && before.applied.offset <= next.applied.offset)
    }

    /// The samples.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The last sample that was taken.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }
}

/// In the order in which they were taken.
impl FromIterator<Sample> for Samples {
    fn from_iter<T: IntoIterator<Item = Sample>>(samples: T) -> Self {
        Self {
            samples: samples.into_iter().collect(),
        }
    }
}

/// What a monitor is to be started with.
#[derive(Debug, Clone)]
#[must_use]
pub struct MonitorBuilder {
    interval: Duration,
    max_samples: usize,
}

impl MonitorBuilder {
    /// The pause between one INFO's reply and the next INFO. The default is a millisecond.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// After so many samples of a node no more are taken of it. The default is a million, about 80 MB.
    pub fn max_samples(mut self, max_samples: usize) -> Self {
        self.max_samples = max_samples;
        self
    }

    /// Starts to watch servers.
    ///
    /// # Errors
    ///
    /// If a thread can't be started.
    pub fn watch<'a>(self, servers: impl IntoIterator<Item = &'a Server>) -> Result<Monitor> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut monitor = Monitor {
            stop: Arc::clone(&stop),
            nodes: Vec::new(),
            threads: Vec::new(),
        };
        for server in servers {
            let samples = Arc::default();
            monitor.nodes.push(Arc::clone(&samples));
            let watcher = Watcher {
                port: server.port(),
                stop: Arc::clone(&stop),
                options: self.clone(),
                samples,
            };
            let thread = std::thread::Builder::new()
                .name(format!("monitor-{}", server.port()))
                .spawn(move || watcher.run())
                .map_err(|error| Error::io("can't start a monitor", error))?;
            monitor.threads.push(thread);
        }
        Ok(monitor)
    }
}

/// Watches servers until it is told to stop or dropped.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    nodes: Vec<Arc<Mutex<Samples>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Monitor {
    /// A builder with the defaults.
    pub fn builder() -> MonitorBuilder {
        MonitorBuilder {
            interval: Duration::from_millis(1),
            max_samples: 1_000_000,
        }
    }

    /// Watches the replicas of a topology with the defaults.
    ///
    /// # Errors
    ///
    /// If a thread can't be started.
    pub fn start(topology: &Topology) -> Result<Self> {
        Self::builder().watch(topology.replicas())
    }

    /// The last sample of a server so far, by its place in the order in which the servers were given.
    #[must_use]
    pub fn latest(&self, index: usize) -> Option<Sample> {
        self.nodes
            .get(index)
            .and_then(|samples| lock(samples).last().copied())
    }

    /// Stops, and returns the samples of each server, in the order in which the servers were given.
    #[must_use]
    pub fn stop(mut self) -> Vec<Samples> {
        self.join();
        self.nodes
            .iter()
            .map(|samples| std::mem::take(&mut *lock(samples)))
            .collect()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.join();
    }
}

struct Watcher {
    port: u16,
    stop: Arc<AtomicBool>,
    options: MonitorBuilder,
    samples: Arc<Mutex<Samples>>,
}

impl Watcher {
    fn run(&self) {
        let mut control = None;
        while !self.stop.load(Ordering::Relaxed) {
            // A connection that failed is not used again, so a late reply can't be taken for that of a later INFO.
            match self.sample(control.take()) {
                Ok((sample, connection)) => {
                    control = Some(connection);
                    if !self.keep(sample) {
                        return;
                    }
                    std::thread::sleep(self.options.interval);
                }
                // Refused at once while the server is down.
                Err(_) => std::thread::sleep(self.options.interval.max(Duration::from_millis(5))),
            }
        }
    }

    /// Whether there is room for more.
    fn keep(&self, sample: Sample) -> bool {
        let mut samples = lock(&self.samples);
        samples.samples.push(sample);
        samples.samples.len() < self.options.max_samples
    }

    fn sample(&self, control: Option<Control>) -> Result<(Sample, Control)> {
        let mut control = control.map_or_else(|| Control::connect_with(self.port, UNREACHABLE), Ok)?;
        let sent_at = Instant::now();
        let info = control.info_replication()?;
        Ok((Sample::new(sent_at, &info), control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(digit: &str) -> crate::ReplicationId {
        digit.repeat(40).parse().unwrap()
    }

    /// Samples at these milliseconds, each taking one, and these offsets.
    fn samples(start: Instant, at: &[(u64, u64)]) -> Samples {
        at.iter()
            .map(|(millis, offset)| {
                let sent_at = start + Duration::from_millis(*millis);
                let applied = Mark::new(history("a"), *offset);
                Sample {
                    sent_at,
                    received_at: sent_at + Duration::from_millis(1),
                    applied,
                    readable: true,
                }
            })
            .collect()
    }

    #[test]
    fn a_later_sample_that_shows_less_is_a_proof() {
        let start = Instant::now();
        let samples = samples(start, &[(0, 10), (10, 20), (20, 30)]);
        let behind = |offset, millis| {
            samples.surely_behind(
                Mark::new(history("a"), offset),
                start + Duration::from_millis(millis),
            )
        };
        assert!(behind(25, 5));
        assert!(behind(21, 10), "a sample sent at that instant counts");
        assert!(!behind(25, 11), "the next one shows 30");
        assert!(!behind(20, 5), "20 is applied by then");
        assert!(!behind(99, 21), "no sample after");
    }

    #[test]
    fn what_samples_do_not_say_is_not_counted() {
        let start = Instant::now();
        let at = start + Duration::from_millis(5);
        let mark = Mark::new(history("a"), 25);
        assert!(
            !samples(start, &[(0, 10), (900, 10)]).surely_behind(mark, at),
            "the next sample is too late"
        );
        assert!(
            !samples(start, &[(0, 30), (10, 20)]).surely_behind(mark, at),
            "it went backwards"
        );
        assert!(
            !samples(start, &[(0, 22), (10, 20)]).surely_behind(mark, at),
            "it went backwards below the mark"
        );
        let other = Mark::new(history("b"), 25);
        assert!(
            !samples(start, &[(0, 10), (10, 10)]).surely_behind(other, at),
            "another history"
        );
        let mut syncing = samples(start, &[(0, 10), (10, 10)]);
        syncing.samples[1].readable = false;
        assert!(
            !syncing.surely_behind(mark, at),
            "it can't be read while it syncs"
        );
    }
}
