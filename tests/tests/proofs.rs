//! What admits a reply: one proof a flush, bound to the reply it is for. Each test makes a replica show
//! an old value in a way that a weaker check lets pass (numbers of laws: the protocol facts).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::time::{Duration, Instant};

use common::{NO_PINGS, SOON, bulk, get, in_doubt, quiet, set, until, written};
use highwater::{CacheMode, CacheOptions, Client, Command, Consistency, Reason, Route, Session};
use highwater_testkit::{Mark, Relay, Topology};

const LEADING_INFO: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

/// A primary, a replica that is read from, and one that lags and is there to be followed.
struct Moving {
    topology: Topology,
}

impl Moving {
    const READ: usize = 0;
    const LAGGING: usize = 1;

    /// `k` is `old` everywhere.
    fn start(load: &str) -> Self {
        let topology = Topology::builder()
            .replicas(2)
            .primary_args(NO_PINGS)
            .replica_args(["--repl-diskless-load", load])
            .start()
            .unwrap();
        topology.primary().command(&["SET", "k", "old"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relay(Self::LAGGING).pause();
        Self { topology }
    }

    /// Puts the replica that is read from back in time, in the same history: it follows the one that
    /// lags. Returns once it shows the old value again.
    fn go_back(&self, from: Mark) {
        let replica = self.topology.replica(Self::READ);
        replica
            .replicaof("127.0.0.1", self.topology.replica(Self::LAGGING).port())
            .unwrap();
        replica
            .wait_for(SOON, "the moved replica has gone back", |info| {
                info.link_up && info.replid == from.history && (2..from.offset).contains(&info.applied())
            })
            .unwrap();
        assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("old"));
    }
}

/// Law 3: a flush is split after its INFO, and the replica goes back between INFO and GET. Only the null
/// push in between tells.
async fn a_split_flush_is_no_proof(load: &str, level: Consistency) {
    let moving = Moving::start(load);
    let topology = &moving.topology;
    let between = Relay::start(topology.replica(Moving::READ).addr()).unwrap();
    let client = Client::builder()
        .primary(topology.primary().url())
        .replica(between.url())
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    session.set_level(level);
    client.call(set("k", "new", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(Moving::READ, mark, SOON).unwrap();

    let mut get = redis::cmd("GET");
    get.arg("k");
    let rest = get.get_packed_command().len()
        + if level == Consistency::Monotonic {
            LEADING_INFO.len()
        } else {
            0
        };
    let read = loop {
        // The client has seen the replica at the mark, so that the next read goes there at once.
        assert_eq!(
            client.call(common::get("k", &session)).await.unwrap().value,
            bulk("new")
        );
        let before = between.stats();
        between.hold_when(LEADING_INFO);
        let read = tokio::spawn({
            let (client, session) = (client.clone(), session.clone());
            async move { client.call(common::get("k", &session)).await }
        });
        between.wait_held(SOON).await.unwrap();
        // Now and then the client asks for its own sake, and the hold is at that INFO. On a busy machine, what
        // it has seen can be too old, and the read goes to the primary.
        let mut stats = before;
        highwater_testkit::wait_until_async(SOON, "the read has been sent", || {
            stats = between.stats();
            read.is_finished()
                || stats.received.to_target >= before.received.to_target + (LEADING_INFO.len() + rest) as u64
        })
        .await
        .unwrap();
        if !read.is_finished() && stats.received.to_target - stats.forwarded.to_target == rest as u64 {
            break read;
        }
        between.release();
        assert_eq!(read.await.unwrap().unwrap().value, bulk("new"));
    };

    moving.go_back(mark);
    assert!(!read.is_finished());
    between.release();
    let reply = read.await.unwrap().unwrap();
    assert_eq!(
        (reply.value, reply.route),
        (bulk("new"), Route::Primary),
        "{load} {level}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_push_voids_the_proof_when_the_data_is_loaded_from_disk() {
    a_split_flush_is_no_proof("disabled", Consistency::ReadYourWrites).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_push_voids_the_proof_when_the_data_is_swapped() {
    a_split_flush_is_no_proof("swapdb", Consistency::ReadYourWrites).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_push_voids_the_proof_with_a_trailing_info() {
    a_split_flush_is_no_proof("disabled", Consistency::Monotonic).await;
    a_split_flush_is_no_proof("swapdb", Consistency::Monotonic).await;
}

/// The same for the upper bound: the replica goes back between GET and the INFO that trails it, and what
/// that says is less than what the caller has seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_push_voids_the_upper_bound() {
    for load in ["disabled", "swapdb"] {
        let moving = Moving::start(load);
        let topology = &moving.topology;
        let between = Relay::start(topology.replica(Moving::READ).addr()).unwrap();
        let client = Client::builder()
            .primary(topology.primary().url())
            .replica(between.url())
            .level(Consistency::Monotonic)
            .response_timeout(2 * SOON)
            .connect()
            .await
            .unwrap();
        topology.primary().command(&["SET", "k", "new"]).unwrap();
        let mark = topology.primary().mark().unwrap();
        topology.wait_applied(Moving::READ, mark, SOON).unwrap();

        // A reader that has written nothing.
        let session = Session::new();
        let mut get = redis::cmd("GET");
        get.arg("k");
        between.hold_when(get.get_packed_command());
        let read = tokio::spawn({
            let (client, command) = (client.clone(), Command::new(&get).session(&session));
            async move { client.call(command).await }
        });
        between.wait_held(SOON).await.unwrap();
        moving.go_back(mark);
        between.release();
        let first = read.await.unwrap().unwrap().value;
        let second = client
            .call(Command::new(&get).session(&session))
            .await
            .unwrap()
            .value;
        assert!(
            first == bulk("old") || second == bulk("new"),
            "{load}: {first:?}, then {second:?}"
        );
    }
}

/// While a replica receives what a full resync will put in the place of its data, it serves the data that it has, and
/// Redis 6.2 says offset 1 of it: no null push has come yet, and what it says bounds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_has_begun_voids_the_upper_bound() {
    resync_begins(None).await;
}

/// Nor does it bound what the near cache is filled with meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_has_begun_voids_the_upper_bound_of_fills() {
    for mode in [CacheMode::Tracking, CacheMode::TtlOnly(SOON)] {
        resync_begins(Some(CacheOptions::new(1 << 20).mode(mode))).await;
    }
}

async fn resync_begins(cache: Option<CacheOptions>) {
    let topology = Topology::builder()
        .replicas(2)
        .primary_args(NO_PINGS)
        .primary_args(["--repl-backlog-size", "16kb", "--repl-diskless-sync", "no"])
        .replica_args(["--repl-diskless-load", "disabled"])
        .start()
        .unwrap();
    let (replica, link) = (topology.replica(0), topology.relay(0));
    let primary_says = |key, value: &str| topology.primary().command(&["SET", key, value]).unwrap();
    primary_says("k", "old");
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(1).pause();
    primary_says("k", "new");
    topology
        .wait_applied(0, topology.primary().mark().unwrap(), SOON)
        .unwrap();
    let between = Relay::start(replica.addr()).unwrap();
    let connect = |replica: String, cache: Option<CacheOptions>| {
        let builder = Client::builder()
            .primary(topology.primary().url())
            .replica(replica)
            .level(Consistency::Monotonic)
            .response_timeout(2 * SOON);
        match cache {
            Some(cache) => builder.cache(cache),
            None => builder,
        }
        .connect()
    };
    let get = redis::cmd("GET").arg("k").to_owned();
    let resyncing = connect(between.url(), cache).await.unwrap();
    until("the cache is on", || {
        resyncing.status().cache.is_none_or(|cache| cache.on)
    })
    .await;
    let lagging = connect(topology.replica(1).url(), None).await.unwrap();

    let session = Session::new();
    between.hold_when(get.get_packed_command());
    let read = tokio::spawn({
        let (client, command) = (resyncing.clone(), Command::new(&get).session(&session));
        async move { client.call(command).await }
    });
    between.wait_held(SOON).await.unwrap();
    link.refuse(true);
    link.cut();
    // More than the backlog holds, and more than comes over the slow link in this test's time.
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(4 << 20)
        .collect();
    primary_says("noise", &noise);
    link.set_rate(Some(20_000));
    link.refuse(false);
    replica
        .wait_for(SOON, "the replica has begun a full resync", |info| {
            info.sync_in_progress
        })
        .unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap().text(), Some("new"));
    between.release();
    let first = read.await.unwrap().unwrap();
    assert_eq!(first.value, bulk("new"));
    let second = lagging.call(Command::new(&get).session(&session)).await.unwrap();
    assert_eq!(
        second.value,
        bulk("new"),
        "from {:?}, after {:?}",
        second.route,
        first.route
    );
}

/// A monotonic read leaves a mark that is no lower than what it has shown, also when that was written
/// between the INFO that leads its flush and the read itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_upper_bound_covers_what_was_seen() {
    let topology = quiet(2);
    let set = |value| topology.primary().command(&["SET", "k", value]).unwrap();
    set("old");
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(1).pause();
    let between = Relay::start(topology.replica(0).addr()).unwrap();
    let connect = |replica: String| {
        Client::builder()
            .primary(topology.primary().url())
            .replica(replica)
            .level(Consistency::Monotonic)
            .response_timeout(2 * SOON)
            .connect()
    };
    let ahead = connect(between.url()).await.unwrap();
    let lagging = connect(topology.replica(1).url()).await.unwrap();

    let session = Session::new();
    between.hold_when(LEADING_INFO);
    let read = tokio::spawn({
        let (client, command) = (ahead.clone(), get("k", &session));
        async move { client.call(command).await }
    });
    between.wait_held(SOON).await.unwrap();
    set("new");
    topology
        .wait_applied(0, topology.primary().mark().unwrap(), SOON)
        .unwrap();
    between.release();
    let reply = read.await.unwrap().unwrap();
    assert_eq!((reply.value, reply.route), (bulk("new"), Route::Replica));
    let reply = lagging.call(get("k", &session)).await.unwrap();
    assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
}

/// Law 4: that a replica has been past the mark says nothing of where it is now, on the same
/// connection and in the same history.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_had_reached_is_not_remembered() {
    for load in ["disabled", "swapdb"] {
        let moving = Moving::start(load);
        let topology = &moving.topology;
        let client = Client::builder()
            .primary(topology.primary().url())
            .replica(topology.replica(Moving::READ).url())
            .connect()
            .await
            .unwrap();
        let session = Session::new();
        client.call(set("k", "new", &session)).await.unwrap();
        let mark = written(&session).unwrap();
        topology.wait_applied(Moving::READ, mark, SOON).unwrap();
        common::from_a_replica(&client, &get("k", &session), &bulk("new")).await;

        // Reads go on all the time, so that there is one at every moment of the move.
        let back = std::thread::scope(|scope| {
            let back = scope.spawn(|| moving.go_back(mark));
            tokio::task::block_in_place(|| {
                let runtime = tokio::runtime::Handle::current();
                while !back.is_finished() {
                    let reply = runtime.block_on(client.call(get("k", &session))).unwrap();
                    assert_eq!(reply.value, bulk("new"), "{load}, from {:?}", reply.route);
                }
            });
            back.join()
        });
        back.unwrap();
        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!(
            (reply.value, reply.route),
            (bulk("new"), Route::Primary),
            "{load}"
        );
        let status = client.status();
        assert_eq!(
            status.replicas[0].disconnects, 0,
            "the replica's connection stays open"
        );
        assert_eq!(status.replicas[0].history, Some(mark.history.to_string()));
    }
}

