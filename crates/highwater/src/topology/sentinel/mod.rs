//! Sentinel: the servers that watch a deployment's nodes, and agree on which of them is the primary.

mod view;
mod watch;

use std::{error::Error as StdError, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;

use self::{view::Views, watch::Watch};
use super::{Discovery, Publisher};
#[cfg(feature = "tls")]
use crate::tls::TlsOptions;
use crate::{
    defaults::CONNECT_TIMEOUT,
    error::{Error, ErrorKind},
    node::{Address, NodeAddress},
};

/// Follows a deployment through its sentinels.
///
/// Each sentinel that is named is listened to (`+switch-master`, `+slave`, `+sdown` and their like) and asked
/// once a second besides ([`defaults::SENTINEL_PROBE`](crate::defaults::SENTINEL_PROBE)), and at once when a node contradicts
/// what it said. Where they differ, the one that knows of the latest failover (the highest configuration epoch) is
/// believed, and no sentinel more than a node's own word: see [`Discovery`]. Replicas come and go as sentinels see
/// them. With no sentinel left, the nodes stay those that were known.
///
/// ```no_run
/// use highwater::{Client, Sentinel};
///
/// # async fn f() -> Result<(), highwater::Error> {
/// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
/// let client = Client::builder()
///     .discovery(Sentinel::new("mymaster", sentinels).nodes_like("redis://cart:secret@any/0"))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sentinel {
    name: String,
    sentinels: Vec<NodeAddress>,
    nodes: NodeAddress,
    timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<TlsOptions>,
}

impl Sentinel {
    /// The deployment that the sentinels know by this name. A sentinel's URL has the sentinel's own user
    /// and password, if it has some, and begins with `rediss://` if it speaks TLS.
    pub fn new<A: Into<NodeAddress>>(
        name: impl Into<String>,
        sentinels: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.into(),
            sentinels: sentinels.into_iter().map(Into::into).collect(),
            nodes: NodeAddress::from("redis://node"),
            timeout: CONNECT_TIMEOUT,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// A URL in which all is as for the nodes, except for host and port, which the sentinels tell: user, password,
    /// database, and `rediss://` for TLS (with [`ClientBuilder::tls`](crate::ClientBuilder::tls)). Default: none of these.
    #[must_use]
    pub fn nodes_like(mut self, url: impl Into<NodeAddress>) -> Self {
        self.nodes = url.into();
        self
    }

    /// How long a sentinel may take to answer before another one is relied on. Default:
    /// [`defaults::CONNECT_TIMEOUT`](crate::defaults::CONNECT_TIMEOUT).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What connections to sentinels at `rediss://` URLs trust, and how they present themselves. Default:
    /// [`TlsOptions::new`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    fn addresses(&self) -> Result<Vec<Address>, Error> {
        if self.sentinels.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "no sentinel: give their URLs with Sentinel::new",
            ));
        }
        #[cfg(feature = "tls")]
        let tls = if self.sentinels.iter().any(NodeAddress::is_tls) {
            Some(self.tls.clone().unwrap_or_default().build()?)
        } else {
            None
        };
        #[cfg(not(feature = "tls"))]
        let tls = None;
        self.sentinels
            .iter()
            .map(|sentinel| sentinel.clone().resolve(tls.as_ref()))
            .collect()
    }
}

#[async_trait]
impl Discovery for Sentinel {
    async fn follow(&self, publisher: Publisher) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let addresses = self.addresses()?;
        let views = Views::new(addresses.len());
        let watches = addresses.iter().enumerate().map(|(place, address)| {
            Watch {
                sentinel: self,
                address,
                place,
                views: &views,
                publisher: publisher.clone(),
            }
            .run()
        });
        join_all(watches).await;
        Ok(())
    }
}
