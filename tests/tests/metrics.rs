//! Every documented metric is recorded by real reads and writes, and no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use common::{SOON, fail_over, get, until};
use highwater::{
    CacheOptions, Client, Command, Consistency, History, METRICS, Mark, Marks, MetricKind, Offset, Scope,
    Session,
};
use highwater_testkit::{Relay, Topology, wait_until};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use redis::AsyncCommands;

/// A row of the documentation's table: name, kind, unit, labels.
type Row = (String, String, String, BTreeSet<String>);

fn documented() -> Vec<Row> {
    let code = |cell: &str| cell.trim().trim_matches('`').to_owned();
    include_str!("../../docs/OBSERVABILITY.md")
        .lines()
        .filter(|line| line.starts_with("| `highwater_"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            let labels = cells[4].split(',').map(code).collect();
            (code(cells[1]), code(cells[2]), code(cells[3]), labels)
        })
        .collect()
}

#[test]
fn the_table_of_the_documentation_is_that_of_the_code() {
    let known: Vec<Row> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            (
                metric.name.to_owned(),
                metric.kind.as_str().to_owned(),
                metric.unit.to_owned(),
                labels,
            )
        })
        .collect();
    assert_eq!(documented(), known);
}

/// What has been recorded so far; a snapshot takes counts away from the recorder.
struct Seen {
    snapshotter: Snapshotter,
    /// The sum of a counter, the highest of a gauge, the number of values of a histogram.
    totals: BTreeMap<String, f64>,
    /// Each gauge's last value.
    gauges: BTreeMap<String, f64>,
    labels: BTreeMap<String, BTreeSet<String>>,
    values: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let name = key.key().name().to_owned();
            for label in key.key().labels() {
                self.labels
                    .entry(name.clone())
                    .or_default()
                    .insert(label.key().to_owned());
                self.values.insert(label.value().to_owned());
            }
            let total = self.totals.entry(name.clone()).or_default();
            match value {
                #[allow(clippy::cast_precision_loss, reason = "small numbers")]
                DebugValue::Counter(count) => *total += count as f64,
                DebugValue::Gauge(value) => {
                    *total = total.max(value.0);
                    let last = self.gauges.entry(name).or_default();
                    // Of several nodes, the highest.
                    *last = value.0;
                }
                DebugValue::Histogram(values) => {
                    *total += u32::try_from(values.len()).map_or(0.0, f64::from);
                }
            }
        }
    }

    fn total(&mut self, name: &str) -> f64 {
        self.look();
        self.totals.get(name).copied().unwrap_or_default()
    }

    async fn until_counted(&mut self, name: &str) {
        until(name, || self.total(name) > 0.0).await;
    }
}

