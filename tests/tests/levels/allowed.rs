//! The anomalies that `docs/GUARANTEE.md` names, each made to happen at the levels that allow it, and never happening at
//! the others in the same situation. The checkers agree.

use std::time::{Duration, Instant};

use highwater::{Client, Command, Consistency, Session};
use highwater_testkit::{
    History, Kind, Level, LevelCheck, Operation, Outcome, Route, Topology, ViolationKind, wait_until_async,
};

use crate::common::{SOON, builder, quiet};

const BOUND: Duration = Duration::from_millis(50);
/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3_600);

const PRIMARY: (Consistency, Level) = (Consistency::Primary, Level::Primary);
const MONOTONIC: (Consistency, Level) = (Consistency::Monotonic, Level::Monotonic);
const WITHIN_AN_HOUR: (Consistency, Level) =
    (Consistency::BoundedStaleness(HOUR), Level::BoundedStaleness(HOUR));
const WITHIN_THE_BOUND: (Consistency, Level) = (
    Consistency::BoundedStaleness(BOUND),
    Level::BoundedStaleness(BOUND),
);
const READ_YOUR_WRITES: (Consistency, Level) = (Consistency::ReadYourWrites, Level::ReadYourWrites);
const EVENTUAL: (Consistency, Level) = (Consistency::Eventual, Level::Eventual);
const LEVELS: [(Consistency, Level); 6] = [
    PRIMARY,
    MONOTONIC,
    WITHIN_AN_HOUR,
    WITHIN_THE_BOUND,
    READ_YOUR_WRITES,
    EVENTUAL,
];

/// So many reads are made where something may not happen.
const NEVER: usize = 200;
const ANN: usize = 0;
const BOB: usize = 1;

/// Two replicas, a key for each level, and Ann and Bob, who have a session each for each key. All of it is recorded.
struct Shop {
    topology: Topology,
    client: Client,
    sessions: Vec<Session>,
    operations: Vec<Operation>,
}

impl Shop {
    /// Bob has set the price of everything to 10, and all nodes know it.
    async fn open() -> Self {
        let topology = quiet(2);
        let mut shop = Self {
            // A busy machine is not to leave writes in doubt.
            client: builder(&topology).response_timeout(SOON).connect().await.unwrap(),
            topology,
            sessions: (0..2 * LEVELS.len()).map(|_| Session::new()).collect(),
            operations: Vec::new(),
        };
        for item in 0..LEVELS.len() {
            shop.set_price(BOB, item, 10).await;
        }
        shop.topology.wait_in_sync(SOON).unwrap();
        shop
    }

    async fn set_price(&mut self, who: usize, item: usize, price: u64) {
        let number = 2 * item + who;
        let start = Instant::now();
        let command = Command::new(redis::cmd("SET").arg(item).arg(price)).session(&self.sessions[number]);
        self.client.call(command).await.unwrap();
        let kind = Kind::Write {
            key: item as u64,
            version: price,
            outcome: Outcome::Acknowledged,
        };
        self.record(number, start, kind);
    }

    /// What Ann sees, at the item's level.
    async fn price(&mut self, item: usize) -> u64 {
        let number = 2 * item + ANN;
        let start = Instant::now();
        let command = Command::new(redis::cmd("GET").arg(item))
            .session(&self.sessions[number])
            .level(LEVELS[item].0);
        let reply = self.client.call(command).await.unwrap();
        let price = redis::from_redis_value(reply.value).unwrap();
        let kind = Kind::Read {
            key: item as u64,
            version: Some(price),
            newest: Some(price),
            route: Route::Unknown,
            mark: None,
        };
        self.record(number, start, kind);
        price
    }

    fn record(&mut self, session: usize, start: Instant, kind: Kind) {
        self.operations.push(Operation {
            session: u32::try_from(session).unwrap(),
            kind,
            start,
            end: Instant::now(),
        });
    }

    /// Reads until the price is seen. Which replica answers is up to chance, and to what the client last heard of it.
    async fn until_price(&mut self, item: usize, price: u64) {
        let deadline = Instant::now() + SOON;
        while self.price(item).await != price {
            assert!(
                Instant::now() < deadline,
                "{price} is not seen at {:?}: {:?}",
                LEVELS[item],
                self.client.status()
            );
            tokio::task::yield_now().await;
        }
    }

    async fn always_price(&mut self, item: usize, price: u64) {
        for _ in 0..NEVER {
            assert_eq!(self.price(item).await, price, "at {:?}", LEVELS[item]);
        }
    }

