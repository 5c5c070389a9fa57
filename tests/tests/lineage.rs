//! Histories that part: a promotion that one client has heard of and the other has not, restarts, and
//! sessions of which it is not known what they depend on.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{NO_PINGS, SOON, blocked, bulk, calls, get, place, quiet, set, until, written};
use highwater::{
    Client, Command, Continuity, ErrorKind, Marks, Offset, Policy, Reason, Route, Scope, Session, SigningKey,
    TokenCodec,
};
use highwater_testkit::{Relay, Server, Topology};

/// A client that knows of this node alone.
async fn client_of(primary: &Server) -> Client {
    Client::builder().primary(primary.url()).connect().await.unwrap()
}

/// What another process makes of a session's token.
fn over_the_wire(session: &Session) -> Session {
    let codec = || TokenCodec::signed(SigningKey::new("a secret that both processes know").unwrap());
    let token = codec().encode(&session.marks(), 1);
    Session::resume(codec().decode(token.as_bytes(), 1).unwrap())
}

/// A primary and two replicas of which the first has been promoted, while the primary goes on. `k` was
/// `shared` when they parted.
struct Parted {
    topology: Topology,
    /// Follows the old primary, and its one replica that is left.
    old: Client,
    /// Follows the new one.
    new: Client,
}

impl Parted {
    async fn start(policy: Policy) -> Self {
        let topology = quiet(2);
        topology.primary().command(&["SET", "k", "shared"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        let configure = |primary: String| {
            Client::builder()
                .primary(primary)
                .on_unknown_history(policy)
                .on_possibly_lost(policy)
        };
        let old = configure(topology.primary().url())
            .replica(topology.replica(1).url())
            .connect()
            .await
            .unwrap();
        topology.replica(0).replicaof_no_one().unwrap();
        let new = configure(topology.replica(0).url()).connect().await.unwrap();
        Self { topology, old, new }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_the_new_primary_is_not_silently_missed_at_the_old_one() {
    let parted = Parted::start(Policy::default()).await;
    let writer = Session::new();
    parted.new.call(set("k", "new", &writer)).await.unwrap();
    let mark = written(&writer).unwrap();
    let session = over_the_wire(&writer);
    assert_eq!(written(&session), Some(mark));
    for _ in 0..3 {
        let reply = parted.old.call(get("k", &session)).await.unwrap();
        assert_eq!(
            (reply.route, reply.reason),
            (Route::Primary, Reason::UnknownHistory)
        );
        assert_eq!(session.continuity(), Continuity::UnknownHistory);
        // It is still required: a later read, or another process, may be able to honour it.
        assert!(
            session
                .marks()
                .written()
                .any(|kept| kept.history.to_string() == mark.history.to_string()
                    && kept.offset.position() == Some(mark.offset))
        );
    }
    assert_eq!(parted.old.status().anomalies.unknown_history, 3);
    let back = over_the_wire(&session);
    let reply = parted.new.call(get("k", &back)).await.unwrap();
    assert_eq!(
        (reply.value, back.continuity()),
        (bulk("new"), Continuity::Intact)
    );
    assert!(
        matches!(reply.reason, Reason::Covered | Reason::Unhealthy | Reason::Behind),
        "{:?}",
        reply.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_to_fail_it_fails() {
    let parted = Parted::start(Policy::Error).await;
    let writer = Session::new();
    parted.new.call(set("k", "new", &writer)).await.unwrap();
    let session = over_the_wire(&writer);
    for level in [
        highwater::Consistency::ReadYourWrites,
        highwater::Consistency::Monotonic,
        highwater::Consistency::Primary,
    ] {
        let error = parted
            .old
            .call(get("k", &session).level(level))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownHistory, "{level}: {error}");
        assert_eq!(written(&session), written(&writer), "the mark stays");
    }
    assert_eq!(session.continuity(), Continuity::UnknownHistory);

    let writer = Session::new();
    parted.old.call(set("k", "lost", &writer)).await.unwrap();
    let session = over_the_wire(&writer);
    let error = parted.new.call(get("k", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PossiblyLost, "{error}");
    assert_eq!(session.continuity(), Continuity::PossiblyLost);
    // Said once; then life goes on.
    assert_eq!(
        parted.new.call(get("k", &session)).await.unwrap().value,
        bulk("new")
    );
}

/// What a bad token has put into doubt says nothing of the marks that the session has besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_writes_and_reads_is_judged_though_a_bad_token_came_in() {
    for policy in [Policy::Primary, Policy::Error] {
        let parted = Parted::start(policy).await;
        let writer = Session::new();
        parted.new.call(set("k", "new", &writer)).await.unwrap();
        let session = over_the_wire(&writer);
        session.merge(&Marks::in_doubt());
        let mut unit = redis::pipe();
        unit.atomic().set("other", "x").get("k");
        let outcome = parted.old.call(Command::pipeline(&unit).session(&session)).await;
        match (policy, outcome) {
            (Policy::Error, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::UnknownHistory, "{error}");
            }
            (_, outcome) => assert_eq!(outcome.unwrap().reason, Reason::UnknownHistory),
        }
        assert_eq!(session.continuity(), Continuity::UnknownHistory);
    }
}

/// A bad token that comes in while a read waits for a sample hides nothing of what the session has besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_that_comes_in_meanwhile_hides_no_unknown_history() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let front = Relay::start(topology.primary().addr()).unwrap();
    let client = common::builder_through(&front, &topology)
        .response_timeout(2 * SOON)
        .connect()
        .await
        .unwrap();
    let elsewhere = Server::start().unwrap();
    let elsewhere = client_of(&elsewhere).await;
    let session = Session::new();
    elsewhere.call(set("k", "elsewhere", &session)).await.unwrap();
    // A write of another process, in doubt for so long that a sample settles it.
    session.add_written(&highwater::Mark {
        scope: Scope::default(),
        history: client.status().primary.history.unwrap().parse().unwrap(),
        offset: Offset::unknown_since(1),
    });

    front.pause();
    let before = calls(topology.primary(), "info");
    let read = tokio::spawn({
        let (client, session) = (client.clone(), session.clone());
        async move { client.call(get("k", &session)).await }
    });
    // One is the idle client's own; another one is what the read waits for.
    common::until("the sample is asked for", || {
        calls(topology.primary(), "info") >= before + 2
    })
    .await;
    session.merge(&Marks::in_doubt());
    front.resume();
    let reply = read.await.unwrap().unwrap();
    assert_eq!(
        (reply.route, reply.reason),
        (Route::Primary, Reason::UnknownHistory)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_promotion_lost_is_reported_once() {
    let parted = Parted::start(Policy::default()).await;
    let writer = Session::new();
    parted.old.call(set("k", "lost", &writer)).await.unwrap();
    let session = over_the_wire(&writer);
    let reply = parted.new.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason),
        (bulk("shared"), Reason::PossiblyLost)
    );
    for _ in 0..3 {
        let reply = parted.new.call(get("k", &session)).await.unwrap();
        assert_ne!(reply.reason, Reason::PossiblyLost);
        assert_eq!(reply.value, bulk("shared"));
    }
    assert_eq!(parted.new.status().anomalies.possibly_lost, 1);
    assert_eq!(
        session.continuity(),
        Continuity::PossiblyLost,
        "the session keeps knowing"
    );
    // The writer's own session was never told: it is, once, when it comes here.
    let reply = parted.new.call(get("k", &writer)).await.unwrap();
    assert_eq!(reply.reason, Reason::PossiblyLost);
}

/// A loss is said, also by a reply that has given up something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_reported_beside_an_unknown_history_that_is_waived() {
    let parted = Parted::start(Policy::Proceed).await;
    let elsewhere = Server::start().unwrap();
    let elsewhere = client_of(&elsewhere).await;
    let stranger = Session::new();
    elsewhere.call(set("k", "elsewhere", &stranger)).await.unwrap();
    let session = over_the_wire(&stranger);
    // From here on it is known of that history that the primary does not know it.
    let reply = parted
        .new
        .call(get("k", &over_the_wire(&stranger)))
        .await
        .unwrap();
    assert_eq!(reply.reason, Reason::UnknownHistory);

    parted.old.call(set("k", "lost", &session)).await.unwrap();
    let reply = parted.new.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason),
        (bulk("shared"), Reason::PossiblyLost)
    );
    let reply = parted.new.call(get("k", &session)).await.unwrap();
    assert_eq!(reply.reason, Reason::UnknownHistory);
}

