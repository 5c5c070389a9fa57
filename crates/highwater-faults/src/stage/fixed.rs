//! The servers and the relays between them and around them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use highwater_testkit::{Relay, ReplicationId, Server, ServerKind, wait_until};

use crate::{
    Error,
    schedule::{Front, NODES, PROCESSES, Schedule, UPSTREAMS, Wire},
};

/// Long enough for anything that happens at all, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// A primary, replicas, one that follows a replica, and each process's ways to them.
#[derive(Debug)]
pub(crate) struct Stage {
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

impl Stage {
    pub(crate) fn start(kind: ServerKind, schedule: &Schedule) -> Result<Self, Error> {
        let backlog = format!("{}kb", schedule.backlog);
        let mut arguments = [
            "--repl-diskless-load",
            &schedule.load,
            "--repl-backlog-size",
            &backlog,
            "--repl-timeout",
            "5",
        ]
        .map(str::to_owned)
        .to_vec();
        if kind.release()? >= (7, 0) {
            // An orderly shutdown is not to wait for replicas that are held back. Before 7.0 it did not.
            arguments.extend(["--shutdown-timeout", "0"].map(str::to_owned));
        }
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
        let value = "x".repeat(1000);
        let mut control = stage.server(0)?.connect()?;
        for number in 0..schedule.filler {
            control.command(&["SET", &format!("filler:{number}"), &value])?;
        }
        for (node, upstream) in UPSTREAMS.into_iter().enumerate() {
            if let Some(upstream) = upstream {
                stage.follow(node, upstream)?;
                stage.wait_in_sync(node, 0)?;
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

    pub(crate) fn server(&self, node: usize) -> Result<&Server, Error> {
        Ok(&self.node(node)?.server)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().map(|node| &node.server)
    }

    /// The primary's address as this process knows it.
    pub(crate) fn primary_url(&self, process: usize) -> Result<String, Error> {
        Ok(self
            .fronts_of_primary
            .get(process)
            .ok_or("no such process")?
            .url())
    }

    /// The address of a node, for clients.
    pub(crate) fn node_url(&self, node: usize) -> Result<String, Error> {
        Ok(self.node(node)?.front.url())
    }

    /// Who does not follow another node.
    pub(crate) fn primary(&self) -> usize {
        self.nodes
            .iter()
            .position(|node| node.upstream.is_none())
            .unwrap_or(0)
    }

    /// Makes a node follow another one. If it is down, it will when it is started.
    pub(crate) fn follow(&mut self, node: usize, upstream: usize) -> Result<(), Error> {
        let address = self.server(upstream)?.addr();
        self.node_mut(node)?.follow(upstream, address)
    }

    pub(crate) fn promote(&mut self, node: usize) -> Result<(), Error> {
        let node = self.node_mut(node)?;
        node.upstream = None;
        node.calm_links();
        persist(|| node.server.replicaof_no_one())
    }

    /// Starts a node that is down, in the role that it was given last.
    pub(crate) fn start_again(&mut self, node: usize, keep_data: bool) -> Result<(), Error> {
        let node = self.node(node)?;
        if !keep_data {
            // What an earlier save or a full sync has left.
            let _ = std::fs::remove_file(node.server.data_dir().join("dump.rdb"));
        }
        let mut arguments = self.arguments.clone();
        if node.upstream.is_some() {
            let port = node.link()?.port().to_string();
            arguments.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), port]);
        }
        node.server.restart_with(arguments)?;
        Ok(())
    }

    /// The primary's address of a process leads to this node from now on.
    pub(crate) fn point(&self, process: usize, node: usize) -> Result<(), Error> {
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

    pub(crate) fn break_front(&self, front: Front, wire: Wire) -> Result<(), Error> {
        impair(self.front(front)?, wire);
        Ok(())
    }

    pub(crate) fn mend_front(&self, front: Front) -> Result<(), Error> {
        self.front(front)?.heal();
        Ok(())
    }

    pub(crate) fn break_link(&self, node: usize, wire: Wire) -> Result<(), Error> {
        impair(self.node(node)?.link()?, wire);
        Ok(())
    }

    pub(crate) fn mend_link(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.calm_links();
        Ok(())
    }

    /// Ends every fault: all run, all follow one primary, all processes know it.
    pub(crate) fn heal(&mut self) -> Result<(), Error> {
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
            self.wait_in_sync(node, primary)?;
        }
        Ok(())
    }

    /// Waits until a node has applied something that the primary has written since.
    fn wait_in_sync(&self, node: usize, primary: usize) -> Result<(), Error> {
        let primary = self.server(primary)?;
        let mut goal: Option<(ReplicationId, u64)> = None;
        let what = format!("node {node} is in sync");
        self.server(node)?.wait_for(SOON, &what, |info| {
            // The primary takes a new history when its first replica comes.
            if info.link_up && goal.is_none_or(|(history, _)| history != info.replid) {
                goal = primary
                    .command(&["PUBLISH", "highwater-faults", "in sync?"])
                    .and_then(|_| primary.mark())
                    .ok()
                    .map(|mark| (mark.history, mark.offset));
            }
            info.link_up
                && goal.is_some_and(|(history, offset)| info.replid == history && info.applied() >= offset)
        })?;
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

fn impair(relay: &Relay, wire: Wire) {
    let milliseconds = |count: u32| Duration::from_millis(count.into());
    let bytes = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    match wire {
        Wire::Pause => relay.pause(),
        Wire::Slow(rate) => relay.set_rate(Some(rate.into())),
        Wire::Delay(delay) => relay.set_delay(milliseconds(delay)),
        Wire::Cut => relay.cut(),
        Wire::BlackHole => relay.black_hole(true),
        Wire::Refuse => relay.refuse(true),
        Wire::Split(most, gap) => relay.fragment(bytes(most), milliseconds(gap)),
        Wire::Hold(after) => relay.hold_after(bytes(after)),
        Wire::HoldReplies(after) => relay.hold_replies_after(bytes(after)),
    }
}

/// A server that loads its data set refuses commands for a while.
fn persist(mut command: impl FnMut() -> highwater_testkit::Result<()>) -> Result<(), Error> {
    let begun = Instant::now();
    let mut last = None;
    let done = wait_until(SOON, "the server takes a command", || match command() {
        Ok(()) => true,
        Err(error) => {
            last = Some(error);
            false
        }
    });
    match (done, last) {
        (Err(_), Some(error)) => Err(format!("after {:?}: {error}", begun.elapsed()).into()),
        (done, _) => Ok(done?),
    }
}
