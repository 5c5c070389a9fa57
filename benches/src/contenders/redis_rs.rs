//! redis-rs as people use it: reads at a replica, writes at the primary, no tokens.

use std::collections::HashMap;

use highwater_testkit::Topology;
use redis::{
    AsyncCommands, Client, ConnectionInfo, IntoConnectionInfo,
    aio::{ConnectionLike, ConnectionManager, MultiplexedConnection},
    io::tcp::TcpSettings,
};

use super::Caller;

/// Connections to all nodes.
#[derive(Debug)]
pub(super) struct Plain<C> {
    primary: C,
    replicas: Vec<C>,
}

impl Plain<MultiplexedConnection> {
    pub(super) async fn multiplexed(topology: &Topology, nodelay: bool) -> Self {
        Self::to_all(topology, async |url| {
            let information: ConnectionInfo = url.into_connection_info().unwrap();
            let information = if nodelay {
                information.set_tcp_settings(TcpSettings::default().set_nodelay(true))
            } else {
                information
            };
            let client = Client::open(information).unwrap();
            client.get_multiplexed_async_connection().await.unwrap()
        })
        .await
    }
}

impl Plain<ConnectionManager> {
    pub(super) async fn managed(topology: &Topology) -> Self {
        Self::to_all(topology, async |url| {
            let client = Client::open(url).unwrap();
            client.get_connection_manager().await.unwrap()
        })
        .await
    }
}

impl<C> Plain<C> {
    async fn to_all(topology: &Topology, connect: impl AsyncFn(String) -> C) -> Self {
        let mut replicas = Vec::new();
        for replica in topology.replicas() {
            replicas.push(connect(replica.url()).await);
        }
        Self {
            primary: connect(topology.primary().url()).await,
            replicas,
        }
    }
}

impl<C: Clone> Plain<C> {
    /// Callers are spread over the replicas.
    pub(super) fn caller(&self, number: usize) -> PlainCaller<C> {
        PlainCaller {
            reader: self.replicas[number % self.replicas.len()].clone(),
            writer: self.primary.clone(),
        }
    }

    pub(super) fn primary_only(&self) -> PlainCaller<C> {
        PlainCaller {
            reader: self.primary.clone(),
            writer: self.primary.clone(),
        }
    }

    pub(super) fn writer(&self) -> C {
        self.primary.clone()
    }
}

/// A caller of redis-rs. As a handler of requests does, it clones the connection for each use.
#[derive(Clone, Debug)]
pub(super) struct PlainCaller<C> {
    pub(super) reader: C,
    pub(super) writer: C,
}

impl<C> Caller for PlainCaller<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    type Bytes = Vec<u8>;

    async fn get(&mut self, key: &str) -> Vec<u8> {
        self.reader.clone().get(key).await.unwrap()
    }

    async fn set(&mut self, key: &str, value: &[u8]) {
        let () = self.writer.clone().set(key, value).await.unwrap();
    }

    async fn get_all(&mut self, keys: &[String]) -> Vec<Vec<u8>> {
        pipeline(keys)
            .query_async(&mut self.reader.clone())
            .await
            .unwrap()
    }

    async fn hash(&mut self, key: &str) -> HashMap<String, String> {
        self.reader.clone().hgetall(key).await.unwrap()
    }
}

/// A GET of each.
pub(super) fn pipeline(keys: &[String]) -> redis::Pipeline {
    let mut pipeline = redis::Pipeline::with_capacity(keys.len());
    for key in keys {
        pipeline.get(key);
    }
    pipeline
}
