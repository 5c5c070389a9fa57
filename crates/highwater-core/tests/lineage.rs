//! Coverage and edges against an independent model of what servers hold (laws 2 and 6).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use common::history;
use highwater_core::{Ancestor, Coverage, Edges, Offset, Progress, Role};
use proptest::prelude::*;

/// What is written at one offset: who wrote it, and where.
type Byte = (usize, u64);

/// A history, with its true content, byte by byte: `content[i]` is at offset `i + 1`.
struct Stream {
    parent: Option<usize>,
    content: Vec<Byte>,
}

#[derive(Clone)]
struct Node {
    primary: bool,
    history: usize,
    applied: usize,
    /// `master_replid2` and `second_repl_offset`, as the server would report them.
    second: Option<(usize, u64)>,
}

struct World {
    streams: Vec<Stream>,
    nodes: Vec<Node>,
    edges: Edges,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Apply(usize, usize),
    /// PSYNC of one node with another.
    Follow(usize, usize),
    Promote(usize),
    /// The primary loads a snapshot from so far back and begins a new history there.
    Restart(usize, usize),
    /// A client learns from one node's INFO.
    Observe(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, bytes) = (0usize..4, 1usize..12);
    prop_oneof![
        4 => (node.clone(), bytes.clone()).prop_map(|(n, b)| Step::Write(n, b)),
        4 => (node.clone(), bytes.clone()).prop_map(|(n, b)| Step::Apply(n, b)),
        4 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Follow(a, b)),
        2 => node.clone().prop_map(Step::Promote),
        1 => (node.clone(), bytes).prop_map(|(n, b)| Step::Restart(n, b)),
        3 => node.prop_map(Step::Observe),
    ]
}

impl World {
    fn new() -> Self {
        let content = (1..=20).map(|offset| (0, offset)).collect();
        let node = |primary, applied| Node {
            primary,
            history: 0,
            applied,
            second: None,
        };
        Self {
            streams: vec![Stream {
                parent: None,
                content,
            }],
            nodes: vec![node(true, 20), node(false, 20), node(false, 9), node(false, 4)],
            edges: Edges::default(),
        }
    }

    fn fork(&mut self, parent: usize, shared: usize) -> usize {
        let content = self.streams[parent].content[..shared].to_vec();
        self.streams.push(Stream {
            parent: Some(parent),
            content,
        });
        self.streams.len() - 1
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write(n, bytes) if self.nodes[n].primary => {
                let owner = self.nodes[n].history;
                let content = &mut self.streams[owner].content;
                for _ in 0..bytes {
                    content.push((owner, content.len() as u64 + 1));
                }
                self.nodes[n].applied = content.len();
            }
            Step::Apply(n, bytes) if !self.nodes[n].primary => {
                let end = self.streams[self.nodes[n].history].content.len();
                self.nodes[n].applied = end.min(self.nodes[n].applied + bytes);
            }
            Step::Follow(n, to) if n != to => {
                let to = self.nodes[to].clone();
                let node = &mut self.nodes[n];
                node.primary = false;
                let own_next = node.applied as u64 + 1;
                if node.history == to.history && node.applied <= to.applied {
                    // Partial, the same history: nothing changes hands.
                } else if to
                    .second
                    .is_some_and(|(id, fork)| id == node.history && own_next <= fork)
                {
                    // Partial into the new history: its *own* next offset, at or below the fork.
                    node.second = Some((node.history, own_next));
                    node.history = to.history;
                } else {
                    *node = Node {
                        second: None,
                        primary: false,
                        ..to
                    };
                }
            }
            Step::Promote(n) if !self.nodes[n].primary => {
                let old = self.nodes[n].clone();
                let child = self.fork(old.history, old.applied);
                self.nodes[n] = Node {
                    primary: true,
                    history: child,
                    applied: old.applied,
                    second: Some((old.history, old.applied as u64 + 1)),
                };
            }
            Step::Restart(n, back) if self.nodes[n].primary => {
                let old = self.nodes[n].clone();
                let kept = old.applied.saturating_sub(back).max(2);
                let child = self.fork(old.history, kept);
                self.nodes[n] = Node {
                    primary: true,
                    history: child,
                    applied: kept,
                    second: Some((old.history, kept as u64 + 1)),
                };
            }
            Step::Observe(n) => {
                let progress = progress(&self.nodes[n]);
                self.edges.learn_from(&progress);
            }
            _ => {}
        }
    }

    fn is_ancestor(&self, of: usize, ancestor: usize) -> bool {
        let mut at = self.streams[of].parent;
        while let Some(parent) = at {
            if parent == ancestor {
                return true;
            }
            at = self.streams[parent].parent;
        }
        false
    }

    /// How many bytes two histories have in common, by comparing what is in them.
    fn shared(&self, a: usize, b: usize) -> usize {
        let (a, b) = (&self.streams[a].content, &self.streams[b].content);
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    /// Everything that primaries could ever have told.
    fn all_edges(&self) -> Edges {
        let mut edges = self.edges.clone();
        for (child, stream) in self.streams.iter().enumerate() {
            if let Some(parent) = stream.parent {
                // The first byte that is the child's own, or the next one.
                let own = stream.content.iter().position(|(by, _)| *by == child);
                let fork = own.unwrap_or(stream.content.len()) as u64 + 1;
                edges.learn(history(child as u8), history(parent as u8), fork);
            }
        }
        edges
    }
}

