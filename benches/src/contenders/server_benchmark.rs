//! `redis-benchmark` or `valkey-benchmark`, where it is installed beside the server or on `PATH`. It verifies nothing.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
};

use highwater_testkit::ServerKind;

use super::Ports;
use crate::{
    data::KEYS,
    measure::{Round, Task},
    operation::Operation,
};

/// The program.
#[derive(Debug)]
pub(super) struct ServerBenchmark {
    program: PathBuf,
    /// Operations per second of the last run: it takes a number of operations, not a time.
    rate: Mutex<f64>,
}

impl ServerBenchmark {
    pub(super) fn find(kind: ServerKind) -> Option<Self> {
        let name = kind.program().replace("-server", "-benchmark");
        let beside = kind.binary().ok()?.parent()?.join(&name);
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).map(|directory| directory.join(&name));
        let program = std::iter::once(beside)
            .chain(on_path)
            .find(|file| file.is_file())?;
        Some(Self {
            program,
            rate: Mutex::new(20_000.0),
        })
    }

    /// Runs it, and waits for it.
    pub(super) fn run(&self, ports: Ports, task: &Task) -> Round {
        let value = "v".repeat(100);
        let (port, command) = match task.operation {
            Operation::Get => (ports.replica, vec!["GET", "key:__rand_int__"]),
            Operation::Set => (ports.primary, vec!["SET", "bnc:__rand_int__", &value]),
            other => panic!("the server's benchmark is not asked for {}", other.name()),
        };
        let mut rate = self.rate.lock().unwrap();
        let operations = (*rate * task.duration.as_secs_f64())
            .max(task.concurrency as f64)
            .ceil();
        let output = Command::new(&self.program)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--csv", "-c", "1"])
            .args(["-P", &task.concurrency.to_string(), "-n", &operations.to_string()])
            .args(["-r", &KEYS.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("the server's benchmark");
        assert!(output.status.success(), "the server's benchmark failed");
        let said = String::from_utf8_lossy(&output.stdout);
        let [per_second, p50, p99] = read(&said).unwrap_or_else(|| panic!("unexpected words: {said}"));
        *rate = per_second;
        Round {
            operations: operations as u64,
            per_second,
            p50: p50 * 1e3,
            p99: p99 * 1e3,
            p999: None,
            stale: 0,
        }
    }
}

/// The rate, and two latencies in milliseconds, by the names in the first line.
fn read(csv: &str) -> Option<[f64; 3]> {
    let mut lines = csv.lines().filter(|line| line.starts_with('"'));
    let names: Vec<&str> = lines.next()?.split(',').collect();
    let values: Vec<&str> = lines.next()?.split(',').collect();
    let of = |name: &str| {
        let place = names.iter().position(|column| column.trim_matches('"') == name)?;
        // From the end: the command's text may hold commas.
        let value = values.get((values.len() + place).checked_sub(names.len())?)?;
        value.trim_matches('"').parse().ok()
    };
    Some([of("rps")?, of("p50_latency_ms")?, of("p99_latency_ms")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_by_names() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
            \"p99_latency_ms\",\"max_latency_ms\"\n\"GET a,b\",\"1000.50\",\"0.1\",\"0.2\",\"0.3\",\"0.4\",\"0.5\",\"0.6\"\n";
        assert_eq!(read(csv), Some([1000.5, 0.3, 0.5]));
        assert_eq!(read("oops"), None);
    }
}
