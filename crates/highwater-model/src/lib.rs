//! The rules of highwater, model-checked.
//!
//! [Stateright](https://docs.rs/stateright) explores every interleaving of servers, network and clients, breadth first. The
//! servers do what Redis and Valkey were measured to do; the clients judge by `highwater-core` itself: `Progress::scan`
//! (of an `INFO` text), `covers`, `Edges`, `Marks`, `View` (requirement, settlement, losses), `Witness` (what samples on a
//! connection prove), `TokenCodec`. What is written anew here is what moves: connections, flushes, who asks whom.
//!
//! # What is modelled
//!
//! - **Servers** (`cluster`): a stream with an entry an offset; partial and full resyncs, and full ones that fail and leave
//!   an empty data set under the old ID at offset 1; promotion, also in that state (a lineage that is false, without a
//!   backlog); `REPLICAOF`, to a replica too; restarts with what was saved and with nothing; IDs that change on a live
//!   primary; links that are cut for longer than the backlog lasts; an old primary that goes on acknowledging.
//! - **Clients** (`process`, `state`): flushes whose commands are carried out apart, null pushes between them, writes that
//!   land after their connection was lost, callers that go away, `CLIENT KILL` and the grace time where it is refused,
//!   processes that take another node for the primary, tokens and tokens that can't be read, samples that arrive late.
//! - **The near cache** (`cache`): a feed with its wire, fills, invalidations, null pushes, generations, and readers that
//!   load progress and entry one after the other.
//!
//! # What must hold
//!
//! A bystander who knows everything (`judge`) keeps what each session depends on: what was acknowledged to it or to
//! whoever gave it a token, what it saw under monotonic reads, and of the writes in doubt those that a primary has applied.
//!
//! - *no stale read*: no reply misses, without a word, a write that the session depends on and that the primary has;
//! - *a loss is reported before a reply misses the write*;
//! - *nothing is reported lost that is there*: "possibly lost" is said of a mark only if part of the stream up to it is
//!   not in the primary's. Exceptions: doubt (∞) has no place that could be looked up; an unknown history is said to be
//!   unknown although its data are there, if the primary does not name it as its parent (two promotions ago, an ID that
//!   changed unseen, a restart that kept the data alone);
//! - *no sound mark is disbelieved*, as one that its own history's primary has not reached;
//! - *whoever asks a primary is answered*: if nothing else happens, a read at a node that is a primary has an answer after
//!   four questions at most (invariant 7).
//!
//! Doubt about everything (a token that can't be read, a session without room for another mark) has no history. Settling it is
//! visible and counted; what of it a failover has lost before can't be said, and so counts as reported when it is settled.
//!
//! And each scenario must show what it is for: reads served at risk, losses reported, doubt settled, hits. Each broken
//! rule ([`Variant`]) must be refuted.
//!
//! # What is left out
//!
//! Time (waits, predictions, bounded staleness; the grace time is "nothing of it is left in the network"); hints: a read may go
//! to any node, which is more than routing does; `Policy::Error` and `Policy::Proceed`; several scopes; keys (all writes are
//! to one, and a read shows all of them); RESP2's form, which is a split read in one step; downtime of a server that
//! restarts; expiry, eviction and `SWAPDB`; capacities other than that of a session's marks.
//!
//! # Bounds
//!
//! A scenario has its servers and a budget of what may happen ([`Budget`]); some are explored to their end, others up to a number of
//! actions ([`Scenario::depth`]). In CI (`cargo test -p highwater-model`), states, generated states and depth are:
//!
//! | scenario | states | generated | depth |
//! | --- | --- | --- | --- |
//! | proofs | 14,633 | 34,860 | 23, its end |
//! | chained | 46,430 | 101,807 | 11 |
//! | monotonic | 41,430 | 91,989 | 29, its end |
//! | marks | 23,001 | 60,454 | 19, its end |
//! | turns | 12,923 | 28,431 | 11 |
//! | fresh | 28,032 | 49,183 | 9 |
//! | lineage | 226,737 | 661,377 | 9 |
//! | restarts | 50,146 | 127,844 | 8 |
//! | tokens | 47,685 | 206,091 | 8 |
//! | doubt | 2,879 | 8,326 | 13, its end |
//! | grace | 28,116 | 104,929 | 20, its end |
//! | barrier | 5,891 | 13,256 | 22, its end |
//! | crowded | 56,839 | 199,606 | 8 |
//! | cache | 11,948 | 37,381 | 13 |
//! | cache-failover | 86,286 | 281,256 | 10 |
//!
//! `cargo xtask model` prints this, and the counterexample of each broken rule; `--deep` has larger budgets and bounds:
//! proofs then has 77,244 states and chained 6,963,435, both to their ends; others take more memory than 16 GB.
//! Two threads do not always cut a bounded scenario at the same states, so the figures differ by a few.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a model that contradicts itself must not go on"
)]

mod admit;
mod cache;
mod cluster;
mod connections;
mod judge;
mod model;
mod process;
mod reads;
mod run;
mod scenario;
mod scenarios;
mod state;
mod variant;
mod writes;

pub use self::{
    cluster::{Node, Restart, Sync},
    judge::Event,
    model::Action,
    run::{Outcome, explore},
    scenario::{Budget, Scenario},
    scenarios::{all, refutations},
    variant::Variant,
};