/// Law 5: the primary was restarted behind a dead link, and its replica, which has noticed nothing, is
/// further in the old history than the mark is in the new one.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_different_histories_are_never_compared() {
    let topology = quiet(2);
    let primary = topology.primary();
    for _ in 0..200 {
        primary.command(&["SET", "k", "old"]).unwrap();
    }
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).black_hole(true);
    primary.kill();
    primary.restart().unwrap();
    // The other replica follows, so that the new history's offsets move.
    topology
        .replica(1)
        .wait_for(SOON, "the other replica follows the restarted primary", |info| {
            info.link_up && primary.mark().is_ok_and(|mark| mark.history == info.replid)
        })
        .unwrap();

    let client = Client::builder()
        .primary(primary.url())
        .replica(topology.replica(0).url())
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    client.call(set("k", "new", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    let trap = topology.replica(0).info_replication().unwrap();
    assert!(
        trap.link_up && trap.replid != mark.history && trap.applied() > mark.offset,
        "{trap:?}"
    );
    assert!(mark.offset > 0);
    assert_eq!(
        topology.replica(0).command(&["GET", "k"]).unwrap().text(),
        Some("old")
    );
    for level in [Consistency::ReadYourWrites, Consistency::Monotonic] {
        for _ in 0..20 {
            let reply = client.call(get("k", &session).level(level)).await.unwrap();
            assert_eq!(
                (reply.value, reply.route),
                (bulk("new"), Route::Primary),
                "{level}"
            );
        }
    }
    assert!(
        topology.replica(0).info_replication().unwrap().link_up,
        "the trap was one all along"
    );
}

/// Inside MULTI and scripts INFO shows the offset from before: the mark must come from after.
#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_transaction_or_script_covers_its_writes() {
    let topology = quiet(1);
    let client = common::client(&topology).await;
    let mut transaction = redis::pipe();
    transaction.atomic().set("k", "old").incr("n", 1).set("k", "new");
    let mut script = redis::cmd("EVAL");
    script
        .arg("redis.call('SET', KEYS[1], 'old'); redis.call('SET', KEYS[1], ARGV[1]); return 1")
        .arg(1)
        .arg("k")
        .arg("new");
    let mut failing = redis::cmd("EVAL");
    failing
        .arg("redis.call('SET', KEYS[1], ARGV[1]); return redis.error_reply('FAILED late')")
        .arg(1)
        .arg("k")
        .arg("new");
    // A code by which a server says that it has written nothing.
    let mut refusing = redis::cmd("EVAL");
    refusing
        .arg("redis.call('SET', KEYS[1], ARGV[1]); return redis.error_reply('NOAUTH wrong pin')")
        .arg(1)
        .arg("k")
        .arg("new");
    let units = [
        (Command::pipeline(&transaction), true),
        (Command::new(&script), true),
        // An error reply can have written.
        (Command::new(&failing), false),
        (Command::new(&refusing), false),
    ];
    for (unit, succeeds) in units {
        topology.primary().command(&["SET", "k", "before"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        topology.relay(0).pause();
        let session = Session::new();
        let before = topology.primary().mark().unwrap();
        let outcome = client.call(unit.session(&session)).await;
        assert_eq!(outcome.is_ok(), succeeds, "{outcome:?}");
        let after = topology.primary().mark().unwrap();
        assert!(after.offset > before.offset);
        // Nobody else writes: exactly there.
        assert_eq!(written(&session), Some(after));

        let reply = client.call(get("k", &session)).await.unwrap();
        assert_eq!((reply.value, reply.route), (bulk("new"), Route::Primary));
        topology.relay(0).resume();
        topology.wait_applied(0, after, SOON).unwrap();
        common::from_a_replica(&client, &get("k", &session), &bulk("new")).await;
    }
}

/// A write that the server refuses leaves nothing to be waited for; one that fails half-way does.
#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_leave_no_doubt() {
    let topology = quiet(1);
    let client = common::client(&topology).await;
    let session = Session::new();
    client.call(set("k", "text", &session)).await.unwrap();
    client
        .call(Command::new(redis::cmd("LPUSH").arg("k").arg(1)).session(&session))
        .await
        .unwrap_err();
    assert!(!in_doubt(&session));
    topology
        .wait_applied(0, written(&session).unwrap(), SOON)
        .unwrap();
    let reply = common::from_a_replica(&client, &get("k", &session), &bulk("text")).await;
    assert!(
        matches!(reply.reason, Reason::Covered | Reason::Waited),
        "{:?}",
        reply.reason
    );
}

/// Everything that a replica can be asked about goes by the same proof, not only GET.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_read_is_proven() {
    let topology = Topology::builder()
        .replicas(1)
        .delay(Duration::from_millis(300))
        .start()
        .unwrap();
    let client = common::client(&topology).await;
    let mut reads = Vec::new();
    for words in [
        &["GET", "s"][..],
        &["MGET", "s", "s"],
        &["STRLEN", "s"],
        &["EXISTS", "s", "h"],
        &["TYPE", "s"],
        &["HGET", "h", "f"],
        &["HGETALL", "h"],
        &["LRANGE", "l", "0", "-1"],
        &["SMEMBERS", "z"],
        &["ZSCORE", "o", "m"],
        &["XLEN", "x"],
        &["XREAD", "COUNT", "9", "STREAMS", "x", "0"],
        &["DBSIZE"],
        &["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "s"],
        &["SORT_RO", "l"],
        &["GETRANGE", "s", "0", "-1"],
        &["OBJECT", "ENCODING", "s"],
    ] {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        if words[0].ends_with("_RO") && common::lacks(topology.primary(), words[0]) {
            continue;
        }
        reads.push(Command::new(&command));
    }
    let mut pipeline = redis::pipe();
    pipeline.cmd("GET").arg("s").cmd("HGET").arg("h").arg("f");
    reads.push(Command::pipeline(&pipeline));
    let mut transaction = redis::pipe();
    transaction
        .atomic()
        .cmd("GET")
        .arg("s")
        .cmd("HGET")
        .arg("h")
        .arg("f");
    reads.push(Command::pipeline(&transaction));

    let session = Session::new();
    let mut write = redis::pipe();
    write
        .set("s", "1")
        .hset("h", "f", 1)
        .rpush("l", 1)
        .sadd("z", 1)
        .zadd("o", "m", 1);
    write.cmd("XADD").arg("x").arg("*").arg("f").arg(1);
    client
        .call(Command::pipeline(&write).session(&session))
        .await
        .unwrap();
    let mark = written(&session).unwrap();
    let mut fresh = Vec::new();
    for read in &reads {
        let reply = client.call(read.clone().session(&session)).await.unwrap();
        fresh.push((reply.route, reply.value));
    }
    topology.wait_applied(0, mark, SOON).unwrap();
    for (read, (route, value)) in reads.iter().zip(fresh) {
        println!("{read:?} was first answered from {route:?}");
        common::from_a_replica(&client, &read.clone().session(&session), &value).await;
    }
}

/// A wait begins with `INFO`s that follow each other, and goes on at a pace: one caller behind a replica that does not move
/// is no storm.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_has_the_replica_asked_at_a_pace() {
    let topology = quiet(1);
    let max_wait = Duration::from_millis(200);
    let client = common::builder(&topology)
        .max_wait(max_wait)
        .connect()
        .await
        .unwrap();
    let session = Session::new();
    let waited = || {
        let reads = client.status().reads;
        reads.iter().any(|count| count.reason == Reason::Waited.as_str())
    };
    // Until the client knows how long the replica usually takes: only then does it wait.
    let deadline = Instant::now() + SOON;
    while !waited() {
        assert!(
            Instant::now() < deadline,
            "nothing is waited for: {:?}",
            client.status()
        );
        client.call(set("k", "before", &session)).await.unwrap();
        client.call(get("k", &session)).await.unwrap();
    }
    let (paces, asked) = loop {
        topology.relay(0).pause();
        client.call(set("k", "after", &session)).await.unwrap();
        let before = common::calls(topology.replica(0), "info");
        let begun = Instant::now();
        let reply = client.call(get("k", &session)).await.unwrap();
        let time = begun.elapsed();
        // One of them is this question's own.
        let asked = common::calls(topology.replica(0), "info") - before - 1;
        assert_eq!((reply.value, reply.route), (bulk("after"), Route::Primary));
        if time >= max_wait {
            break (
                time.as_micros() / highwater::defaults::PROBE_PACE.as_micros(),
                asked,
            );
        }
        // A machine that stands still between the two makes the replica late for longer than is waited for.
        assert!(Instant::now() < deadline, "not waited for: {:?}", client.status());
        topology.relay(0).resume();
        topology.wait_in_sync(SOON).unwrap();
    };
    let eager = u64::from(highwater::defaults::EAGER_PROBES);
    assert!(asked >= eager, "asked only {asked} times");
    let most = u64::try_from(paces).unwrap() + eager + 3;
    assert!(asked <= most, "asked {asked} times, of {most}");
}
