//! The small pieces of the hot path: `cargo bench --bench micro`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make public items"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use highwater::{
    Edges, History, Mark, Marks, Offset, Progress, Scope, Session, SigningKey, TokenCodec, internals,
};

const INFO: &[u8] = b"# Replication\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:11111\r\n\
master_link_status:up\r\nmaster_last_io_seconds_ago:1\r\nmaster_sync_in_progress:0\r\n\
slave_read_repl_offset:1234567\r\nslave_repl_offset:1234567\r\nslave_priority:100\r\nslave_read_only:1\r\n\
replica_announced:1\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
master_replid:8371445ab47aefbc94b3e4bbbd7db4ca1d2c0b1c\r\n\
master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:1234567\r\n\
second_repl_offset:-1\r\nrepl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n\
repl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:1234567\r\n";

fn mark() -> Mark {
    Mark {
        scope: Scope::default(),
        history: History::from_bytes([0x83; 20]),
        offset: Offset::at(1_234_567),
    }
}

fn core(criterion: &mut Criterion) {
    criterion.bench_function("progress: scan of INFO replication", |bencher| {
        bencher.iter(|| Progress::scan(black_box(INFO)).unwrap());
    });
    let progress = Progress::scan(INFO).unwrap();
    let edges = Edges::default();
    criterion.bench_function("coverage: same history", |bencher| {
        bencher.iter(|| progress.covers(black_box(progress.history), Offset::at(1000), &edges));
    });
    let codec = TokenCodec::signed(SigningKey::new([7; 32]).unwrap());
    let mut marks = Marks::new();
    marks.add_written(&mark());
    let token = codec.encode(&marks, 1_700_000_000);
    criterion.bench_function("token: encode and sign", |bencher| {
        bencher.iter(|| codec.encode(black_box(&marks), 1_700_000_000));
    });
    criterion.bench_function("token: verify and decode", |bencher| {
        bencher.iter(|| codec.decode(black_box(token.as_bytes()), 1_700_000_000).unwrap());
    });
    let session = Session::resume(marks);
    let scope = Scope::default();
    criterion.bench_function("session: requirement", |bencher| {
        bencher.iter(|| session.requirement(black_box(&scope), highwater::Consistency::ReadYourWrites));
    });
}

fn replies(criterion: &mut Criterion) {
    let mut bulk = b"$100\r\n".to_vec();
    bulk.extend_from_slice(&[b'x'; 100]);
    bulk.extend_from_slice(b"\r\n");
    let mut hash = b"%20\r\n".to_vec();
    for field in 0..20 {
        hash.extend_from_slice(format!("$7\r\nfield{field:02}\r\n$5\r\nvalue\r\n").as_bytes());
    }
    for (name, reply) in [("100 bytes", bulk), ("hash of 20 fields", hash)] {
        criterion.bench_function(&format!("reply of {name}: highwater"), |bencher| {
            bencher.iter(|| internals::parse_reply(black_box(&reply)).unwrap());
        });
        criterion.bench_function(&format!("reply of {name}: redis-rs"), |bencher| {
            bencher.iter(|| redis::parse_redis_value(black_box(&reply)).unwrap());
        });
    }
}

fn commands(criterion: &mut Criterion) {
    let mut get = redis::cmd("GET");
    get.arg("key:000000000042");
    criterion.bench_function("command: encode", |bencher| {
        bencher.iter(|| highwater::Command::new(black_box(&get)));
    });
    let table = internals::Classifier::default();
    let command = highwater::Command::new(&get);
    criterion.bench_function("command: classify", |bencher| {
        bencher.iter(|| table.classify(black_box(&command)));
    });
}

criterion_group!(all, core, replies, commands);
criterion_main!(all);