fn unknown_history() -> Session {
    let session = Session::new();
    session.add_written(&Mark {
        scope: Scope::default(),
        history: History::from_bytes([0xab; 20]),
        offset: Offset::at(7),
    });
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_is_recorded_and_no_other() {
    let recorder = DebuggingRecorder::new();
    let mut seen = Seen {
        snapshotter: recorder.snapshotter(),
        totals: BTreeMap::new(),
        gauges: BTreeMap::new(),
        labels: BTreeMap::new(),
        values: BTreeSet::new(),
    };
    recorder.install().unwrap();

    let topology = Topology::builder().replicas(2).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .max_wait(SOON)
        .response_timeout(SOON)
        .connect()
        .await
        .unwrap();

    // Reads and writes, and a read that waits.
    let session = Session::new();
    let () = client
        .with(&session)
        .set("secret-key", "secret-value")
        .await
        .unwrap();
    topology
        .relays()
        .for_each(|relay| relay.set_delay(Duration::from_millis(20)));
    // Until the client has seen how late the replicas are.
    let deadline = Instant::now() + SOON;
    while seen.total("highwater_read_wait_milliseconds") == 0.0 {
        assert!(Instant::now() < deadline);
        let () = client
            .with(&session)
            .set("secret-key", "secret-value")
            .await
            .unwrap();
        let _: String = client.with(&session).get("secret-key").await.unwrap();
    }

    // A replica that stays behind, and reads that it can't answer.
    topology.relays().for_each(|relay| relay.pause());
    let hasty = common::builder_through(&front, &topology)
        .max_wait(Duration::ZERO)
        .connect()
        .await
        .unwrap();
    let lost = Session::new();
    let () = hasty.with(&lost).set("secret-key", "secret-value").await.unwrap();
    let _: String = hasty.with(&lost).get("secret-key").await.unwrap();
    for name in [
        "highwater_fallbacks_total",
        "highwater_replica_lag_bytes",
        "highwater_replica_lag_milliseconds",
    ] {
        let deadline = Instant::now() + SOON;
        while seen.total(name) == 0.0 {
            assert!(Instant::now() < deadline, "{name}");
            let () = hasty.with(&lost).set("secret-key", "secret-value").await.unwrap();
            let _: String = hasty.with(&lost).get("secret-key").await.unwrap();
        }
    }

    // Marks that can't be honoured.
    let _ = hasty.call(get("k", &unknown_history())).await.unwrap();
    let beyond = Session::new();
    beyond.add_written(&Mark {
        scope: Scope::default(),
        history: client.status().primary.history.unwrap().parse().unwrap(),
        offset: Offset::at(1 << 50),
    });
    let _ = hasty.call(get("k", &beyond)).await.unwrap();
    let _ = hasty
        .call(get("k", &Session::resume(Marks::in_doubt())))
        .await
        .unwrap();

    // A bound of staleness, with no recent sample of the primary.
    let bounded = Consistency::BoundedStaleness(Duration::from_millis(10));
    let deadline = Instant::now() + SOON;
    while seen.total("highwater_staleness_samples_total") == 0.0 {
        assert!(Instant::now() < deadline);
        // Each read of the primary is a sample of it, so they must not follow each other closely.
        until("no recent sample", || {
            hasty.status().primary.sample_age_ms.is_some_and(|age| age > 20)
        })
        .await;
        let _ = hasty
            .call(Command::new(redis::cmd("GET").arg("k")).level(bounded))
            .await
            .unwrap();
    }

    // A caller that goes away, and a connection that is lost, under writes.
    for cut in [false, true] {
        until("nothing is in flight", || client.status().primary.in_flight == 0).await;
        topology.primary().pause().unwrap();
        let (writer, session) = (client.clone(), Session::new());
        let write = tokio::spawn(async move {
            let command = redis::cmd("SET").arg("k").arg(1).clone();
            writer.call(Command::new(&command).session(&session)).await
        });
        until("the write is under way", || {
            client.status().primary.in_flight == 1
        })
        .await;
        seen.look();
        if cut {
            front.cut();
            assert!(write.await.unwrap().is_err());
        } else {
            write.abort();
            assert!(write.await.unwrap_err().is_cancelled());
        }
        topology.primary().resume().unwrap();
    }
    for name in [
        "highwater_writes_settled_total",
        "highwater_writes_in_doubt_total",
        "highwater_disconnects_total",
    ] {
        seen.until_counted(name).await;
    }

    // A failover that loses a write.
    fail_over(&client, &front, &topology, 0).await;
    until("both clients follow", || {
        hasty.status().primary.history == client.status().primary.history
    })
    .await;
    let reply = hasty.call(get("k", &lost)).await.unwrap();
    assert_eq!(reply.reason, highwater::Reason::PossiblyLost);

    use_a_cache(&mut seen).await;
    use_a_bound(&mut seen).await;

    seen.look();
    for metric in METRICS {
        let total = seen.totals.get(metric.name).copied().unwrap_or_default();
        assert!(total > 0.0, "{} was not recorded", metric.name);
        let labels: BTreeSet<_> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(seen.labels.get(metric.name), Some(&labels), "{}", metric.name);
    }
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let others: Vec<_> = seen
        .totals
        .keys()
        .filter(|name| !names.contains(name.as_str()))
        .collect();
    assert_eq!(others, Vec::<&String>::new());
    assert!(
        seen.values.iter().all(|value| !value.contains("secret")),
        "{:?}",
        seen.values
    );
    let kinds = METRICS
        .iter()
        .filter(|metric| metric.kind == MetricKind::Gauge)
        .count();
    assert_eq!(seen.gauges.len(), kinds);
    // Everything that was begun has ended.
    wait_until(SOON, "nothing is in flight", || {
        seen.look();
        seen.gauges["highwater_in_flight"] == 0.0
    })
    .unwrap();
}

/// All that the near cache counts happens once at least.
async fn use_a_cache(seen: &mut Seen) {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let between = Relay::start(topology.replica(0).addr()).unwrap();
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica(between.url())
        .response_timeout(2 * SOON)
        .cache(CacheOptions::new(1 << 20))
        .connect()
        .await
        .unwrap();
    until("the feed is up", || client.status().cache.unwrap().on).await;
    let kept = Session::new();
    until("something is kept", || {
        let (caller, read) = (client.clone(), get("k", &kept));
        tokio::spawn(async move { caller.call(read).await });
        client.cache_stats().entries > 0
    })
    .await;
    seen.until_counted("highwater_cache_misses_total").await;
    seen.until_counted("highwater_cache_fills_total").await;
    seen.until_counted("highwater_cache_weight_bytes").await;

    // A session that has written something else: a probe, unless the feed was asked for its own sake just then. One that
    // the replica can't serve: no hit.
    let session = Session::new();
    let deadline = Instant::now() + SOON;
    while client.cache_stats().probes == 0 {
        assert!(Instant::now() < deadline);
        client.call(common::set("other", "v", &session)).await.unwrap();
        topology.wait_in_sync(SOON).unwrap();
        let _ = client.call(get("k", &session)).await.unwrap();
    }
    seen.until_counted("highwater_cache_probes_total").await;
    topology.relay(0).pause();
    client.call(common::set("other", "w", &session)).await.unwrap();
    let deadline = Instant::now() + SOON;
    while client.cache_stats().not_covered == 0 {
        assert!(Instant::now() < deadline);
        let _ = client.call(get("k", &session)).await.unwrap();
    }
    seen.until_counted("highwater_cache_not_covered_total").await;
    topology.relay(0).resume();

    // A fill that a write overtakes, between its reply and its INFO.
    let before = common::calls(topology.replica(0), "strlen");
    between.hold_when("STRLEN\r\n$1\r\nk\r\n");
    let filling = tokio::spawn({
        let client = client.clone();
        async move { client.call(Command::new(redis::cmd("STRLEN").arg("k"))).await }
    });
    between.wait_held(SOON).await.unwrap();
    until("the server has the read", || {
        common::calls(topology.replica(0), "strlen") > before
    })
    .await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    between.release();
    filling.await.unwrap().unwrap();
    seen.until_counted("highwater_cache_lost_races_total").await;
    seen.until_counted("highwater_cache_invalidations_total").await;
    topology.primary().command(&["FLUSHALL"]).unwrap();
    seen.until_counted("highwater_cache_flushes_total").await;
    client.shutdown().await.unwrap();
}

/// Reads in the place of replicas wait for each other, and one waits in vain.
async fn use_a_bound(seen: &mut Seen) {
    let topology = Topology::builder().start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .max_fallbacks(1)
        .fallback_wait(Duration::from_millis(10))
        .connect()
        .await
        .unwrap();
    let read = get("k", &Session::new());
    front.pause();
    let (one, other) = tokio::join!(client.call(read.clone()), async {
        let refused = client.call(read.clone()).await;
        front.resume();
        refused
    });
    one.unwrap();
    other.unwrap_err();
    seen.until_counted("highwater_fallback_waits_total").await;
    seen.until_counted("highwater_fallbacks_refused_total").await;
    client.shutdown().await.unwrap();
}
