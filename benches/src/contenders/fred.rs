//! fred: reads at a replica, writes at the primary, no tokens.

use std::collections::HashMap;

use fred::{
    bytes::Bytes,
    clients::Client,
    interfaces::{ClientLike, HashesInterface, KeysInterface},
    types::{
        Builder,
        config::{Config, TcpConfig},
    },
};
use highwater_testkit::Topology;

use super::Caller;

/// Connections to all nodes.
#[derive(Debug)]
pub(super) struct Clients {
    primary: Client,
    replicas: Vec<Client>,
}

impl Clients {
    pub(super) async fn connect(topology: &Topology) -> Self {
        let mut replicas = Vec::new();
        for replica in topology.replicas() {
            replicas.push(connect(&replica.url()).await);
        }
        Self {
            primary: connect(&topology.primary().url()).await,
            replicas,
        }
    }
}

async fn connect(url: &str) -> Client {
    let client = Builder::from_config(Config::from_url(url).unwrap())
        // By default it leaves Nagle's algorithm on.
        .with_connection_config(|config| {
            config.tcp = TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            };
        })
        .build()
        .unwrap();
    client.init().await.unwrap();
    client
}

/// A caller of fred.
#[derive(Debug)]
pub(super) struct Fred {
    reader: Client,
    writer: Client,
}

impl Fred {
    /// Callers are spread over the replicas.
    pub(super) fn new(clients: &Clients, number: usize) -> Self {
        Self {
            reader: clients.replicas[number % clients.replicas.len()].clone(),
            writer: clients.primary.clone(),
        }
    }
}

impl Caller for Fred {
    type Bytes = Bytes;

    async fn get(&mut self, key: &str) -> Bytes {
        self.reader.get(key).await.unwrap()
    }

    async fn set(&mut self, key: &str, value: &[u8]) {
        let () = self.writer.set(key, value, None, None, false).await.unwrap();
    }

    async fn get_all(&mut self, keys: &[String]) -> Vec<Bytes> {
        let pipeline = self.reader.pipeline();
        for key in keys {
            let () = pipeline.get(key).await.unwrap();
        }
        pipeline.all().await.unwrap()
    }

    async fn hash(&mut self, key: &str) -> HashMap<String, String> {
        self.reader.hgetall(key).await.unwrap()
    }
}