/// In a flood of reads that only the primary can judge, one sample of it judges for many. Another primary may have
/// taken its place by the time that they are answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_old_primary_hides_no_loss_at_the_new_one() {
    const READS: usize = 256;
    let topology = quiet(2);
    let front = Relay::start(topology.primary().addr()).unwrap();
    let side = Relay::start(topology.replica(1).addr()).unwrap();
    let client = Client::builder()
        .primary(front.url())
        .replica(side.url())
        .response_timeout(4 * SOON)
        .connect()
        .await
        .unwrap();
    let writer = Session::new();
    client.call(set("k", "before", &writer)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    client.call(set("k", "lost", &writer)).await.unwrap();
    let mut in_doubt = writer.marks().written().next().unwrap();
    in_doubt.offset = Offset::UNKNOWN;
    // The replica is asked, and its answers don't come.
    side.pause();
    let finished = Arc::new(AtomicUsize::new(0));
    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let (client, finished) = (client.clone(), Arc::clone(&finished));
            let session = Session::new();
            session.add_written(&in_doubt);
            tokio::spawn(async move {
                let reply = client.call(get("k", &session)).await.unwrap();
                finished.fetch_add(1, Ordering::Relaxed);
                (reply.value, reply.reason, session.continuity())
            })
        })
        .collect();
    until("all have been judged by the old primary", || {
        let waiting = client.status().replicas[0].in_flight;
        waiting > 0 && finished.load(Ordering::Relaxed) + waiting == READS
    })
    .await;
    topology.replica(0).replicaof_no_one().unwrap();
    front.set_target(topology.replica(0).addr());
    front.cut();
    let old = in_doubt.history.to_string();
    until("the client follows the new primary", || {
        client
            .status()
            .primary
            .history
            .is_some_and(|history| history != old)
    })
    .await;
    side.cut();
    let mut told = 0;
    for read in reads {
        match read.await.unwrap() {
            (value, Reason::InDoubt, Continuity::Intact) => assert_eq!(value, bulk("lost")),
            outcome => {
                let lost = (bulk("before"), Reason::PossiblyLost, Continuity::PossiblyLost);
                assert_eq!(outcome, lost);
                told += 1;
            }
        }
    }
    assert!(told > 0);
}

