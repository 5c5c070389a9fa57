//! What came of a strategy, in numbers.

use std::time::Duration;

use highwater_testkit::Samples;
use serde::Serialize;

use crate::{Error, service::Strategy, workload::Read};

/// What was counted while one strategy ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) reads: usize,
    pub(crate) reads_per_second: f64,
    pub(crate) read_p50_us: u64,
    pub(crate) read_p99_us: u64,
    /// Reads that did not show the session's own last write.
    pub(crate) stale_reads: usize,
    /// Reads that began while a replica, one that could be read, certainly had not applied that write.
    pub(crate) at_risk_reads: usize,
    pub(crate) cache_reads: u64,
    pub(crate) replica_reads: u64,
    pub(crate) primary_reads: u64,
}

impl Outcome {
    /// Counts, given what the replicas' samples say.
    pub(crate) fn new(
        strategy: Strategy,
        duration: Duration,
        reads: &[Read],
        replicas: &[Samples],
    ) -> Result<Self, Error> {
        let at_risk = |read: &&Read| {
            replicas
                .iter()
                .any(|samples| samples.surely_behind(read.mark, read.began))
        };
        let mut times: Vec<Duration> = reads.iter().map(|read| read.took).collect();
        times.sort_unstable();
        Ok(Self {
            name: strategy.name(),
            reads: reads.len(),
            reads_per_second: f64::from(u32::try_from(reads.len())?) / duration.as_secs_f64(),
            read_p50_us: percentile(&times, 50)?,
            read_p99_us: percentile(&times, 99)?,
            stale_reads: reads.iter().filter(|read| read.stale).count(),
            at_risk_reads: reads.iter().filter(at_risk).count(),
            cache_reads: reads.iter().map(|read| read.routes.cache).sum(),
            replica_reads: reads.iter().map(|read| read.routes.replica).sum(),
            primary_reads: reads.iter().map(|read| read.routes.primary).sum(),
        })
    }

    /// Reads that did not burden the primary, in percent.
    pub(crate) fn off_primary(&self) -> f64 {
        self.percent(self.cache_reads + self.replica_reads)
    }

    /// Reads that the near cache answered, in percent.
    pub(crate) fn cached(&self) -> f64 {
        self.percent(self.cache_reads)
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage to print")]
    fn percent(&self, of: u64) -> f64 {
        let all = self.cache_reads + self.replica_reads + self.primary_reads;
        100.0 * of as f64 / all.max(1) as f64
    }
}

/// In microseconds, of times in order.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Result<u64, Error> {
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    let time = times.get(place).ok_or("no read was made: run it for longer")?;
    Ok(u64::try_from(time.as_micros())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50).unwrap(), 100);
        assert_eq!(percentile(&times, 99).unwrap(), 198);
        assert_eq!(percentile(&times[..1], 99).unwrap(), 1);
        assert!(percentile(&[], 50).is_err());
    }
}
