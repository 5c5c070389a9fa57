//! Failovers in which the only replica that can acknowledge is the one that is promoted.

use std::time::Duration;

use highwater::{Acks, Client, Command, ErrorKind, Session};
use highwater_testkit::{Relay, Server};
use tokio::task::JoinSet;

use crate::common::{NO_PINGS, SOON, note, until};

const WRITERS: usize = 8;
/// How far the replica is behind: what is written in this time before the primary dies is lost.
const BEHIND: Duration = Duration::from_millis(5);

/// Two servers that take turns at being the primary, each behind a relay on the other's way to it.
struct Pair {
    servers: [Server; 2],
    relays: [Relay; 2],
    primary: usize,
}

impl Pair {
    fn start() -> Self {
        // So that a full sync begins and ends at once: what waits for a cron waits for a second.
        let args = [
            "--repl-diskless-sync",
            "no",
            "--repl-diskless-load",
            "swapdb",
            "--hz",
            "100",
        ];
        let server = || Server::builder().args(args).args(NO_PINGS).start().unwrap();
        let servers = [server(), server()];
        let relays = [0, 1].map(|server| Relay::start(servers[server].addr()).unwrap());
        let pair = Self {
            servers,
            relays,
            primary: 0,
        };
        pair.follow();
        pair
    }

    fn primary(&self) -> &Server {
        &self.servers[self.primary]
    }

    fn replica(&self) -> &Server {
        &self.servers[1 - self.primary]
    }

    /// Has the replica follow the primary, in time; then it is behind.
    fn follow(&self) {
        let relay = &self.relays[self.primary];
        relay.heal();
        self.replica().replicaof("127.0.0.1", relay.port()).unwrap();
        self.replica()
            .wait_for(SOON, "the replica follows", |info| info.link_up)
            .unwrap();
        self.primary()
            .wait_for(SOON, "the primary has its replica", |info| {
                info.connected_replicas == 1
            })
            .unwrap();
        relay.set_delay(BEHIND);
    }

    /// The primary dies, and the replica takes its place, with what it has.
    fn fail_over(&mut self) {
        self.primary().kill();
        self.replica().replicaof_no_one().unwrap();
        self.primary = 1 - self.primary;
    }

    /// The old primary comes back with nothing, as a replica.
    fn recover(&self) {
        self.replica().restart().unwrap();
        self.follow();
    }
}

/// What became of the writes of one round.
#[derive(Default)]
struct Outcome {
    acknowledged: Vec<String>,
    /// In doubt, or with too few acknowledgements.
    others: Vec<String>,
}

/// Writes keys of their own until the primary is gone, which it is once `enough` writes have been acknowledged.
async fn round(pair: &mut Pair, round: usize, acks: Option<Acks>, enough: usize) -> Outcome {
    let client = Client::builder()
        .primary(pair.primary().url())
        .replica(pair.replica().url())
        .connect()
        .await
        .unwrap();
    let mut writers = JoinSet::new();
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for writer in 0..WRITERS {
        let (client, written) = (client.clone(), std::sync::Arc::clone(&written));
        writers.spawn(async move {
            let session = Session::new();
            let mut outcome = Outcome::default();
            for number in 0.. {
                let key = format!("{round}:{writer}:{number}");
                let command = Command::new(redis::cmd("SET").arg(&key).arg("v")).session(&session);
                let command = match acks {
                    Some(acks) => command.acks(acks),
                    None => command,
                };
                match client.call(command).await {
                    Ok(_) => {
                        outcome.acknowledged.push(key);
                        written.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    Err(error) => {
                        if matches!(error.kind(), ErrorKind::InDoubt | ErrorKind::TooFewAcks) {
                            outcome.others.push(key);
                        }
                        break;
                    }
                }
            }
            outcome
        });
    }
    until("writes have been acknowledged", || {
        written.load(std::sync::atomic::Ordering::Relaxed) >= enough
    })
    .await;
    pair.fail_over();
    let mut all = Outcome::default();
    while let Some(outcome) = writers.join_next().await {
        let outcome = outcome.unwrap();
        all.acknowledged.extend(outcome.acknowledged);
        all.others.extend(outcome.others);
    }
    all
}

/// Those that the server lacks.
fn missing(server: &Server, keys: &[String]) -> usize {
    keys.chunks(1000)
        .map(|keys| {
            let command: Vec<&str> = ["EXISTS"]
                .into_iter()
                .chain(keys.iter().map(String::as_str))
                .collect();
            let there = server.command(&command).unwrap().integer().unwrap();
            keys.len() - usize::try_from(there).unwrap()
        })
        .sum()
}

/// With one acknowledgement asked for, no write that the application was told of is lost. What was lost besides shows that
/// there was something to lose.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_the_replica_that_acknowledged_is_promoted() {
    const FAILOVERS: usize = 50;
    let mut pair = Pair::start();
    let (mut acknowledged, mut others) = (0, 0);
    for number in 0..FAILOVERS {
        let outcome = round(&mut pair, number, Some(Acks::replicas(1, SOON)), 20).await;
        let lost = missing(pair.primary(), &outcome.acknowledged);
        assert_eq!(lost, 0, "of {} in failover {number}", outcome.acknowledged.len());
        acknowledged += outcome.acknowledged.len();
        others += missing(pair.primary(), &outcome.others);
        pair.recover();
    }
    note(&format!(
        "{FAILOVERS} failovers: {acknowledged} writes acknowledged, none lost; {others} others were lost"
    ));
    assert!(acknowledged >= FAILOVERS * 20);
    assert!(
        others > FAILOVERS / 2,
        "only {others} writes were lost: nothing was at risk"
    );
}

/// The same run, without.
#[tokio::test(flavor = "multi_thread")]
async fn without_acks_the_same_failover_loses_acknowledged_writes() {
    let mut pair = Pair::start();
    pair.relays[0].set_delay(Duration::from_secs(1));
    let outcome = round(&mut pair, 0, None, 200).await;
    let lost = missing(pair.primary(), &outcome.acknowledged);
    note(&format!(
        "{lost} of {} acknowledged writes were lost",
        outcome.acknowledged.len()
    ));
    assert!(lost > 0);
}
