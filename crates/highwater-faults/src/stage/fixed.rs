//! Nodes that the schedule gives their roles.

use std::{net::SocketAddr, time::Duration};

use highwater_testkit::{Relay, Server, ServerKind};

use super::{Stage, arguments, fill, forget, impair, persist, wait_in_sync};
use crate::{
    Error,
    schedule::{Fault, Front, NODES, PROCESSES, ProcessSetting, Schedule, UPSTREAMS, Wire},
    wire::Nodes,
};

/// A primary, replicas, one that follows a replica, and each process's ways to them.
#[derive(Debug)]
pub(crate) struct Fixed {
    fronts_of_primary: Vec<Relay>,
    nodes: Vec<Node>,
    /// What each server is started with.
    arguments: Vec<String>,
}

/// A server, the two relays through which it can follow another, and the one through which clients reach it.
#[derive(Debug)]
struct Node {
    server: Server,
    /// REPLICAOF the port that a replica has already changes nothing, so there are two to change between.
    links: [Relay; 2],
    active: usize,
    upstream: Option<usize>,
    front: Relay,
    /// What its streams are delayed by all the time.
    delay: (Duration, Duration),
}

impl Fixed {
    pub(super) fn start(kind: ServerKind, schedule: &Schedule) -> Result<Self, Error> {
        let arguments = arguments(kind, schedule)?;
        let mut nodes: Vec<Node> = Vec::new();
        for _ in 0..NODES {
            let server = Server::builder().kind(kind).args(arguments.clone()).start()?;
            let relay = || Relay::start(server.addr());
            nodes.push(Node {
                links: [relay()?, relay()?],
                active: 0,
                upstream: None,
                front: relay()?,
                delay: Default::default(),
                server,
            });
        }
        let address = nodes.first().ok_or("a stage has nodes")?.server.addr();
        let mut stage = Self {
            fronts_of_primary: (0..PROCESSES)
                .map(|_| Relay::start(address))
                .collect::<Result<_, _>>()?,
            nodes,
            arguments,
        };
        fill(stage.server(0)?, schedule)?;
        for (node, upstream) in UPSTREAMS.into_iter().enumerate() {
            if let Some(upstream) = upstream {
                stage.follow(node, upstream)?;
                wait_in_sync(stage.server(node)?, stage.server(0)?)?;
            }
        }
        for (node, (least, most)) in (1..).zip(schedule.delays) {
            let delay = [least, most].map(|delay| Duration::from_millis(delay.into()));
            let node = stage.node_mut(node)?;
            node.delay = (delay[0], delay[1]);
            node.calm_links();
        }
        Ok(stage)
    }

    fn node(&self, node: usize) -> Result<&Node, Error> {
        self.nodes
            .get(node)
            .ok_or_else(|| format!("no node {node}").into())
    }

    fn node_mut(&mut self, node: usize) -> Result<&mut Node, Error> {
        self.nodes
            .get_mut(node)
            .ok_or_else(|| format!("no node {node}").into())
    }

    /// Makes a node follow another one. If it is down, it will when it is started.
    fn follow(&mut self, node: usize, upstream: usize) -> Result<(), Error> {
        let address = self.server(upstream)?.addr();
        self.node_mut(node)?.follow(upstream, address)
    }

    fn promote(&mut self, node: usize) -> Result<(), Error> {
        let node = self.node_mut(node)?;
        node.upstream = None;
        node.calm_links();
        persist(|| node.server.replicaof_no_one())
    }

    /// The primary's address of a process leads to this node from now on.
    fn point(&self, process: usize, node: usize) -> Result<(), Error> {
        let front = self.fronts_of_primary.get(process).ok_or("no such process")?;
        front.set_target(self.server(node)?.addr());
        front.cut();
        Ok(())
    }

    fn front(&self, front: Front) -> Result<&Relay, Error> {
        match front {
            Front::Primary(process) => self
                .fronts_of_primary
                .get(process)
                .ok_or_else(|| "no such process".into()),
            Front::Node(node) => Ok(&self.node(node)?.front),
        }
    }
}

