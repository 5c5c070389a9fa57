//! The near cache against real servers.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod churn;
#[path = "../common/mod.rs"]
mod common;
mod history;
mod hits;
mod law7;
mod mistakes;
mod off;

use highwater::{CacheOptions, Client, ClientBuilder, Command, Reply, Route, Session};
use highwater_testkit::Topology;

use common::{builder, until};

/// Room for all that these tests keep.
pub(crate) const ROOM: u64 = 32 << 20;

pub(crate) fn cached(topology: &Topology) -> ClientBuilder {
    with(topology, CacheOptions::new(ROOM))
}

/// A builder for a client of the whole topology. A busy machine is not to be taken for a dead server: what was kept
/// would be gone.
pub(crate) fn with(topology: &Topology, options: CacheOptions) -> ClientBuilder {
    builder(topology).response_timeout(common::SOON).cache(options)
}

/// A client of the whole topology with a cache whose feeds are up.
pub(crate) async fn client(topology: &Topology) -> Client {
    connected(cached(topology)).await
}

pub(crate) async fn connected(builder: ClientBuilder) -> Client {
    let client = builder.connect().await.expect("the servers run");
    feeds_are_up(&client).await;
    client
}

pub(crate) async fn feeds_are_up(client: &Client) {
    until("all feeds are up", || {
        let cache = client.status().cache.expect("there is a cache");
        cache.feeds.iter().all(|feed| feed.connection == "up")
    })
    .await;
}

/// Reads until the cache answers; every reply on the way must have this value.
pub(crate) async fn from_the_cache(client: &Client, read: &Command, value: &redis::Value) -> Reply {
    let deadline = std::time::Instant::now() + common::SOON;
    loop {
        let reply = client.call(read.clone()).await.expect("reads work");
        assert_eq!(reply.value, *value, "{read:?} from {:?}", reply.route);
        if reply.route == Route::Cache {
            return reply;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the cache does not answer: {:?} {:?}",
            client.cache_stats(),
            client.status()
        );
        tokio::task::yield_now().await;
    }
}

/// A command, with the session.
pub(crate) fn of(words: &str, session: &Session) -> Command {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().expect("a name"));
    words.for_each(|word| {
        command.arg(word);
    });
    Command::new(&command).session(session)
}
