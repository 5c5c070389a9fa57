//! Records how far each replica was, all through a test.
//!
//! Every replica is asked for `INFO replication` in a loop on a connection and thread of its own, so that a frozen one
//! does not hide the others. The checker turns the samples into "this read was at risk".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Control, Error, Result, Sample, Samples, Server, Topology, lock};

/// After this long without a reply a node counts as unreachable until it answers again.
const UNREACHABLE: Duration = Duration::from_millis(500);

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

    /// The samples of each server so far, in the order in which the servers were given.
    #[must_use]
    pub fn samples(&self) -> Vec<Samples> {
        self.nodes.iter().map(|samples| lock(samples).clone()).collect()
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
