//! Building the client under test.

use std::time::Duration;

use highwater::{Client, ClientBuilder};
use redis::ProtocolVersion;

use crate::{
    Error,
    wire::{ClientSetting, Policy},
};

/// Short, so that a dead connection is found out several times in a round.
const TIMEOUT: Duration = Duration::from_millis(300);
/// A busy machine takes its time for the dozen exchanges with which a connection begins.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than schedules hold bytes back that a client has sent.
const DOUBT_GRACE: Duration = Duration::from_secs(3);

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
    let builder = Client::builder()
        .primary(setting.primary.as_str())
        .replicas(setting.replicas.iter().map(String::as_str))
        .protocol(protocol)
        .connections_per_node(setting.connections)
        .on_possibly_lost(policy)
        .on_unknown_history(policy)
        .response_timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .doubt_grace(DOUBT_GRACE);
    if setting.check_proofs {
        builder
    } else {
        builder.dangerously_skip_proof_checks()
    }
}

/// A client that is connected: a busy machine may need several attempts, with timeouts this short.
pub(super) async fn connect(setting: &ClientSetting) -> Result<Client, Error> {
    let client = builder(setting).connect_lazy()?;
    client.ready(crate::stage::SOON).await?;
    Ok(client)
}