impl Stage for Fixed {
    fn server(&self, node: usize) -> Result<&Server, Error> {
        Ok(&self.node(node)?.server)
    }

    fn servers(&self) -> Vec<&Server> {
        self.nodes.iter().map(|node| &node.server).collect()
    }

    fn clients_way(&self, process: usize, setting: &ProcessSetting) -> Result<Nodes, Error> {
        let first = if setting.every_node { 0 } else { 1 };
        let front = self.fronts_of_primary.get(process).ok_or("no such process")?;
        Ok(Nodes::Fixed {
            primary: front.url(),
            replicas: (first..NODES)
                .map(|node| Ok(self.node(node)?.front.url()))
                .collect::<Result<_, Error>>()?,
        })
    }

    /// Who does not follow another node.
    fn primary(&self) -> usize {
        self.nodes
            .iter()
            .position(|node| node.upstream.is_none())
            .unwrap_or(0)
    }

    fn start_again(&mut self, node: usize, keep_data: bool) -> Result<(), Error> {
        let node = self.node(node)?;
        if !keep_data {
            forget(&node.server);
        }
        let mut arguments = self.arguments.clone();
        if node.upstream.is_some() {
            let port = node.link()?.port().to_string();
            arguments.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), port]);
        }
        node.server.restart_with(arguments)?;
        Ok(())
    }

    fn break_front(&mut self, front: Front, wire: Wire) -> Result<(), Error> {
        impair(self.front(front)?, wire);
        Ok(())
    }

    fn mend_front(&mut self, front: Front) -> Result<(), Error> {
        self.front(front)?.heal();
        Ok(())
    }

    fn break_link(&mut self, node: usize, wire: Wire) -> Result<(), Error> {
        impair(self.node(node)?.link()?, wire);
        Ok(())
    }

    fn mend_link(&mut self, node: usize) -> Result<(), Error> {
        self.node(node)?.calm_links();
        Ok(())
    }

    fn rearrange(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::Follow(node, upstream) => self.follow(node, upstream),
            Fault::Promote(node) => self.promote(node),
            Fault::Point(process, node) => self.point(process, node),
            _ => Err(format!("{fault}: there are no sentinels here").into()),
        }
    }

    /// Ends every fault: all run, all follow one primary, all processes know it.
    fn heal(&mut self) -> Result<(), Error> {
        for node in &mut self.nodes {
            node.delay = Default::default();
            node.calm_links();
            node.front.heal();
            if node.server.pid().is_some() {
                node.server.resume()?;
            }
        }
        for relay in &self.fronts_of_primary {
            relay.heal();
        }
        let primary = self.primary();
        for node in 0..NODES {
            if self.server(node)?.pid().is_none() {
                self.start_again(node, true)?;
            }
        }
        for node in (0..NODES).filter(|node| *node != primary) {
            if self.node(node)?.upstream != Some(primary) {
                self.follow(node, primary)?;
            }
        }
        for process in 0..PROCESSES {
            let front = self.front(Front::Primary(process))?;
            if front.target() != self.server(primary)?.addr() {
                self.point(process, primary)?;
            }
        }
        for node in (0..NODES).filter(|node| *node != primary) {
            wait_in_sync(self.server(node)?, self.server(primary)?)?;
        }
        Ok(())
    }
}

impl Node {
    fn link(&self) -> Result<&Relay, Error> {
        self.links.get(self.active).ok_or_else(|| "no such link".into())
    }

    fn follow(&mut self, upstream: usize, address: SocketAddr) -> Result<(), Error> {
        self.active = 1 - self.active;
        self.upstream = Some(upstream);
        let link = self.link()?;
        link.set_target(address);
        // What is left of the last time it led somewhere.
        link.cut();
        if self.server.pid().is_none() {
            return Ok(());
        }
        let port = link.port();
        persist(|| self.server.replicaof("127.0.0.1", port))
    }

    fn calm_links(&self) {
        for link in &self.links {
            link.heal();
            link.set_jitter(self.delay.0, self.delay.1);
        }
    }
}
