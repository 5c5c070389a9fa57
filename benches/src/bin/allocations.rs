//! What the contenders allocate an operation. A program of its own, because counting costs time: `cargo xtask bench`
//! runs it first. With `--memory`, what connections, requests and cached entries take.
#![allow(clippy::expect_used, reason = "a bench that can't go on must stop")]

use std::alloc::System;

use clap::Parser;
use highwater_benches::{
    contenders::Contender, memory::memory, options::Common, placement::Placement, stage::Stage,
};
use highwater_testkit::Topology;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Count what highwater and others allocate for an operation
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Instead: bytes of a connection, of a request in flight, of a cached entry
    #[arg(long)]
    memory: bool,
}

fn main() {
    let Args { common, memory } = Args::parse();
    let topology = Stage::servers(common.server, common.replicas.into());
    let workers = common.workers.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime");
    if memory {
        runtime.block_on(weigh(&topology, &common));
        return;
    }
    let counts = runtime.block_on(async { count(&mut Stage::new(topology, None).await, &common).await });
    if common.json {
        println!("{}", json!(counts));
    }
}

async fn weigh(topology: &Topology, common: &Common) {
    let live = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated as f64 - stats.bytes_deallocated as f64
    };
    let all = memory(topology, live).await;
    if common.json {
        println!("{}", json!({ "memory": all }));
        return;
    }
    println!("bytes that are allocated, on average of so many");
    for one in all {
        println!("{:<40} {:>9.0} {:>8}", one.what, one.bytes, one.count);
    }
}

async fn count(stage: &mut Stage, common: &Common) -> Vec<serde_json::Value> {
    let mut counts = Vec::new();
    for operation in common.operations() {
        for concurrency in common.concurrencies(operation, Placement::Unpinned) {
            stage.prepare(operation, concurrency, common).await;
            for contender in stage.contenders(operation, &common.contenders()) {
                // A process of its own.
                if contender == Contender::ServerBenchmark {
                    continue;
                }
                // Warms up: buffers have their sizes after it.
                stage.round(contender, operation, concurrency, common).await;
                let region = Region::new(ALLOCATOR);
                let operations = stage
                    .round(contender, operation, concurrency, common)
                    .await
                    .round
                    .operations;
                let change = region.change();
                let each = |count: usize| count as f64 / operations.max(1) as f64;
                let (allocations, bytes) = (
                    each(change.allocations + change.reallocations),
                    each(change.bytes_allocated),
                );
                if !common.json {
                    println!(
                        "{:<12} {concurrency:>5} {:<22} {allocations:>8.2} allocations {bytes:>8.0} bytes",
                        operation.name(),
                        contender.name(),
                    );
                }
                counts.push(json!({
                    "operation": operation.name(),
                    "concurrency": concurrency,
                    "contender": contender.name(),
                    "allocations": allocations,
                    "bytes": bytes,
                }));
            }
        }
    }
    counts
}