    /// What a level's checker says of all that happened to an item.
    fn count(&self, item: usize, level: Level, kind: ViolationKind) -> u64 {
        let of_item = |operation: &&Operation| operation.session as usize / 2 == item;
        let history: History = self.operations.iter().filter(of_item).copied().collect();
        LevelCheck::of(level).run(&history).count(kind)
    }

    /// Each item was treated as its level promises, and where the level allows the anomaly, it happened.
    fn assert_shown(&self, allowed: &[(Consistency, Level)], judge: Level, anomaly: ViolationKind) {
        for (item, level) in LEVELS.iter().enumerate() {
            for kind in ViolationKind::ALL {
                assert_eq!(self.count(item, level.1, kind), 0, "{kind:?} at {level:?}");
            }
            let found = self.count(item, judge, anomaly) > 0;
            assert_eq!(found, allowed.contains(level), "{anomaly:?} at {level:?}");
        }
    }
}

/// Ann doesn't see her own comment.
#[tokio::test(flavor = "multi_thread")]
async fn an_own_write_is_missed_at_eventual_alone() {
    let mut shop = Shop::open().await;
    shop.topology.relays().for_each(|relay| relay.pause());
    for (item, level) in LEVELS.into_iter().enumerate() {
        shop.set_price(ANN, item, 12).await;
        if level == EVENTUAL {
            shop.until_price(item, 10).await;
        } else {
            shop.always_price(item, 12).await;
        }
    }
    shop.assert_shown(&[EVENTUAL], Level::ReadYourWrites, ViolationKind::ReadYourWrites);
}

/// Ann may not see what Bob has just written, for however long the replicas are behind; with a bound, for as long as
/// that.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_write_is_missed_for_as_long_as_the_level_allows() {
    let mut shop = Shop::open().await;
    shop.topology.relays().for_each(|relay| relay.pause());
    for item in 0..LEVELS.len() {
        shop.set_price(BOB, item, 12).await;
    }
    let told = Instant::now();
    wait_until_async(SOON, "the bound is over", || told.elapsed() > BOUND)
        .await
        .unwrap();
    for (item, level) in LEVELS.into_iter().enumerate() {
        if [PRIMARY, WITHIN_THE_BOUND].contains(&level) {
            shop.always_price(item, 12).await;
        } else {
            shop.until_price(item, 10).await;
        }
    }
    shop.assert_shown(
        &[MONOTONIC, WITHIN_AN_HOUR, READ_YOUR_WRITES, EVENTUAL],
        WITHIN_THE_BOUND.1,
        ViolationKind::Overwritten,
    );
}

/// Ann sees Bob's price, reloads, and sees the old one: another replica answered.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_gone_again_where_reads_may_go_back() {
    let mut shop = Shop::open().await;
    shop.topology.relay(1).pause();
    for item in 0..LEVELS.len() {
        shop.set_price(BOB, item, 12).await;
    }
    let mark = shop.topology.primary().mark().unwrap();
    shop.topology.wait_applied(0, mark, SOON).unwrap();
    let told = Instant::now();
    wait_until_async(SOON, "the bound is over", || told.elapsed() > BOUND)
        .await
        .unwrap();
    for (item, level) in LEVELS.into_iter().enumerate() {
        shop.until_price(item, 12).await;
        if [PRIMARY, MONOTONIC, WITHIN_THE_BOUND].contains(&level) {
            shop.always_price(item, 12).await;
        } else {
            shop.until_price(item, 10).await;
        }
    }
    shop.assert_shown(
        &[WITHIN_AN_HOUR, READ_YOUR_WRITES, EVENTUAL],
        Level::Monotonic,
        ViolationKind::MonotonicReads,
    );
}

/// What is missed is there again as soon as replicas have caught up, at every level.
#[tokio::test(flavor = "multi_thread")]
async fn once_replicas_have_caught_up_nothing_is_missed() {
    let mut shop = Shop::open().await;
    shop.topology.relays().for_each(|relay| relay.pause());
    for (item, level) in LEVELS.into_iter().enumerate() {
        shop.set_price(BOB, item, 12).await;
        if level != PRIMARY && level != WITHIN_THE_BOUND {
            shop.until_price(item, 10).await;
        }
    }
    shop.topology.relays().for_each(|relay| relay.resume());
    shop.topology.wait_in_sync(SOON).unwrap();
    for item in 0..LEVELS.len() {
        shop.always_price(item, 12).await;
    }
}