fn progress(node: &Node) -> Progress {
    Progress {
        role: if node.primary {
            Role::Primary
        } else {
            Role::Replica
        },
        history: history(node.history as u8),
        ancestor: node.second.map(|(id, fork)| Ancestor {
            history: history(id as u8),
            fork,
        }),
        applied: node.applied as u64,
        link_up: true,
        read_only: true,
    }
}

/// Checks every node against every offset of every history. Returns how many were covered through
/// an ancestor: what is at risk.
fn check(world: &World) -> Result<usize, TestCaseError> {
    let mut at_risk = 0;
    let (none, all) = (Edges::default(), world.all_edges());
    for node in &world.nodes {
        let progress = progress(node);
        let held = &world.streams[node.history].content[..node.applied];
        for (id, stream) in world.streams.iter().enumerate() {
            let ancestor = world.is_ancestor(node.history, id);
            for x in 0..=stream.content.len() + 2 {
                let judge = |edges: &Edges| progress.covers(history(id as u8), Offset::at(x as u64), edges);
                let mut before = Coverage::Unknown;
                for edges in [&none, &world.edges, &all] {
                    let says = judge(edges);
                    let holds = x <= stream.content.len() && held.get(..x) == Some(&stream.content[..x]);
                    match says {
                        Coverage::Covered => {
                            prop_assert!(holds, "stale: {node:?} for {x} of {id}");
                            at_risk += usize::from(ancestor);
                        }
                        Coverage::PossiblyLost => {
                            prop_assert!(node.primary && ancestor, "{node:?} for {x} of {id}");
                            prop_assert!(x > world.shared(node.history, id));
                        }
                        Coverage::Unknown => prop_assert!(node.primary && id != node.history),
                        Coverage::Behind => {}
                    }
                    prop_assert!(
                        before != Coverage::Covered || says == Coverage::Covered,
                        "knowing more must not take coverage away"
                    );
                    before = says;
                }
                // With every edge known, the answer is exact.
                if ancestor || id == node.history {
                    let shared = if ancestor {
                        world.shared(node.history, id)
                    } else {
                        usize::MAX
                    };
                    prop_assert_eq!(
                        judge(&all) == Coverage::Covered,
                        x <= shared && x <= node.applied,
                        "{:?} for {} of {}",
                        node,
                        x,
                        id
                    );
                }
            }
            for edges in [&none, &world.edges, &all] {
                let says = progress.covers(history(id as u8), Offset::UNKNOWN, edges);
                prop_assert_eq!(says == Coverage::Covered, node.primary && id == node.history);
                prop_assert!(node.primary || says == Coverage::Behind);
            }
        }
    }
    Ok(at_risk)
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = if self.primary { "primary" } else { "replica" };
        write!(
            f,
            "{role} of {} at {} ({:?})",
            self.history, self.applied, self.second
        )
    }
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn what_is_covered_is_there(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        check(&world)?;
    }
}

#[test]
fn the_model_puts_something_at_risk() {
    let mut world = World::new();
    for step in [
        Step::Write(0, 10),
        Step::Promote(1),
        Step::Follow(2, 1),
        Step::Apply(2, 5),
        Step::Write(1, 5),
        Step::Observe(1),
        Step::Promote(2),
        Step::Observe(2),
        Step::Follow(1, 2),
    ] {
        world.take(&step);
    }
    assert!(check(&world).unwrap() > 20);
}