/// The same flood, after the promotion: the sample shows the loss, and then no reply comes that could say so. The next
/// one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_only_a_sample_has_shown_is_said_with_the_reply_that_comes() {
    const READS: usize = 256;
    let topology = quiet(2);
    let writer = Session::new();
    let old = common::client(&topology).await;
    old.call(set("k", "before", &writer)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.relay(0).pause();
    topology.relay(1).pause();
    old.call(set("k", "lost", &writer)).await.unwrap();
    let mut in_doubt = writer.marks().written().next().unwrap();
    in_doubt.offset = Offset::UNKNOWN;
    let (promoted, follower) = (topology.replica(0), topology.replica(1));
    promoted.replicaof_no_one().unwrap();
    follower.replicaof("127.0.0.1", promoted.port()).unwrap();
    follower
        .wait_for(SOON, "it follows the promoted one", |info| info.link_up)
        .unwrap();
    let side = Relay::start(follower.addr()).unwrap();
    let client = Client::builder()
        .primary(promoted.url())
        .replica(side.url())
        .response_timeout(4 * SOON)
        .connect()
        .await
        .unwrap();
    until("the replica is connected", || {
        client.status().replicas[0].history.is_some()
    })
    .await;

    // The replica is asked, and its answers don't come.
    side.pause();
    let finished = Arc::new(AtomicUsize::new(0));
    let sessions: Vec<_> = (0..READS)
        .map(|_| {
            let session = Session::new();
            session.add_written(&in_doubt);
            session
        })
        .collect();
    let reads: Vec<_> = sessions
        .iter()
        .map(|session| {
            let (client, session) = (client.clone(), session.clone());
            let finished = Arc::clone(&finished);
            tokio::spawn(async move {
                let reply = client.call(get("k", &session)).await.unwrap();
                finished.fetch_add(1, Ordering::Relaxed);
                reply.reason
            })
        })
        .collect();
    until("all others have been judged by a sample", || {
        let waiting = client.status().replicas[0].in_flight;
        waiting > 0 && finished.load(Ordering::Relaxed) + waiting == READS
    })
    .await;
    // Their callers go away.
    let mut heard = Vec::new();
    for read in reads {
        read.abort();
        heard.push(read.await.ok());
    }
    assert!(heard.iter().any(Option::is_none));
    side.resume();
    for (session, heard) in sessions.iter().zip(heard) {
        let reply = client.call(get("k", session)).await.unwrap();
        assert_eq!(reply.value, bulk("before"));
        let told = [heard, Some(reply.reason)].into_iter().flatten();
        let losses = told.filter(|reason| *reason == Reason::PossiblyLost).count();
        assert_eq!(losses, 1, "{heard:?}, {:?}", reply.reason);
    }
}

