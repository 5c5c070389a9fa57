//! Nodes that sentinels watch, and give their roles.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use highwater_testkit::{Control, Impairment, Reply, Role, Sentinels, Server, ServerKind, wait_until};

use super::{SOON, Stage, arguments, fill, forget, impair, wait_in_sync};
use crate::{
    Error,
    actor::WITNESSES,
    schedule::{Fault, Front, PRIMARY, Place, ProcessSetting, SENTINELS, Schedule, WATCHED, Wire},
    wire::Nodes,
};

/// How long a sentinel may take to say something.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long the order to fail over is repeated while it is refused.
const INSISTENCE: Duration = Duration::from_secs(2);
/// How long sentinels take to agree at most, when they can.
const AGREEMENT: Duration = Duration::from_secs(60);

/// A primary and its replicas, each behind a relay that everybody reaches it through, and sentinels.
#[derive(Debug)]
pub(crate) struct Watched {
    deployment: Sentinels,
    /// By how much the streams to the nodes are delayed all the time.
    delays: Vec<(Duration, Duration)>,
    /// What is done to them besides.
    links: HashMap<usize, Wire>,
    /// Whom those nodes followed that have died.
    followed: HashMap<usize, Option<usize>>,
    busy: HashSet<Place>,
}

impl Watched {
    pub(super) fn start(kind: ServerKind, schedule: &Schedule) -> Result<Self, Error> {
        let name = Sentinels::NAME;
        let deployment = Sentinels::builder()
            .kind(kind)
            .replicas(WATCHED - 1)
            .sentinels(SENTINELS)
            .args(arguments(kind, schedule)?)
            // Twice this passes before they try again.
            .sentinel_lines([format!("sentinel failover-timeout {name} 1500")])
            .start()?;
        fill(deployment.node(0), schedule)?;
        for node in 1..WATCHED {
            wait_in_sync(deployment.node(node), deployment.node(0))?;
        }
        let delays = schedule.delays.iter().map(|(least, most)| {
            let milliseconds = |count: &u32| Duration::from_millis((*count).into());
            (milliseconds(least), milliseconds(most))
        });
        let stage = Self {
            delays: delays.collect(),
            links: HashMap::new(),
            followed: HashMap::new(),
            busy: HashSet::new(),
            deployment,
        };
        for node in 0..WATCHED {
            stage.impair_link(node)?;
        }
        Ok(stage)
    }

    /// The bytes by which a replica's link is known: it names the port that it announces.
    fn link(&self, node: usize) -> String {
        let port = self.deployment.relay(node).port().to_string();
        format!("listening-port\r\n${}\r\n{port}\r\n", port.len())
    }

    /// Does to a node's link what is to be done to it, whomever it follows.
    fn impair_link(&self, node: usize) -> Result<(), Error> {
        let mut impairment = Impairment {
            delay: self.delays.get(node).copied().unwrap_or_default(),
            ..Impairment::default()
        };
        match self.links.get(&node) {
            None | Some(Wire::Cut) => {}
            Some(Wire::Pause) => impairment.paused = true,
            Some(Wire::Slow(rate)) => impairment.bytes_per_second = Some((*rate).into()),
            Some(Wire::Delay(delay)) => {
                let delay = Duration::from_millis((*delay).into());
                impairment.delay = (delay, delay);
            }
            Some(other) => {
                return Err(format!(
                    "a link goes through its primary's relay, which can't do `{other}` to it"
                )
                .into());
            }
        }
        let link = self.link(node);
        for upstream in (0..WATCHED).filter(|upstream| *upstream != node) {
            self.deployment
                .relay(upstream)
                .impair_those(link.as_str(), impairment);
        }
        Ok(())
    }

    fn sentinels(&self) -> impl Iterator<Item = &Server> {
        let awake = |place: &usize| !self.busy.contains(&Place::Sentinel(*place));
        let sentinels = self.deployment.sentinels().iter().enumerate();
        sentinels
            .filter(move |(place, _)| awake(place))
            .map(|(_, sentinel)| sentinel)
    }

