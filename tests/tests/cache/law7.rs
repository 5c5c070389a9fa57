//! Law 7 on a primary, which the cache rests on where there is no replica: when a reply on a tracked connection
//! shows offset *x*, the invalidations of all writes at or below *x* have come before it. Measured on the wire,
//! with writers on other connections, and with I/O threads.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use highwater_testkit::{Server, ServerKind, Topology};
use redis::{PushKind, Value};

use crate::common::SOON;

const KEYS: usize = 8;
const ROUNDS: usize = 400;
const WRITERS: usize = 3;

/// A connection that speaks RESP3.
struct Tracked {
    stream: BufReader<TcpStream>,
    parser: redis::Parser,
    /// The keys that have been invalidated, in the order in which that was read.
    invalidated: Vec<usize>,
}

impl Tracked {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut tracked = Self {
            stream: BufReader::new(stream),
            parser: redis::Parser::new(),
            invalidated: Vec::new(),
        };
        tracked.send(&[
            redis::cmd("HELLO").arg(3),
            redis::cmd("CLIENT").arg("TRACKING").arg("ON"),
        ]);
        tracked.reply();
        tracked.reply();
        tracked
    }

    fn send(&mut self, commands: &[&mut redis::Cmd]) {
        let packed: Vec<u8> = commands
            .iter()
            .flat_map(|command| command.get_packed_command())
            .collect();
        self.stream.get_mut().write_all(&packed).unwrap();
    }

    fn reply(&mut self) -> Value {
        loop {
            match self.parser.parse_value(&mut self.stream).unwrap() {
                Value::Push {
                    kind: PushKind::Invalidate,
                    data,
                } => {
                    let Some(Value::Array(keys)) = data.first() else {
                        continue;
                    };
                    for key in keys {
                        let key: String = redis::from_redis_value(key.clone()).unwrap();
                        self.invalidated
                            .push(key.trim_start_matches("law:").parse().unwrap());
                    }
                }
                value => return value,
            }
        }
    }
}

fn offset(info: &Value) -> u64 {
    let text: String = redis::from_redis_value(info.clone()).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("master_repl_offset:"));
    line.unwrap().trim().parse().unwrap()
}

/// Where each key's versions lie: the offset that an INFO behind the write has shown, by version.
type Marks = Arc<Vec<Mutex<Vec<u64>>>>;

fn write_keys(server: &Server, first: usize, marks: &Marks, stop: &AtomicBool) {
    let mut control = server.connect().unwrap();
    while !stop.load(Ordering::Relaxed) {
        for key in (first..KEYS).step_by(WRITERS) {
            // Under the lock, so that the reader takes versions and marks for what they are.
            let version = marks[key].lock().unwrap().len() + 1;
            let (name, version) = (format!("law:{key}"), version.to_string());
            control.command(&["SET", &name, &version]).unwrap();
            let mark = control.info_replication().unwrap().mark();
            marks[key].lock().unwrap().push(mark.offset);
        }
    }
}

/// Reads all keys and then INFO, over and over. Says how many writes at or below an INFO's offset it could check.
fn invalidations_come_first(arguments: &[&str]) -> usize {
    // A replica, so that the primary's stream moves.
    let topology = Topology::builder()
        .replicas(1)
        .primary_args(arguments.iter().copied())
        .start()
        .unwrap();
    let primary = topology.primary();
    let marks: Marks = Arc::new((0..KEYS).map(|_| Mutex::default()).collect());
    let stop = AtomicBool::new(false);
    let (mut checked, mut violations) = (0, Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (marks, stop) = (&marks, &stop);
            scope.spawn(move || write_keys(primary, writer, marks, stop));
        }
        let mut tracked = Tracked::connect(primary);
        let deadline = Instant::now() + 3 * SOON;
        for round in 0.. {
            if (round >= ROUNDS && checked >= 200) || Instant::now() > deadline {
                break;
            }
            let mut seen = Vec::new();
            for key in 0..KEYS {
                tracked.send(&[redis::cmd("GET").arg(format!("law:{key}"))]);
                let value = tracked.reply();
                seen.push(
                    redis::from_redis_value::<Option<usize>>(value)
                        .unwrap()
                        .unwrap_or(0),
                );
                // What came before the read is of earlier rounds.
                tracked.invalidated.retain(|other| *other != key);
            }
            tracked.send(&[redis::cmd("INFO").arg("replication")]);
            let reached = offset(&tracked.reply());
            for (key, seen) in seen.into_iter().enumerate() {
                // The version after the one that was read is at or below the offset: it must have been told of.
                let next = marks[key].lock().unwrap().get(seen).copied();
                if next.is_some_and(|next| next <= reached) {
                    checked += 1;
                    if !tracked.invalidated.contains(&key) {
                        violations.push(format!(
                            "law:{key} was written after version {seen}, below {reached}"
                        ));
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{checked} writes checked");
    assert!(violations.is_empty(), "{violations:?}");
    checked
}

#[test]
fn a_primary_tells_of_writes_before_it_shows_their_offset() {
    let checked = invalidations_come_first(&[]);
    assert!(checked >= 200, "{checked}");
}

#[test]
fn so_does_a_primary_with_io_threads() {
    let arguments: &[&str] = match ServerKind::from_env().unwrap() {
        // Threads also where there is little to do.
        ServerKind::Valkey => &["--io-threads", "4", "--events-per-io-thread", "0"],
        _ => &["--io-threads", "4", "--io-threads-do-reads", "yes"],
    };
    let checked = invalidations_come_first(arguments);
    assert!(checked >= 200, "{checked}");
}