/// A pipeline with a transaction by hand goes command by command, and its caller can go away in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_a_dropped_pipeline_has_met_is_said_by_the_next_reply() {
    let parted = Parted::start(Policy::default()).await;
    let session = Session::new();
    parted.old.call(set("k", "lost", &session)).await.unwrap();
    let mut connection = parted.new.dedicated(&session).await.unwrap();
    let pipeline = tokio::spawn(async move {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("k").cmd("BLPOP").arg("nothing").arg(60);
        pipeline.cmd("MULTI").cmd("GET").arg("k").cmd("EXEC");
        pipeline.query_async::<redis::Value>(&mut connection).await
    });
    // The pipeline has come to what blocks.
    blocked(parted.topology.replica(0), 1).await;
    pipeline.abort();
    assert!(pipeline.await.unwrap_err().is_cancelled());
    let reply = parted.new.call(get("k", &session)).await.unwrap();
    assert_eq!(
        (reply.value, reply.reason),
        (bulk("shared"), Reason::PossiblyLost)
    );
    let reply = parted.new.call(get("k", &session)).await.unwrap();
    assert_ne!(reply.reason, Reason::PossiblyLost, "it is said once");
}

/// An error reply is a reply: it says what there is to say of the session's marks.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_said_with_a_servers_error_too() {
    for write in [false, true] {
        let parted = Parted::start(Policy::default()).await;
        let session = Session::new();
        parted.old.call(set("k", "lost", &session)).await.unwrap();
        let wrong = if write {
            Command::new(redis::cmd("LPUSH").arg("k").arg("x"))
        } else {
            Command::new(redis::cmd("LLEN").arg("k"))
        };
        let error = parted.new.call(wrong.session(&session)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Server, Some(Reason::PossiblyLost)),
            "{error}"
        );
        assert_eq!(session.continuity(), Continuity::PossiblyLost);
        let reply = parted.new.call(get("k", &session)).await.unwrap();
        assert_ne!(reply.reason, Reason::PossiblyLost, "it is said once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_from_before_the_promotion_is_honoured_by_both() {
    let topology = quiet(2);
    let old = common::client(&topology).await;
    let session = Session::new();
    old.call(set("k", "kept", &session)).await.unwrap();
    let mark = written(&session).unwrap();
    topology.wait_applied(0, mark, SOON).unwrap();
    topology.wait_applied(1, mark, SOON).unwrap();
    topology.promote(0).unwrap();
    // A write that only the new history has, so that the offsets move on there.
    topology.replica(0).command(&["SET", "other", "x"]).unwrap();
    let there = topology.replica(0).mark().unwrap();
    topology.wait_applied(1, there, SOON).unwrap();
    let new = Client::builder()
        .primary(topology.replica(0).url())
        .replica(topology.replica(1).url())
        .connect()
        .await
        .unwrap();
    for client in [&old, &new] {
        let session = over_the_wire(&session);
        for _ in 0..3 {
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!(reply.value, bulk("kept"));
            assert!(
                !matches!(reply.reason, Reason::PossiblyLost | Reason::UnknownHistory),
                "{reply:?}"
            );
        }
        assert_eq!(session.continuity(), Continuity::Intact);
    }
    assert!(
        new.status().reads.iter().any(|count| count.route == "replica"),
        "{:?}",
        new.status()
    );
}

