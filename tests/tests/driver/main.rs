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

use callers::{Ask, Caller, Outcome, SESSIONS, Shown, caller, callers};
use common::{SOON, in_doubt, until};
use highwater::{Client, Command, Consistency, Role, Session, redis};
use highwater_testkit::Peer;
use node::{Node, Nonsense, Step, Stream, all_nonsense, nonsense, steps};
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

/// True when all nonsense was said.
fn play(plot: Plot, resp3: bool) -> bool {
    let mut runtime = if plot.threads {
        runtime::Builder::new_multi_thread()
    } else {
        runtime::Builder::new_current_thread()
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(3 * SOON, perform(plot, resp3))
            .await
            .expect("nobody waits for ever")
    })
}

/// A client of two scripted nodes, and its sessions.
struct Stage {
    primary: Peer<Node>,
    replica: Peer<Node>,
    client: Client,
    sessions: [Session; SESSIONS],
    shown: Arc<Shown>,
}

impl Stage {
    async fn set(
        primary: Vec<Step>,
        replica: Vec<Step>,
        [to_primary, to_replica]: [Option<Nonsense>; 2],
        resp3: bool,
    ) -> Self {
        let stream = Stream::new();
        let primary = Node::new(Role::Primary, resp3, &stream, primary).talking(to_primary);
        let replica = Node::new(Role::Replica, resp3, &stream, replica).talking(to_replica);
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
        Self {
            primary,
            replica,
            client,
            sessions: std::array::from_fn(|_| Session::new()),
            shown: Arc::default(),
        }
    }

    /// What a caller does here.
    fn call(
        &self,
        number: usize,
        caller: Caller,
        hostile: bool,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let (client, sessions, shown) = (
            self.client.clone(),
            self.sessions.clone(),
            Arc::clone(&self.shown),
        );
        caller.run(number, client, sessions, shown, hostile)
    }

    /// Nothing happens any more, and all is well again. True when all nonsense was said.
    async fn calm_down(&self) -> bool {
        let mut all_said = true;
        for peer in [&self.primary, &self.replica] {
            all_said &= peer.script(|node| node.has_talked());
            peer.script(Node::calm_down);
            let given_up = || !peer.script(|node| node.is_believed());
            until("a connection with nonsense on it is given up", given_up).await;
        }
        self.client.ready(SOON).await.unwrap();
        for session in &self.sessions {
            settle(&self.client, session).await;
        }
        all_said
    }
}

async fn perform(plot: Plot, resp3: bool) -> bool {
    let hostile = plot.nonsense.iter().any(Option::is_some);
    let stage = Stage::set(plot.primary, plot.replica, plot.nonsense, resp3).await;
    let mut tasks = JoinSet::new();
    for (number, caller) in plot.callers.into_iter().enumerate() {
        tasks.spawn(stage.call(number, caller, hostile));
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome.unwrap());
    }
    let all_said = stage.calm_down().await;

    let seen = stage.primary.script(|node| node.seen.clone());
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
    stage.client.shutdown().await.unwrap();
    all_said
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

/// Callers who come one after the other: each begins when the one before has been answered.
fn in_turn(callers: &[Caller], replica: Vec<Step>, resp3: bool) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stage = Stage::set(Vec::new(), replica, [None, None], resp3).await;
        for (number, caller) in callers.iter().enumerate() {
            stage.call(number, *caller, false).await;
        }
    });
}

/// The replica goes back while its reply is on its way: what it shows is from before, and what it says is from after.
#[test]
fn a_null_push_behind_the_reply_voids_its_upper_bound() {
    let read = caller(Ask::Read, Consistency::Monotonic);
    // INFO at 50, the reply at 100, INFO at 60.
    let replica = vec![Step::Replace(50), Step::Advance, Step::Replace(60)];
    in_turn(&[read, read], replica, true);
}

/// The same while the replica has thrown away where it was and not yet what it has.
#[test]
fn a_replica_that_says_nothing_of_its_place_bounds_nothing() {
    let read = caller(Ask::Read, Consistency::Monotonic);
    let replica = vec![Step::Plain, Step::Plain, Step::Forget, Step::Replace(60)];
    in_turn(&[read, read], replica, true);
    let replica = vec![Step::Forget, Step::Plain, Step::Plain, Step::Replace(60)];
    in_turn(&[read, read], replica, true);
}

/// One of two commands is refused, so both are asked again, each by itself; then our INFO is refused with one of them.
#[test]
fn an_info_refused_in_a_transaction_is_nobodys_reply() {
    use Step::{Plain, Refuse};
    let together = [Plain, Plain, Plain, Refuse, Plain];
    let alone = [Plain, Refuse, Plain, Plain];
    in_turn(
        &[caller(Ask::Reads(2), Consistency::Monotonic)],
        [&together[..], &alone].concat(),
        false,
    );
}

#[test]
fn each_kind_of_nonsense_ends_the_connection() {
    let callers = [
        caller(Ask::Write, Consistency::ReadYourWrites),
        caller(Ask::Read, Consistency::ReadYourWrites),
        caller(Ask::Read, Consistency::Monotonic),
        caller(Ask::Read, Consistency::Primary),
    ];
    for role in [Role::Primary, Role::Replica] {
        for nonsense in all_nonsense(role) {
            let nonsense = Some(nonsense);
            let plot = Plot {
                callers: callers.repeat(2),
                primary: Vec::new(),
                replica: Vec::new(),
                nonsense: match role {
                    Role::Primary => [nonsense, None],
                    Role::Replica => [None, nonsense],
                },
                threads: false,
            };
            assert!(play(plot, true), "it was not said to anybody");
        }
    }
}

proptest! {
    #![proptest_config(config(64))]

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