    /// Orders a failover, for as long as it is refused for want of a good replica, but not for long.
    fn fail_over(&self) {
        let begun = Instant::now();
        let order = ["SENTINEL", "FAILOVER", Sentinels::NAME];
        while begun.elapsed() < INSISTENCE {
            for sentinel in self.sentinels() {
                let told = Control::connect_with(sentinel.port(), PATIENCE)
                    .and_then(|mut control| control.command(&order));
                if told.is_ok() {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The primary, once all sentinels agree on it, nothing is under way, and all other nodes follow it. Nodes that
    /// follow another one are told; sentinels would do so too, some ten seconds later.
    fn agreed(&self) -> Option<usize> {
        let mut agreed = None;
        for sentinel in self.deployment.sentinels() {
            let mut control = Control::connect_with(sentinel.port(), PATIENCE).ok()?;
            let primary = self.named_by(&mut control)?;
            let flags = field(&mut control, "flags")?;
            if flags != "master" || agreed.is_some_and(|agreed| agreed != primary) {
                return None;
            }
            agreed = Some(primary);
        }
        let primary = agreed?;
        if self.deployment.node(primary).info_replication().ok()?.role != Role::Primary {
            return None;
        }
        let port = self.deployment.relay(primary).port();
        let mut all = true;
        for node in (0..WATCHED).filter(|node| *node != primary) {
            let server = self.deployment.node(node);
            let info = server.info_replication().ok()?;
            if info.master.as_ref().is_none_or(|(_, upstream)| *upstream != port) {
                let _ = server.replicaof("127.0.0.1", port);
                all = false;
            }
            all &= info.link_up;
        }
        all.then_some(primary)
    }

    /// Waits until sentinels agree. `SENTINEL FAILOVER` takes a number without a vote, and an automatic failover beside
    /// it can take the same one: then they disagree for good, until an operator orders one more.
    fn agreement(&self) -> Result<usize, Error> {
        let begun = Instant::now();
        loop {
            let mut primary = None;
            let agreed = wait_until(AGREEMENT, "sentinels agree on a primary that all follow", || {
                primary = self.agreed();
                primary.is_some()
            });
            match (agreed, primary) {
                (Ok(()), Some(primary)) => return Ok(primary),
                (Err(error), _) if begun.elapsed() > SOON => return Err(error.into()),
                _ => self.fail_over(),
            }
        }
    }

    /// The node that a sentinel takes for the primary.
    fn named_by(&self, control: &mut Control) -> Option<usize> {
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinels::NAME];
        let named = control.command(&question).ok()?;
        let port = named.array()?.get(1)?.text()?.parse().ok()?;
        self.deployment.announced_by(port)
    }

    /// The same, with the number of the failover that it knows of.
    fn last_named_by(&self, sentinel: &Server) -> Option<(u64, usize)> {
        let mut control = Control::connect_with(sentinel.port(), PATIENCE).ok()?;
        let epoch = field(&mut control, "config-epoch")?.parse().ok()?;
        Some((epoch, self.named_by(&mut control)?))
    }
}

/// What a sentinel says of the deployment.
fn field(control: &mut Control, name: &str) -> Option<String> {
    let described = control.command(&["SENTINEL", "MASTER", Sentinels::NAME]).ok()?;
    let mut pairs = described.array()?.chunks_exact(2);
    let pair = pairs.find(|pair| pair.first().and_then(Reply::text) == Some(name))?;
    pair.last()?.text().map(str::to_owned)
}

impl Stage for Watched {
    fn server(&self, node: usize) -> Result<&Server, Error> {
        if node < WATCHED {
            Ok(self.deployment.node(node))
        } else {
            Err(format!("no node {node}").into())
        }
    }

    fn servers(&self) -> Vec<&Server> {
        self.deployment.nodes().collect()
    }

    fn clients_way(&self, _: usize, _: &ProcessSetting) -> Result<Nodes, Error> {
        Ok(Nodes::Sentinels {
            name: Sentinels::NAME.to_owned(),
            sentinels: self.deployment.urls(),
        })
    }

    fn primary(&self) -> usize {
        // Only one of them knows of a failover at first.
        let named = self
            .sentinels()
            .filter_map(|sentinel| self.last_named_by(sentinel));
        named.max_by_key(|(epoch, _)| *epoch).map_or(0, |(_, node)| node)
    }

    fn claim(&mut self, fault: Fault) -> Option<Fault> {
        let primary = self.primary();
        let fault = fault.at_nodes(|node| match node.checked_sub(PRIMARY) {
            Some(place) => (primary + place) % WATCHED,
            None => node,
        });
        let Some(place) = fault.place() else {
            return Some(fault);
        };
        self.busy.insert(place).then_some(fault)
    }

    fn release(&mut self, fault: Fault) {
        if let Some(place) = fault.place() {
            self.busy.remove(&place);
        }
    }

    fn last_will(&mut self, node: usize) {
        // Sentinel writes it into the node's configuration whenever it gives it another role.
        if let Ok(server) = self.server(node)
            && let Ok(info) = server.info_replication()
        {
            let upstream = info
                .master
                .as_ref()
                .and_then(|(_, port)| self.deployment.announced_by(*port));
            self.followed.insert(node, upstream);
        }
    }

    fn start_again(&mut self, node: usize, keep_data: bool) -> Result<(), Error> {
        if !keep_data {
            forget(self.server(node)?);
        }
        let upstream = self.followed.get(&node).copied().flatten();
        self.deployment.restart(node, upstream)?;
        Ok(())
    }

    fn break_front(&mut self, front: Front, wire: Wire) -> Result<(), Error> {
        let Front::Node(node) = front else {
            return Err("the primary has no address of its own here".into());
        };
        self.server(node)?;
        impair(self.deployment.relay(node), wire);
        Ok(())
    }

    fn mend_front(&mut self, front: Front) -> Result<(), Error> {
        if let Front::Node(node) = front {
            self.deployment.relay(node).heal();
        }
        // Healed, too, is what was done to the links that go through it.
        (0..WATCHED).try_for_each(|node| self.impair_link(node))
    }

    fn break_link(&mut self, node: usize, wire: Wire) -> Result<(), Error> {
        self.server(node)?;
        self.links.insert(node, wire);
        if wire == Wire::Cut {
            let link = self.link(node);
            for upstream in 0..WATCHED {
                self.deployment.relay(upstream).cut_those(&link);
            }
        }
        self.impair_link(node)
    }

    fn mend_link(&mut self, node: usize) -> Result<(), Error> {
        self.links.remove(&node);
        self.impair_link(node)
    }

    fn rearrange(&mut self, fault: Fault) -> Result<(), Error> {
        if fault != Fault::FailOver {
            return Err(format!("{fault}: sentinels decide that").into());
        }
        self.fail_over();
        Ok(())
    }

    fn sentinel(&self, place: usize) -> Result<&Server, Error> {
        self.deployment
            .sentinels()
            .get(place)
            .ok_or_else(|| format!("no sentinel {place}").into())
    }

    fn heal(&mut self) -> Result<(), Error> {
        self.delays.clear();
        self.links.clear();
        self.busy.clear();
        for node in 0..WATCHED {
            self.deployment.relay(node).heal();
            if self.deployment.node(node).pid().is_some() {
                self.deployment.node(node).resume()?;
            } else {
                self.start_again(node, true)?;
            }
        }
        for sentinel in self.deployment.sentinels() {
            if sentinel.pid().is_some() {
                sentinel.resume()?;
            } else {
                sentinel.restart()?;
            }
        }
        let primary = self.agreement()?;
        for node in (0..WATCHED).filter(|node| *node != primary) {
            wait_in_sync(self.deployment.node(node), self.deployment.node(primary))?;
        }
        Ok(())
    }

    fn witnesses(&self) -> Result<Option<Vec<String>>, Error> {
        let primary = self
            .agreed()
            .ok_or("there is no primary any more that all follow")?;
        let pattern = format!("{WITNESSES}*");
        let keys = self.deployment.node(primary).command(&["KEYS", &pattern])?;
        let keys = keys.array().ok_or("KEYS was not answered with keys")?;
        Ok(Some(
            keys.iter()
                .filter_map(|key| key.text().map(str::to_owned))
                .collect(),
        ))
    }
}
