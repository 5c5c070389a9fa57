//! The nodes in use, made from a topology.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use highwater_core::Role;
use tokio::{sync::watch, task::JoinHandle};

use super::Topology;
use crate::{
    defaults::PRIMARY_PROBE,
    error::{Error, ErrorKind},
    node::{Address, Knowledge, Node, NodeAddress, Settings, Tls},
};

/// The nodes in use. A value of this type never changes: another one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// `None` until a discovery has said, or failed.
    pub(crate) primary: Option<Result<Arc<Node>, Error>>,
    pub(crate) replicas: Vec<Arc<Node>>,
    /// Some of them are in the zone that is preferred.
    pub(crate) prefers_zone: bool,
}

impl Members {
    /// # Errors
    ///
    /// When it is not known which node is the primary.
    pub(crate) fn primary(&self) -> Result<&Arc<Node>, Error> {
        match &self.primary {
            Some(Ok(primary)) => Ok(primary),
            Some(Err(error)) => Err(error.clone()),
            None => Err(Error::new(
                ErrorKind::Unavailable,
                "it is still being found out which node is the primary",
            )),
        }
    }

    /// The primary and the replicas.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.primary
            .iter()
            .filter_map(|primary| primary.as_ref().ok())
            .chain(&self.replicas)
    }

    pub(super) fn of(primary: Option<Result<Arc<Node>, Error>>, replicas: Vec<Arc<Node>>) -> Self {
        let prefers_zone = replicas.iter().any(|replica| replica.preferred);
        Self {
            primary,
            replicas,
            prefers_zone,
        }
    }
}

/// The nodes in use now: for those who look at each call, none of whom waits for another, and for those who wait for
/// others to take their place.
#[derive(Debug)]
pub(crate) struct Roster {
    now: ArcSwap<Members>,
    changes: watch::Sender<Arc<Members>>,
}

impl Roster {
    pub(crate) fn new(members: Members) -> Self {
        let members = Arc::new(members);
        Self {
            now: ArcSwap::new(Arc::clone(&members)),
            changes: watch::Sender::new(members),
        }
    }

    /// Those of this moment. Not to be held while something is waited for.
    pub(crate) fn now(&self) -> Guard<Arc<Members>> {
        self.now.load()
    }

    /// Those of this moment, to keep.
    pub(crate) fn get(&self) -> Arc<Members> {
        self.now.load_full()
    }

    pub(crate) fn set(&self, members: Members) {
        let members = Arc::new(members);
        self.now.store(Arc::clone(&members));
        self.changes.send_replace(members);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Members>> {
        self.changes.subscribe()
    }
}

/// What it takes to make nodes.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) settings: Settings,
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) preferred_zone: Option<String>,
    /// What `rediss://` addresses need; why there is none, for those that do.
    pub(crate) tls: Option<Result<Tls, Error>>,
    /// False: no replica is connected to.
    pub(crate) proofs: bool,
}

/// Nodes that take the place of others.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) members: Members,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl Registry {
    fn resolve(&self, address: NodeAddress) -> Result<Address, Error> {
        match &self.tls {
            Some(Err(error)) if address.is_tls() => Err(error.clone()),
            tls => address.resolve(tls.as_ref().and_then(|tls| tls.as_ref().ok())),
        }
    }

    /// A node that is not connected yet.
    fn node(&self, address: Address, role: Role, zone: Option<String>) -> Arc<Node> {
        let mut settings = self.settings.clone();
        if role == Role::Primary {
            settings.idle_probe = PRIMARY_PROBE;
        }
        let preferred = zone.is_some() && zone == self.preferred_zone;
        Node::new(
            address,
            role,
            (zone, preferred),
            settings,
            Arc::clone(&self.knowledge),
        )
    }

    /// The nodes of a topology: those of `before` that are still wanted for the same, and new ones for the rest,
    /// which begin to connect.
    ///
    /// # Errors
    ///
    /// When an address can't be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn members(&self, topology: Topology, before: &Members) -> Result<Change, Error> {
        let primary = self.resolve(topology.primary)?;
        let mut wanted: Vec<(Address, Option<String>)> = Vec::with_capacity(topology.replicas.len());
        for (replica, zone) in topology.replicas {
            let replica = self.resolve(replica)?;
            if replica.database != primary.database {
                let message = "all URLs must name the same database number";
                return Err(Error::new(ErrorKind::Config, message));
            }
            if self.proofs {
                wanted.push((replica, zone));
            }
        }
        let mut tasks = Vec::new();
        let mut known = |address: Address, role: Role, zone: Option<String>| {
            let old = before
                .nodes()
                .find(|node| node.expected_role == role && node.zone == zone && node.address.is(&address));
            old.map_or_else(
                || {
                    let node = self.node(address.clone(), role, zone.clone());
                    tasks.extend(node.start());
                    node
                },
                Arc::clone,
            )
        };
        let primary = known(primary, Role::Primary, None);
        let replicas = wanted
            .into_iter()
            .map(|(address, zone)| known(address, Role::Replica, zone))
            .collect();
        Ok(Change {
            members: Members::of(Some(Ok(primary)), replicas),
            tasks,
        })
    }

    /// The same nodes, with this replica as the primary, and the primary as a replica.
    pub(super) fn promoted(&self, successor: &Arc<Node>, before: &Members) -> Change {
        let primary = self.node(successor.address.clone(), Role::Primary, None);
        let mut tasks = primary.start();
        let mut replicas: Vec<_> = before
            .replicas
            .iter()
            .filter(|node| !Arc::ptr_eq(node, successor))
            .map(Arc::clone)
            .collect();
        if let Some(Ok(old)) = &before.primary {
            let old = self.node(old.address.clone(), Role::Replica, None);
            tasks.extend(old.start());
            replicas.push(old);
        }
        Change {
            members: Members::of(Some(Ok(primary)), replicas),
            tasks,
        }
    }
}
