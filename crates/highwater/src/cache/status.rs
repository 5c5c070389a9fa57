//! How it stands with the near cache, for people and dashboards.

use super::{CacheMode, NearCache, feed::FeedLink, service::Kind};

/// How it stands with the near cache.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheStatus {
    /// How entries are kept valid: `tracking` or `ttl_only`.
    pub mode: &'static str,
    /// True when reads can be answered from the cache: at least one feed is up, or none is needed.
    pub on: bool,
    /// Why it is not on.
    pub reason: Option<String>,
    /// The feeds, one for each node that is read from.
    pub feeds: Vec<FeedStatus>,
}

/// How it stands with one feed.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FeedStatus {
    /// The node's `host:port`, or a path.
    pub node: String,
    /// `up`, `connecting`, `down` or `refused`.
    pub connection: &'static str,
    /// Why it is down, why it is refused, or why nothing is kept of what it brings.
    pub reason: Option<String>,
    /// How far the feed is known to have applied its history, in bytes.
    pub applied: Option<u64>,
}

impl NearCache {
    pub(crate) fn status(&self) -> CacheStatus {
        let mode = match self.mode {
            CacheMode::Tracking => "tracking",
            CacheMode::TtlOnly(_) => "ttl_only",
        };
        let Kind::Tracking(feeds) = &self.kind else {
            return CacheStatus {
                mode,
                on: true,
                reason: None,
                feeds: Vec::new(),
            };
        };
        let feeds: Vec<FeedStatus> = feeds
            .load()
            .all
            .iter()
            .map(|feed| {
                let (connection, reason) = match feed.link() {
                    FeedLink::Connecting => ("connecting", None),
                    FeedLink::Up(_) => ("up", feed.why_unproven()),
                    FeedLink::Down(why) => ("down", Some(why)),
                    FeedLink::Refused(why) => ("refused", Some(why)),
                };
                FeedStatus {
                    node: feed.node.address.to_string(),
                    connection,
                    reason,
                    applied: feed.view().progress.map(|progress| progress.applied),
                }
            })
            .collect();
        let on = feeds
            .iter()
            .any(|feed| feed.connection == "up" && feed.reason.is_none());
        CacheStatus {
            mode,
            on,
            reason: feeds.iter().find_map(|feed| feed.reason.clone()).filter(|_| !on),
            feeds,
        }
    }
}
