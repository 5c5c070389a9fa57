//! Every number that this crate chooses: what the builder changes, and what it does not.
//!
//! All bounds are there because nothing may grow without one; all waits, because nothing may wait for
//! ever.

use std::time::Duration;

// What `ClientBuilder` changes.

/// How long a read waits for a replica to catch up before the primary is asked:
/// [`max_wait`](crate::ClientBuilder::max_wait).
pub const MAX_WAIT: Duration = Duration::from_millis(10);
/// How long a connection may take to be made, from the socket to the first sample:
/// [`connect_timeout`](crate::ClientBuilder::connect_timeout).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node may be silent while a reply is awaited, before it counts as dead:
/// [`response_timeout`](crate::ClientBuilder::response_timeout).
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a write on a lost connection can still arrive, where `CLIENT KILL` is not allowed:
/// [`doubt_grace`](crate::ClientBuilder::doubt_grace).
pub const DOUBT_GRACE: Duration = Duration::from_secs(60);
/// How long [`Client::shutdown`](crate::Client::shutdown) waits for what is in flight:
/// [`shutdown_timeout`](crate::ClientBuilder::shutdown_timeout).
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How many requests of a client may be in flight; more wait in line:
/// [`max_in_flight`](crate::ClientBuilder::max_in_flight).
pub const MAX_IN_FLIGHT: usize = 8192;
/// How many connections of callers' own ([`Client::dedicated`](crate::Client::dedicated)) there may be; more
/// callers wait in line: [`max_dedicated`](crate::ClientBuilder::max_dedicated).
pub const MAX_DEDICATED: usize = 64;
/// How many commands that block may run at once; more wait in line:
/// [`max_blocking`](crate::ClientBuilder::max_blocking).
pub const MAX_BLOCKING: usize = 16;
/// How many connections a client has to each node:
/// [`connections_per_node`](crate::ClientBuilder::connections_per_node).
pub const CONNECTIONS_PER_NODE: usize = 1;
/// How long a read that no replica can answer waits for its turn at the primary, where there is a bound
/// ([`max_fallbacks`](crate::ClientBuilder::max_fallbacks)):
/// [`fallback_wait`](crate::ClientBuilder::fallback_wait).
pub const FALLBACK_WAIT: Duration = Duration::from_secs(1);
/// How many bytes the replies of one key may take in the near cache; larger ones are not kept:
/// [`CacheOptions::max_entry`](crate::CacheOptions::max_entry).
pub const MAX_CACHE_ENTRY: usize = 1 << 20;
/// How long an entry of the near cache is used at most:
/// [`CacheOptions::max_ttl`](crate::CacheOptions::max_ttl).
pub const MAX_CACHE_TTL: Duration = Duration::from_secs(3600);

// What is fixed.

/// How often a primary that nobody asks anything is asked where it is: often enough for reads of bounded
/// staleness, from a bound of a second on.
pub const PRIMARY_PROBE: Duration = Duration::from_millis(500);
/// How often a replica is.
pub const IDLE_PROBE: Duration = Duration::from_secs(1);
/// The least time between two `INFO`s that are sent only because somebody waits for a node to catch up.
pub const PROBE_PACE: Duration = Duration::from_millis(1);
/// How many such `INFO`s follow each other without that time, on a connection with nothing else in flight, when somebody begins to
/// wait.
pub const EAGER_PROBES: u32 = 8;
/// A connection that has lasted for so long is made anew without a pause when it is lost.
pub const LASTING: Duration = Duration::from_secs(1);
/// The shortest pause before a connection is tried again. It doubles with each failure, with jitter.
pub const MIN_BACKOFF: Duration = Duration::from_millis(20);
/// How often each sentinel is asked, besides what it says by itself.
pub const SENTINEL_PROBE: Duration = Duration::from_secs(1);
/// About how long a discovery that has ended rests before it is begun anew.
pub const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);
/// How often the discovery is asked again while two nodes say that they are the primary.
pub const DOUBT_PACE: Duration = Duration::from_millis(50);
/// How long nothing is written while the discovery names a primary that another node says that it has succeeded:
/// longer than Sentinel takes to hear of a promotion, or to undo one that it did not want.
pub const CONTEST_PATIENCE: Duration = Duration::from_secs(15);
/// The longest that a write waits for acknowledgements, and holds up those behind it: [`Acks`](crate::Acks).
pub const MAX_ACKS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it takes until a connection for writes that wait for acknowledgements is opened again after that has failed.
pub const ACKS_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a connection is tried again.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How many bytes may wait to be written on one connection; more are refused.
pub const MAX_BUFFERED: usize = 64 << 20;
/// The most connections that a client can have to each node.
pub const MAX_CONNECTIONS_PER_NODE: usize = 64;
/// How many writes of a node's lost connections are kept to be settled; more stay in doubt.
pub const MAX_LOST_WRITES: usize = 10_000;
/// How often one read is sent to replicas before the primary is asked.
pub const REPLICA_ATTEMPTS: usize = 2;
/// How long a replica that said that it can't answer now (`LOADING`, `MASTERDOWN`, …) is passed over.
pub const SUSPENSION: Duration = Duration::from_millis(100);
/// The oldest that a replica's last word may be before a read that passes it over asks for a new one.
pub const HINT_AGE: Duration = Duration::from_millis(20);
/// The least time between two samples of the primary for sessions whose token can't be read, and for bounds of
/// staleness; shorter bounds are served by the primary.
pub const BARRIER_PACE: Duration = Duration::from_millis(10);
/// How far behind a feed of the near cache may be before its keys are moved to a better one.
pub const FEED_LAG: Duration = Duration::from_millis(500);
/// So many times as far behind as the best feed, beyond [`FEED_LAG`], a feed is not used.
pub const FEED_LAG_OVER: u32 = 4;
/// How often it is looked at which feed each key of the near cache belongs to.
pub const FEED_PACE: Duration = Duration::from_millis(100);
/// How long it takes until a server that refuses what the near cache needs is asked anew.
pub const FEED_REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// The most keys of one `MGET` that are served by the near cache; longer ones go to a node.
pub const MAX_CACHED_MGET: usize = 256;
/// How many reads a second may each ask the primary about marks that are in doubt or that it has never seen (and
/// [`STRAY_BURST`] at once). More share a sample of it, and replicas answer.
pub const STRAY_READS_PER_SECOND: f64 = 20.0;
/// See [`STRAY_READS_PER_SECOND`].
pub const STRAY_BURST: f64 = 32.0;