#[test]
fn a_replicas_second_offset_is_no_fork_point() {
    // Law 6: the fork was at 92, the replica resumed from 50, and has the write at 77.
    let mut edges = Edges::default();
    let replica = Progress {
        role: Role::Replica,
        history: history(1),
        ancestor: Some(Ancestor {
            history: history(0),
            fork: 51,
        }),
        applied: 120,
        link_up: true,
        read_only: true,
    };
    assert!(!edges.learn_from(&replica));
    assert_eq!(
        replica.covers(history(0), Offset::at(77), &edges),
        Coverage::Behind
    );
    let primary = Progress {
        role: Role::Primary,
        ancestor: Some(Ancestor {
            history: history(0),
            fork: 92,
        }),
        ..replica
    };
    assert!(edges.learn_from(&primary));
    assert_eq!(
        replica.covers(history(0), Offset::at(77), &edges),
        Coverage::Covered
    );
    assert_eq!(
        replica.covers(history(0), Offset::at(91), &edges),
        Coverage::Covered
    );
    assert_eq!(
        replica.covers(history(0), Offset::at(92), &edges),
        Coverage::Behind
    );
    assert_eq!(
        primary.covers(history(0), Offset::at(92), &edges),
        Coverage::PossiblyLost
    );
    assert_eq!(
        primary.covers(history(0), Offset::UNKNOWN, &edges),
        Coverage::PossiblyLost
    );
    assert_eq!(
        primary.covers(history(7), Offset::at(1), &edges),
        Coverage::Unknown
    );
}

#[test]
fn a_replica_that_threw_its_data_away_covers_nothing() {
    // Measured: a failed resync leaves an empty dataset, served, under the old ID at offset 1.
    let emptied = Progress {
        role: Role::Replica,
        history: history(0),
        ancestor: None,
        applied: 1,
        link_up: false,
        read_only: true,
    };
    for applied in [0, 1] {
        for x in [0, 1] {
            let progress = Progress { applied, ..emptied };
            assert_eq!(
                progress.covers(history(0), Offset::at(x), &Edges::default()),
                Coverage::Behind
            );
        }
    }
    // A primary without replicas stays at offset 0, and has everything.
    let primary = Progress {
        role: Role::Primary,
        applied: 0,
        ..emptied
    };
    assert_eq!(
        primary.covers(history(0), Offset::at(0), &Edges::default()),
        Coverage::Covered
    );
}

#[test]
fn of_one_edge_the_largest_fork_counts_and_of_a_chain_the_smallest() {
    let mut edges = Edges::default();
    assert!(edges.learn(history(1), history(0), 50));
    assert!(edges.learn(history(1), history(0), 60));
    assert!(!edges.learn(history(1), history(0), 55));
    assert!(
        !edges.learn(history(1), history(2), 90),
        "a history has one parent"
    );
    assert!(edges.learn(history(2), history(1), 40));
    assert_eq!(edges.fork(history(1), history(0)), Some(60));
    assert_eq!(edges.fork(history(2), history(0)), Some(40));
    assert_eq!(
        edges.fork(history(0), history(2)),
        None,
        "descent has a direction"
    );
    assert!(edges.descends(history(2), history(0)) && !edges.descends(history(1), history(2)));
}

#[test]
fn circles_ends_and_zeros_do_no_harm() {
    let mut edges = Edges::default();
    edges.learn(history(0), history(1), 5);
    edges.learn(history(1), history(0), 5);
    assert_eq!(edges.fork(history(0), history(2)), None);
    assert!(!edges.learn(history(3), history(3), 5));
    assert!(!edges.learn("0".repeat(40).parse().unwrap(), history(3), 5));
    assert!(!edges.learn(history(3), "0".repeat(40).parse().unwrap(), 5));
}

#[test]
fn edges_are_bounded_and_forget_the_oldest() {
    let mut edges = Edges::default();
    for n in 0..200 {
        edges.learn(history(n + 1), history(n), 1000 - u64::from(n));
    }
    assert!(edges.descends(history(200), history(150)));
    assert!(!edges.descends(history(1), history(0)));
}
