//! What keeps the nodes in use in step with the topology, and with what the nodes say of themselves.
//!
//! A discovery is late by nature: Sentinel says where the primary is once it has counted votes, a list never does. A
//! node's own word is as old as its last INFO. So:
//!
//! * A primary that says that it is a replica gets no writes any more, and a replica is looked for that says that it
//!   is a primary, and whose history grew out of the primary's (or is the very one that the primary now follows). It
//!   takes the primary's place, and keeps it while it says so, whatever the discovery that was overruled repeats.
//! * The same if the primary can't be reached.
//! * While both say that they are primaries, the discovery has to decide, and is asked. Until it has, nothing is written:
//!   the old one may go on acknowledging for seconds what the new one will never have. A discovery that insists on the old
//!   one for longer than a failover takes has decided too. Without a discovery, the primary that was configured keeps
//!   its place: somebody may have detached a replica for purposes of their own.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::future::{Either, select};
use highwater_core::{Progress, Role};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{
    Discovery, Publisher, Topology,
    members::{Change, Members, Registry},
};
use crate::{
    defaults::{CONTEST_PATIENCE, DISCOVERY_PAUSE, DOUBT_PACE},
    error::Error,
    node::{Address, Node},
    route::Router,
};

type News = Option<Result<Topology, Error>>;

/// What a router sees of the steward.
#[derive(Debug, Default)]
pub(crate) struct Steward {
    /// Two nodes say that they are the primary.
    contested: AtomicBool,
    /// The steward's own tasks.
    own: Mutex<Vec<JoinHandle<()>>>,
    /// What keeps nodes connected.
    tasks: Mutex<Tasks>,
    /// Nodes that are not in use any more, as long as they have something in flight. Then nothing more will be learnt of writes that
    /// were lost with their connections, and with the node goes what waits for that.
    retired: Mutex<Vec<Weak<Node>>>,
}

#[derive(Debug, Default)]
struct Tasks {
    kept: Vec<JoinHandle<()>>,
    /// The client has ended: what comes now ends at once.
    over: bool,
}

impl Steward {
    /// True while it is not known which of two primaries is the one.
    pub(crate) fn is_contested(&self) -> bool {
        self.contested.load(Ordering::Relaxed)
    }

    /// A task that goes along with the steward, and is ended with it.
    pub(crate) fn accompanied_by(&self, task: JoinHandle<()>) {
        lock(&self.own).push(task);
    }

    pub(crate) fn keep(&self, tasks: impl IntoIterator<Item = JoinHandle<()>>) {
        let mut known = lock(&self.tasks);
        known.kept.retain(|task| !task.is_finished());
        known.kept.extend(tasks);
        if known.over {
            known.kept.iter().for_each(JoinHandle::abort);
        }
    }

    /// Ends the steward; what keeps the nodes connected is left to the caller. Once the steward's own tasks have
    /// ended, the nodes in use stay those that they are.
    pub(crate) fn stop(&self) -> (Vec<JoinHandle<()>>, Vec<JoinHandle<()>>) {
        let own = std::mem::take(&mut *lock(&self.own));
        own.iter().for_each(JoinHandle::abort);
        let mut known = lock(&self.tasks);
        known.over = true;
        (own, std::mem::take(&mut known.kept))
    }

    /// Nodes that were in use, and may still have something in flight.
    pub(crate) fn retired(&self) -> Vec<Arc<Node>> {
        lock(&self.retired).iter().filter_map(Weak::upgrade).collect()
    }

    fn retire(&self, nodes: impl Iterator<Item = Arc<Node>>) {
        let mut retired = lock(&self.retired);
        retired.retain(|node| node.strong_count() > 0);
        for node in nodes {
            node.close();
            retired.push(Arc::downgrade(&node));
        }
    }
}

