//! What a socket can carry: a batch of commands, all of their replies, the next batch. No client can do much better with
//! one connection, and none has to do so little.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Ports;
use crate::{
    data::{Data, KEYS, PIPELINE, Strings},
    measure::{Round, Task, nanoseconds},
    operation::Operation,
};

/// How many batches there are, one after the other.
const BATCHES: usize = 16;
const STUCK: Duration = Duration::from_secs(10);

/// What is sent, and what must come back.
#[derive(Debug, Default)]
struct Batch {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Batch {
    fn command(&mut self, arguments: &[&[u8]]) {
        self.request
            .extend(format!("*{}\r\n", arguments.len()).into_bytes());
        for argument in arguments {
            bulk(&mut self.request, argument);
        }
    }

    fn get(&mut self, strings: &Strings, place: usize) {
        self.command(&[b"GET", strings.keys[place].as_bytes()]);
        bulk(&mut self.reply, &strings.values[place]);
    }

    fn set(&mut self, strings: &Strings, place: usize) {
        self.command(&[b"SET", strings.keys[place].as_bytes(), &strings.values[place]]);
        self.reply.extend(b"+OK\r\n");
    }

    fn add(&mut self, operation: Operation, data: &Data, place: usize) {
        match operation {
            Operation::Get => self.get(&data.small, place),
            Operation::Get4k => self.get(&data.large, place),
            Operation::Set => self.set(&data.small_out, place),
            Operation::Set4k => self.set(&data.large_out, place),
            Operation::Pipeline => {
                for next in place..place + PIPELINE {
                    self.get(&data.small, next);
                }
            }
            Operation::Hgetall => {
                self.command(&[b"HGETALL", data.hashes[place].as_bytes()]);
                let fields = &data.fields[place];
                self.reply
                    .extend(format!("*{}\r\n", 2 * fields.len()).into_bytes());
                // In the order in which they were stored: small hashes keep it.
                for (field, value) in fields {
                    bulk(&mut self.reply, field.as_bytes());
                    bulk(&mut self.reply, value.as_bytes());
                }
            }
            Operation::Mix | Operation::DelayedMix => panic!("a raw socket has no sessions"),
        }
    }
}

fn bulk(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(format!("${}\r\n", bytes.len()).into_bytes());
    to.extend(bytes);
    to.extend(b"\r\n");
}

/// Does a task on one socket. An operation takes as long as its batch.
pub(super) async fn lock_step(ports: Ports, task: &Task) -> Round {
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|number| {
            let mut batch = Batch::default();
            for caller in 0..task.concurrency {
                batch.add(
                    task.operation,
                    &task.data,
                    (number * task.concurrency + caller) % KEYS,
                );
            }
            batch
        })
        .collect();
    let port = if task.operation.writes_only() {
        ports.primary
    } else {
        ports.replica
    };
    // In a task of its own, as callers are.
    let (concurrency, duration) = (task.concurrency, task.duration);
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let longest = batches
            .iter()
            .map(|batch| batch.reply.len())
            .max()
            .unwrap_or_default();
        let mut room = vec![0; longest];
        let mut times = Vec::with_capacity(1 << 20);
        let start = Instant::now();
        let mut begun = start;
        for batch in batches.iter().cycle() {
            let reply = &mut room[..batch.reply.len()];
            let exchange = async {
                // Large batches fill both directions: neither may wait for the other.
                let (mut reader, mut writer) = stream.split();
                let (written, read) =
                    tokio::join!(writer.write_all(&batch.request), reader.read_exact(reply));
                written.unwrap();
                read.unwrap();
            };
            timeout(STUCK, exchange)
                .await
                .expect("replies of the expected length");
            assert!(*reply == batch.reply, "other replies than expected");
            let now = Instant::now();
            times.extend(std::iter::repeat_n(nanoseconds(now - begun), concurrency));
            begun = now;
            if now - start >= duration {
                break;
            }
        }
        Round::new(times, start.elapsed(), 0)
    })
    .await
    .expect("the raw socket")
}
