//! What was measured, as it is kept.

use serde::{Deserialize, Serialize};

use crate::Error;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chart {
    /// What measured it.
    pub(crate) command: String,
    /// What the server says that it is.
    pub(crate) server: String,
    /// Of the machine, shared by all.
    pub(crate) cores: usize,
    /// How long each strategy was run at each point.
    pub(crate) seconds: u64,
    pub(crate) points: Vec<Point>,
}

/// One run of the demo.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) replication_delay_ms: u64,
    pub(crate) write_percent: u64,
    pub(crate) strategies: Vec<Strategy>,
}

/// What the demo says of one strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Strategy {
    pub(crate) name: String,
    pub(crate) reads: u64,
    pub(crate) reads_per_second: f64,
    pub(crate) read_p50_us: u64,
    pub(crate) read_p99_us: u64,
    pub(crate) stale_reads: u64,
    pub(crate) at_risk_reads: u64,
    pub(crate) cache_reads: u64,
    pub(crate) replica_reads: u64,
    pub(crate) primary_reads: u64,
}

impl Point {
    /// From the demo's own JSON.
    pub(crate) fn read(write_percent: u64, json: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Report {
            parameters: Parameters,
            strategies: Vec<Strategy>,
        }
        #[derive(Deserialize)]
        struct Parameters {
            replication_delay_ms: u64,
        }
        let report: Report = serde_json::from_slice(json)?;
        Ok(Self {
            replication_delay_ms: report.parameters.replication_delay_ms,
            write_percent,
            strategies: report.strategies,
        })
    }
}

impl Strategy {
    /// Reads that did not burden the primary, in percent.
    pub(crate) fn off_primary(&self) -> f64 {
        let off = self.cache_reads + self.replica_reads;
        percent(off, off + self.primary_reads)
    }

    /// Reads that did not show the user's own last change, in percent.
    pub(crate) fn stale(&self) -> f64 {
        percent(self.stale_reads, self.reads)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage to draw")]
fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_s_report_is_read() {
        let json = br#"{"parameters": {"server": "redis-server", "replication_delay_ms": 20, "seconds": 1},
            "strategies": [{"name": "highwater", "reads": 200, "reads_per_second": 100.0, "read_p50_us": 1,
            "read_p99_us": 2, "stale_reads": 3, "at_risk_reads": 4, "cache_reads": 50, "replica_reads": 100,
            "primary_reads": 50}]}"#;
        let point = Point::read(10, json).unwrap();
        assert_eq!((point.replication_delay_ms, point.write_percent), (20, 10));
        assert!((point.strategies[0].off_primary() - 75.0).abs() < 1e-9);
        assert!((point.strategies[0].stale() - 1.5).abs() < 1e-9);
    }
}
