//! Building the client under test.

use std::time::Duration;

use highwater::{CacheMode, CacheOptions, Client, ClientBuilder, Sentinel};
use redis::ProtocolVersion;

use crate::{
    Error,
    wire::{Cache, ClientSetting, Nodes, Policy},
};

/// Short, so that a dead connection is found out several times in a round.
const TIMEOUT: Duration = Duration::from_millis(300);
/// A busy machine takes its time for the dozen exchanges with which a connection begins.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than schedules hold bytes back that a client has sent.
const DOUBT_GRACE: Duration = Duration::from_secs(3);
/// The same where sentinels need time to see that the primary is silent.
const LONGER_GRACE: Duration = Duration::from_secs(8);

pub(super) fn builder(setting: &ClientSetting) -> ClientBuilder {
    let policy = match setting.policy {
        Policy::Primary => highwater::Policy::Primary,
        Policy::Error => highwater::Policy::Error,
        Policy::Proceed => highwater::Policy::Proceed,
    };
    let protocol = if setting.resp2 {
        ProtocolVersion::RESP2
    } else {
        ProtocolVersion::RESP3
    };
    let (builder, doubt_grace) = match &setting.nodes {
        Nodes::Fixed { primary, replicas } => {
            let builder = Client::builder().primary(primary.as_str());
            (builder.replicas(replicas.iter().map(String::as_str)), DOUBT_GRACE)
        }
        Nodes::Sentinels { name, sentinels } => {
            let sentinels = sentinels.iter().map(String::as_str);
            let sentinel = Sentinel::new(name, sentinels).timeout(CONNECT_TIMEOUT);
            (Client::builder().discovery(sentinel), LONGER_GRACE)
        }
    };
    let builder = builder
        .protocol(protocol)
        .connections_per_node(setting.connections)
        .on_possibly_lost(policy)
        .on_unknown_history(policy)
        .response_timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .doubt_grace(doubt_grace);
    let builder = match setting.cache {
        Some(cache) => builder.cache(options(cache, setting.without.timely_invalidations)),
        None => builder,
    };
    if setting.without.proof_checks {
        builder.dangerously_skip_proof_checks()
    } else {
        builder
    }
}

fn options(Cache { kib, ttl }: Cache, late: bool) -> CacheOptions {
    let options = CacheOptions::new(u64::from(kib) << 10);
    let options = match ttl {
        Some(ttl) => options.mode(CacheMode::TtlOnly(Duration::from_millis(ttl.into()))),
        None => options,
    };
    if late {
        options.dangerously_invalidate_late()
    } else {
        options
    }
}

/// A client that is connected: a busy machine may need several attempts, with timeouts this short.
pub(super) async fn connect(setting: &ClientSetting) -> Result<Client, Error> {
    let client = builder(setting).connect_lazy()?;
    client.ready(crate::stage::SOON).await?;
    Ok(client)
}