/// A write goes to a primary that has been demoted: refused, and no read of it is taken for a primary's.
#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_proves_nothing() {
    let topology = quiet(2);
    let client = client_of(topology.primary()).await;
    let session = Session::new();
    client.call(set("k", "1", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.promote(0).unwrap();
    topology
        .primary()
        .replicaof("127.0.0.1", topology.replica(0).port())
        .unwrap();
    let error = client.call(set("k", "2", &session)).await.unwrap_err();
    assert_eq!(
        error.server_error().and_then(redis::RedisError::code),
        Some("READONLY"),
        "{error}"
    );
    assert!(!common::in_doubt(&session));
    let error = client.call(get("k", &session)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

/// A replica carries out a script that writes nothing, and its reply is as old as the replica is.
#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_gives_out_no_scripts_reply() {
    let topology = quiet(1);
    let client = client_of(topology.primary()).await;
    let session = Session::new();
    client.call(set("k", "1", &session)).await.unwrap();
    topology.wait_in_sync(SOON).unwrap();
    topology.promote(0).unwrap();
    // It keeps its data, since it finds no primary there.
    topology.primary().replicaof("127.0.0.1", 1).unwrap();
    let elsewhere = client_of(topology.replica(0)).await;
    let there = over_the_wire(&session);
    elsewhere.call(set("k", "2", &there)).await.unwrap();
    session.merge(&there.marks());

    let mut script = redis::cmd("EVAL");
    script.arg("return redis.call('GET', KEYS[1])").arg(1).arg("k");
    let mut pipeline = redis::pipe();
    pipeline.add_command(script.clone());
    let doubtful = Session::resume(Marks::in_doubt());
    for session in [&session, &doubtful] {
        for unit in [Command::new(&script), Command::pipeline(&pipeline)] {
            let outcome = client.call(unit.session(session)).await;
            assert!(outcome.is_err(), "{outcome:?}");
        }
        let mut own = client.dedicated(session).await.unwrap();
        let outcome: redis::RedisResult<String> = script.query_async(&mut own).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
    // One that writes is refused, and the server's word for that arrives.
    let mut writes = redis::cmd("EVAL");
    writes.arg("return redis.call('SET', KEYS[1], 3)").arg(1).arg("k");
    let error = client
        .call(Command::new(&writes).session(&session))
        .await
        .unwrap_err();
    // Redis 6.2 has it in the text of another error.
    let refusal = error.server_error().map(ToString::to_string).unwrap_or_default();
    assert!(refusal.to_uppercase().contains("READONLY"), "{error}");
}

/// A primary that was restarted empty knows nothing of what was written before.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_lost_everything_says_so() {
    let topology = quiet(1);
    let client = client_of(topology.primary()).await;
    let session = Session::new();
    client.call(set("k", "1", &session)).await.unwrap();
    topology.relay(0).refuse(true);
    topology.primary().restart().unwrap();
    let reply = loop {
        match client.call(get("k", &session)).await {
            Ok(reply) => break reply,
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Disconnected),
                "{error}"
            ),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (reply.value, reply.reason),
        (redis::Value::Nil, Reason::UnknownHistory)
    );
    assert_eq!(session.continuity(), Continuity::UnknownHistory);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_settled_by_a_shared_barrier() {
    const SESSIONS: usize = 2000;
    let topology = quiet(1);
    let client = common::client(&topology).await;
    topology.primary().command(&["SET", "k", "v"]).unwrap();
    topology.wait_in_sync(SOON).unwrap();
    let here = topology.primary().mark().unwrap();

    let before = calls(topology.primary(), "info");
    let start = Arc::new(tokio::sync::Barrier::new(SESSIONS));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..SESSIONS {
        let (client, start) = (client.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            let session = Session::resume(Marks::in_doubt());
            start.wait().await;
            let reply = client.call(get("k", &session)).await.unwrap();
            assert_eq!(
                (reply.value, reply.route),
                (bulk("v"), Route::Replica),
                "{:?}",
                reply.reason
            );
            session
        });
    }
    let sessions = tasks.join_all().await;
    let asked = calls(topology.primary(), "info") - before;
    // One each 10 ms while they come in, and those that `calls` and an idle client ask for.
    assert!(
        asked <= SESSIONS as u64 / 10,
        "{asked} INFO for {SESSIONS} bad tokens"
    );
    assert!(client.status().anomalies.settled_doubts >= SESSIONS as u64);
    for session in &sessions {
        assert!(!session.marks().is_in_doubt(&Scope::default()));
        assert_eq!(place(&session.marks()), Some(here));
    }
    // Settled for good: nobody asks again.
    let before = client.status().anomalies.settled_doubts;
    let reply = client.call(get("k", &sessions[0])).await.unwrap();
    assert_eq!(reply.route, Route::Replica);
    assert_eq!(client.status().anomalies.settled_doubts, before);
}

/// The sample that settles a bad token is taken after the token came in: a write that was acknowledged
/// before is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_still_reads_what_was_written_before() {
    let topology = Topology::builder()
        .replicas(1)
        .delay(std::time::Duration::from_millis(20))
        .primary_args(NO_PINGS)
        .start()
        .unwrap();
    let client = common::client(&topology).await;
    let mut tasks = tokio::task::JoinSet::new();
    let in_time = tokio::time::Instant::now() + SOON;
    for task in 0..32 {
        let client = client.clone();
        tasks.spawn(async move {
            for round in 0..40 {
                let (key, value) = (format!("k:{task}"), round.to_string());
                client.call(set(&key, &value, &Session::new())).await.unwrap();
                let reply = client
                    .call(get(&key, &Session::resume(Marks::in_doubt())))
                    .await
                    .unwrap();
                assert_eq!(reply.value, bulk(&value), "from {:?}", reply.route);
            }
        });
    }
    // 40 times two round trips and a pace of 10 ms; not 40 times the next time that somebody asks.
    tokio::time::timeout_at(in_time, tasks.join_all())
        .await
        .expect("the barrier does not wait for others");
}
