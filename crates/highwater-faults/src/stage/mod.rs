//! The servers, and the relays between them and around them.

mod fixed;
mod watched;

use std::time::{Duration, Instant};

use highwater_testkit::{Relay, ReplicationId, Server, ServerKind, wait_until};

use self::{fixed::Fixed, watched::Watched};
use crate::{
    Error,
    schedule::{Fault, Front, ProcessSetting, Schedule, Topology, Wire},
    wire::Nodes,
};

/// Long enough for anything that happens at all, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// Real servers that can be broken.
pub(crate) trait Stage {
    fn server(&self, node: usize) -> Result<&Server, Error>;

    fn servers(&self) -> Vec<&Server>;

    /// What the client of a process is told of where the nodes are.
    fn clients_way(&self, process: usize, setting: &ProcessSetting) -> Result<Nodes, Error>;

    /// Which node is the primary, as far as can be said.
    fn primary(&self) -> usize;

    /// A fault of the schedule at the nodes that it is about now. `None` when what it is to break is broken already.
    fn claim(&mut self, fault: Fault) -> Option<Fault> {
        Some(fault)
    }

    /// A fault that was claimed has ended.
    fn release(&mut self, _: Fault) {}

    /// A node is about to die: what it is to be when it is started again is remembered.
    fn last_will(&mut self, _node: usize) {}

    /// Starts a node that is down, in the role that it was given last.
    fn start_again(&mut self, node: usize, keep_data: bool) -> Result<(), Error>;

    fn break_front(&mut self, front: Front, wire: Wire) -> Result<(), Error>;

    fn mend_front(&mut self, front: Front) -> Result<(), Error>;

    /// Breaks what a node hears of the one that it follows.
    fn break_link(&mut self, node: usize, wire: Wire) -> Result<(), Error>;

    fn mend_link(&mut self, node: usize) -> Result<(), Error>;

    /// Another node is to be the primary, or is to be followed.
    fn rearrange(&mut self, fault: Fault) -> Result<(), Error>;

    fn sentinel(&self, _: usize) -> Result<&Server, Error> {
        Err("there are no sentinels here".into())
    }

    /// Ends every fault: all run, all follow one primary, all processes know it.
    fn heal(&mut self) -> Result<(), Error>;

    /// The keys that tell of writes, at the primary, once all is healed; `None` where none are written.
    fn witnesses(&self) -> Result<Option<Vec<String>>, Error> {
        Ok(None)
    }
}

/// Brings onto the stage what the schedule wants.
pub(crate) fn start(kind: ServerKind, schedule: &Schedule) -> Result<Box<dyn Stage>, Error> {
    Ok(match schedule.topology {
        Topology::Fixed => Box::new(Fixed::start(kind, schedule)?),
        Topology::Sentinel => Box::new(Watched::start(kind, schedule)?),
    })
}

/// What each server is started with.
fn arguments(kind: ServerKind, schedule: &Schedule) -> Result<Vec<String>, Error> {
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
    Ok(arguments)
}

/// Writes what is to be there from the start.
fn fill(server: &Server, schedule: &Schedule) -> Result<(), Error> {
    let value = "x".repeat(1000);
    let mut control = server.connect()?;
    for number in 0..schedule.filler {
        control.command(&["SET", &format!("filler:{number}"), &value])?;
    }
    Ok(())
}

/// Forgets what an earlier save or a full sync has left.
fn forget(server: &Server) {
    let _ = std::fs::remove_file(server.data_dir().join("dump.rdb"));
}

/// Waits until a node has applied something that the primary has written since.
fn wait_in_sync(node: &Server, primary: &Server) -> Result<(), Error> {
    let mut goal: Option<(ReplicationId, u64)> = None;
    node.wait_for(SOON, "a node is in sync", |info| {
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