/// Starts the steward of a router, and the discovery, if there is one.
pub(crate) fn steward(router: &Arc<Router>, registry: Registry, discovery: Option<Arc<dyn Discovery>>) {
    let (doubt, doubts) = watch::channel(0);
    let (publish, news) = watch::channel(None);
    let publisher = Publisher::new(publish, doubts);
    let mut tasks = Vec::new();
    let authority = discovery.is_some();
    if let Some(discovery) = discovery {
        tasks.push(tokio::spawn(keep_following(discovery, publisher.clone())));
    }
    let at_work = AtWork {
        router: Arc::clone(router),
        registry,
        news,
        // Kept, so that waiting for news can't fail.
        _publisher: publisher,
        doubt,
        authority,
        overruled: None,
        contest: None,
    };
    tasks.push(tokio::spawn(at_work.run()));
    lock(&router.steward.own).extend(tasks);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep_following(discovery: Arc<dyn Discovery>, publisher: Publisher) {
    loop {
        let error = discovery.follow(publisher.clone()).await.err();
        tracing::warn!(?discovery, error = ?error.as_ref().map(ToString::to_string), "the discovery ended; it is begun anew");
        publisher.ended(error);
        sleep(DISCOVERY_PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// The steward's task.
struct AtWork {
    router: Arc<Router>,
    registry: Registry,
    news: watch::Receiver<News>,
    _publisher: Publisher,
    doubt: watch::Sender<u64>,
    /// There is somebody who decides between two primaries.
    authority: bool,
    /// The primary that the discovery named and whose successor took its place by its own word.
    overruled: Option<Address>,
    /// Since when two nodes have said that they are the primary.
    contest: Option<Instant>,
}

impl AtWork {
    async fn run(mut self) {
        loop {
            let contested = self.router.steward.is_contested();
            let words = self.router.knowledge.news.notified();
            let pace = async {
                if contested {
                    sleep(DOUBT_PACE).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let published =
                match select(pin!(self.news.changed()), pin!(select(pin!(words), pin!(pace)))).await {
                    Either::Left(_) => true,
                    Either::Right(_) => false,
                };
            if published {
                let news = self.news.borrow_and_update().clone();
                self.apply(news);
            }
            self.consider();
        }
    }

    /// Follows what the discovery says.
    fn apply(&mut self, news: News) {
        let members = self.router.members();
        let topology = match news {
            Some(Ok(topology)) => topology,
            Some(Err(error)) => {
                if !matches!(members.primary, Some(Ok(_))) {
                    let primary = Some(Err(error));
                    self.router.set_members(Members::of(primary, Vec::new()));
                }
                return;
            }
            None => return,
        };
        let change = match self.registry.members(topology, &members) {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(%error, "a topology can't be used");
                if !matches!(members.primary, Some(Ok(_))) {
                    let primary = Some(Err(error));
                    self.router.set_members(Members::of(primary, Vec::new()));
                }
                return;
            }
        };
        if let (Some(overruled), Some(Ok(current)), Some(Ok(named))) =
            (&self.overruled, &members.primary, &change.members.primary)
            && named.address.is(overruled)
            && !current.address.is(overruled)
            && (leads(current) || current.links().connecting)
        {
            // The discovery has not heard of it yet: the next time, perhaps.
            change.members.nodes().for_each(|node| {
                if !members.nodes().any(|used| Arc::ptr_eq(used, node)) {
                    node.close();
                }
            });
            self.router.steward.keep(change.tasks);
            return;
        }
        self.overruled = None;
        self.switch(&members, change);
    }

    /// Goes by what the nodes say of themselves.
    fn consider(&mut self) {
        let members = self.router.members();
        let Ok(primary) = members.primary() else { return };
        let own = primary.hint().map(|sample| sample.progress);
        let successor = members
            .replicas
            .iter()
            .find(|node| leads(node) && self.succeeds(node, own.as_ref()));
        let before = self.contest.take();
        let contested = match (own.map(|own| own.role), successor) {
            (Some(Role::Primary), Some(successor)) if self.authority => {
                if before.is_none() {
                    tracing::warn!(
                        primary = %primary.address, other = %successor.address,
                        "two nodes say that they are the primary: nothing is written until the discovery says which one is"
                    );
                }
                let since = *self.contest.insert(before.unwrap_or_else(Instant::now));
                since.elapsed() < CONTEST_PATIENCE
            }
            // One that is connected to for the first time will say what it is.
            (None, Some(_)) if primary.links().connecting => false,
            (Some(Role::Replica) | None, Some(successor)) => {
                tracing::warn!(
                    from = %primary.address, to = %successor.address,
                    "a replica has become the primary, by its own word"
                );
                self.overruled.get_or_insert_with(|| primary.address.clone());
                let change = self.registry.promoted(successor, &members);
                self.switch(&members, change);
                false
            }
            // Among these: two primaries, and nobody who could be asked.
            _ => false,
        };
        self.router.steward.contested.store(contested, Ordering::Relaxed);
        if contested || own.is_some_and(|own| own.role == Role::Replica) || successor.is_some() {
            self.doubt.send_modify(|doubts| *doubts += 1);
        }
    }

    /// True when the node's history grew out of the primary's, or goes on in it where the primary has ceased to
    /// lead it.
    fn succeeds(&self, node: &Node, primary: Option<&Progress>) -> bool {
        let Some(sample) = node.hint() else { return false };
        let history = sample.progress.history;
        if primary.is_some_and(|primary| primary.history == history) {
            // The primary that was follows it. Or one node has two addresses.
            return primary.is_some_and(|primary| primary.role == Role::Replica);
        }
        // Where writes were acknowledged last.
        let Some((last, _)) = self.router.knowledge.timeline().latest() else {
            return false;
        };
        let from_last = sample
            .progress
            .ancestor
            .is_some_and(|ancestor| ancestor.history == last);
        (history == last && primary.is_none()) || from_last || self.router.edges().descends(history, last)
    }

    fn switch(&self, before: &Members, change: Change) {
        let Change { members, tasks } = change;
        let gone: Vec<_> = before
            .nodes()
            .filter(|node| !members.nodes().any(|kept| Arc::ptr_eq(kept, node)))
            .map(Arc::clone)
            .collect();
        if let (Some(Ok(old)), Some(Ok(new))) = (&before.primary, &members.primary)
            && !Arc::ptr_eq(old, new)
        {
            tracing::info!(from = %old.address, to = %new.address, "the primary is another node now");
        }
        self.router.set_members(members);
        self.router.steward.keep(tasks);
        self.router.steward.retire(gone.into_iter());
    }
}

/// True when the node says that it is a primary.
fn leads(node: &Arc<Node>) -> bool {
    node.hint()
        .is_some_and(|sample| sample.progress.role == Role::Primary)
}
