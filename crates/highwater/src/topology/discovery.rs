//! What follows a deployment's changes: the interface.

use std::{error::Error as StdError, fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    error::{Error, ErrorKind},
    node::NodeAddress,
};

/// A deployment's nodes, as they are now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Topology {
    pub(crate) primary: NodeAddress,
    /// With their zones.
    pub(crate) replicas: Vec<(NodeAddress, Option<String>)>,
}

impl Topology {
    /// A primary without replicas.
    pub fn new(primary: impl Into<NodeAddress>) -> Self {
        Self {
            primary: primary.into(),
            replicas: Vec::new(),
        }
    }

    /// Adds a replica.
    #[must_use]
    pub fn replica(mut self, address: impl Into<NodeAddress>) -> Self {
        self.replicas.push((address.into(), None));
        self
    }

    /// Adds a replica, and the zone that it is in: see
    /// [`ClientBuilder::prefer_zone`](crate::ClientBuilder::prefer_zone).
    #[must_use]
    pub fn replica_in_zone(mut self, address: impl Into<NodeAddress>, zone: impl Into<String>) -> Self {
        self.replicas.push((address.into(), Some(zone.into())));
        self
    }
}

/// Follows a deployment, and publishes which nodes it has: [`Sentinel`](crate::Sentinel), or one's own, for
/// whatever knows (Kubernetes, Consul, DNS, a file).
///
/// What is published routes, and never proves: a topology that is late or wrong costs errors, not stale reads.
/// Where a node's own word says otherwise than the topology, the node is believed: a demoted primary gets no
/// writes, and a promoted replica that grew out of the primary's history does, once the old primary does not say
/// any more that it is one.
///
/// ```no_run
/// use highwater::{Client, Discovery, Publisher, Topology};
/// use std::{error::Error, time::Duration};
///
/// /// A file with a URL a line, the primary's first.
/// #[derive(Debug)]
/// struct Listed(std::path::PathBuf);
///
/// #[async_trait::async_trait]
/// impl Discovery for Listed {
///     async fn follow(&self, mut publisher: Publisher) -> Result<(), Box<dyn Error + Send + Sync>> {
///         loop {
///             let list = std::fs::read_to_string(&self.0)?;
///             let mut urls = list.lines();
///             let primary = urls.next().ok_or("the list of nodes is empty")?;
///             publisher.publish(urls.fold(Topology::new(primary), Topology::replica));
///             // Looked at again every ten seconds, and at once when the nodes contradict it.
///             let _ = tokio::time::timeout(Duration::from_secs(10), publisher.doubted()).await;
///         }
///     }
/// }
///
/// # async fn f() -> Result<(), highwater::Error> {
/// let client = Client::builder().discovery(Listed("nodes.txt".into())).connect().await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Discovery: fmt::Debug + Send + Sync + 'static {
    /// Publishes the topology, and each change of it, for as long as the client lives: its future is dropped then.
    /// One that returns is called again after a pause.
    ///
    /// # Errors
    ///
    /// Why the topology can't be known. What was published before stays in use; if that is nothing, the client's
    /// callers get this error.
    async fn follow(&self, publisher: Publisher) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

/// Where a [`Discovery`] publishes.
#[derive(Clone, Debug)]
pub struct Publisher {
    news: watch::Sender<Option<Result<Topology, Error>>>,
    doubts: watch::Receiver<u64>,
}

impl Publisher {
    pub(super) fn new(
        news: watch::Sender<Option<Result<Topology, Error>>>,
        doubts: watch::Receiver<u64>,
    ) -> Self {
        Self { news, doubts }
    }

    /// Publishes the topology. To publish what is known already does nothing.
    pub fn publish(&self, topology: Topology) {
        self.news.send_replace(Some(Ok(topology)));
    }

    /// Tells why the topology can't be known for now. What was published before stays in use.
    pub(crate) fn failed(&self, error: Error) {
        self.news.send_if_modified(|news| {
            let first = !matches!(news, Some(Ok(_)));
            if first {
                *news = Some(Err(error));
            }
            first
        });
    }

    /// The same, for errors of other kinds.
    pub(super) fn ended(&self, error: Option<Box<dyn StdError + Send + Sync>>) {
        let error = match error {
            None => Error::new(ErrorKind::Unavailable, "the discovery ended without a topology"),
            Some(error) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(other) => {
                    let message = format!("the discovery failed: {other}");
                    Error::new(ErrorKind::Unavailable, message).with_shared_source(Arc::from(other))
                }
            },
        };
        self.failed(error);
    }

    /// Waits until the client has reason to doubt what was published: the primary says that it is a replica, or a
    /// replica that it is a primary.
    ///
    /// # Cancel safety
    ///
    /// A doubt that came up while nobody waited is told to the next one who does.
    pub async fn doubted(&mut self) {
        if self.doubts.changed().await.is_err() {
            // The client is gone, and this future will be dropped.
            std::future::pending::<()>().await;
        }
    }
}
