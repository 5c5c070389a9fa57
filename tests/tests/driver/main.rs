//! The driver of connections against scripted peers: whatever is interleaved on the wire, each caller gets its own
//! reply or an error that says what became of it, never another's, and nothing older than its session has been shown.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod callers;
mod node;

#[path = "../common/mod.rs"]
mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use callers::{Caller, Outcome, SESSIONS, Shown, callers};
use common::{SOON, in_doubt, until};
use highwater::{Client, Command, Role, Session, redis};
use highwater_testkit::Peer;
use node::{Node, Nonsense, Step, Stream, nonsense, steps};
use proptest::{prelude::*, test_runner::RngSeed};
use tokio::{runtime, task::JoinSet};

/// The same cases each time, so that what CI sees does not depend on luck; `PROPTEST_RNG_SEED` and `PROPTEST_CASES`
/// look further. A failure worth keeping becomes a test of its own.
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(4);
    }
    config
}

/// What happens in one case.
#[derive(Clone, Debug)]
struct Plot {
    callers: Vec<Caller>,
    primary: Vec<Step>,
    replica: Vec<Step>,
    /// What the primary and the replica say once, of what no server says.
    nonsense: [Option<Nonsense>; 2],
    /// The peers and the callers are on several threads.
    threads: bool,
}

fn plots() -> impl Strategy<Value = Plot> {
    (callers(), steps(), steps(), prop::bool::weighted(0.25)).prop_map(
        |(callers, primary, replica, threads)| Plot {
            callers,
            primary,
            replica,
            nonsense: [None, None],
            threads,
        },
    )
}

fn hostile_plots() -> impl Strategy<Value = Plot> {
    let primary = prop::option::of(nonsense(Role::Primary));
    let replica = prop::option::of(nonsense(Role::Replica));
    (plots(), primary, replica).prop_map(|(plot, primary, replica)| Plot {
        nonsense: [primary, replica],
        ..plot
    })
}

fn play(plot: Plot, resp3: bool) {
    let mut runtime = if plot.threads {
        runtime::Builder::new_multi_thread()
    } else {
        runtime::Builder::new_current_thread()
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(3 * SOON, perform(plot, resp3))
            .await
            .expect("nobody waits for ever");
    });
}

async fn perform(plot: Plot, resp3: bool) {
    let stream = Stream::new();
    let hostile = plot.nonsense.iter().any(Option::is_some);
    let [to_primary, to_replica] = plot.nonsense;
    let primary = Node::new(Role::Primary, resp3, &stream, plot.primary).talking(to_primary);
    let replica = Node::new(Role::Replica, resp3, &stream, plot.replica).talking(to_replica);
    let [primary, replica] = [
        Peer::start(primary).await.unwrap(),
        Peer::start(replica).await.unwrap(),
    ];
    let client = Client::builder()
        .primary(primary.url())
        .replica(replica.url())
        .max_wait(Duration::from_millis(2))
        // Nothing here is silent: a slow machine is not to be taken for a dead node.
        .response_timeout(SOON)
        .connect()
        .await
        .unwrap();
    let sessions: [Session; SESSIONS] = std::array::from_fn(|_| Session::new());
    let shown = Arc::new(Shown::default());
    let mut tasks = JoinSet::new();
    for (number, caller) in plot.callers.into_iter().enumerate() {
        tasks.spawn(caller.run(
            number,
            client.clone(),
            sessions.clone(),
            Arc::clone(&shown),
            hostile,
        ));
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome.unwrap());
    }

    // Once nothing happens any more, all is well again.
    for peer in [&primary, &replica] {
        peer.script(Node::calm_down);
        let given_up = || !peer.script(Node::is_believed);
        until("a connection with nonsense on it is given up", given_up).await;
    }
    client.ready(SOON).await.unwrap();
    for session in &sessions {
        settle(&client, session).await;
    }

    let seen = primary.script(|node| node.seen.clone());
    for outcome in outcomes {
        let Some(write) = &outcome.write else { continue };
        let sent = seen.iter().filter(|seen| *seen == write).count();
        assert!(sent <= 1, "{write} was sent {sent} times");
        assert!(
            sent == 1 || !outcome.answered,
            "{write} was answered, and never sent"
        );
        assert!(
            sent == 0 || !outcome.unsent,
            "{write} was said not to have been sent"
        );
    }
    client.shutdown().await.unwrap();
}

/// Reads until no write of the session is in doubt: a connection settles those whose replies it has lost, and a read
/// at the primary those that were answered without a mark.
async fn settle(client: &Client, session: &Session) {
    let deadline = Instant::now() + SOON;
    loop {
        let read = Command::new(redis::cmd("GET").arg("after")).session(session);
        let reply = client.call(read).await.unwrap();
        if !in_doubt(session) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{reply:?} has settled nothing: {:?}",
            session.marks()
        );
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn each_caller_gets_its_own_reply_or_a_typed_error(plot in plots()) {
        play(plot, true);
    }

    #[test]
    fn with_resp2_too(plot in plots()) {
        play(plot, false);
    }

    #[test]
    fn nonsense_ends_the_connection_and_is_nobodys_reply(plot in hostile_plots(), resp3 in prop::bool::weighted(0.7)) {
        play(plot, resp3);
    }
}
