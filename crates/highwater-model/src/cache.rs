//! The near cache of one process, by the rules of the design: one feed, one key.
//!
//! The key's value is the node's whole data set, so every write invalidates it. The wire carries replies and pushes
//! in the order in which the server sent them (law 7), and the client takes them from it one at a time.

use std::collections::VecDeque;

use highwater_core::{Coverage, Mark, Offset, Progress, Requirement, Role, Scope};

use crate::{
    cluster::{Node, Notice, Writes},
    judge::Event,
    state::Step,
    variant::Variant,
};

/// A feed, and what it has filled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cache {
    node: Node,
    open: bool,
    /// The server sends an invalidation when the key changes.
    tracked: bool,
    asked: VecDeque<Ask>,
    wire: VecDeque<Message>,
    generation: u8,
    progress: Option<Progress>,
    entry: Option<Entry>,
    /// Taken from the wire, and not stored: only where the order of the wire is not kept.
    handed: Option<Entry>,
    reader: Option<Reader>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Get,
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    Null,
    Invalidate,
    Value(Writes),
    Info(Progress),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    value: Writes,
    generation: u8,
    /// Where the node was at most when the value was read.
    upper: Option<Progress>,
}

/// A read that has looked at one of the two, and not at the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    requirement: Requirement,
    must: Writes,
    loaded: Loaded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Loaded {
    Progress(Option<Progress>, u8),
    Entry(Option<Entry>),
}

impl Cache {
    pub fn new(node: Node) -> Self {
        Self {
            node,
            open: false,
            tracked: false,
            asked: VecDeque::new(),
            wire: VecDeque::new(),
            generation: 0,
            progress: None,
            entry: None,
            handed: None,
            reader: None,
        }
    }

    /// What the server pushes.
    pub fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Null(node) if node == self.node && self.open => {
                self.tracked = false;
                self.wire.push_back(Message::Null);
            }
            Notice::Applied(node) if node == self.node && self.open && self.tracked => {
                self.tracked = false;
                self.wire.push_back(Message::Invalidate);
            }
            Notice::Ended(node) if node == self.node => self.lost(),
            _ => {}
        }
    }

    /// The feed's connection is lost: nothing that it filled will be invalidated any more.
    pub fn lost(&mut self) {
        self.open = false;
        self.tracked = false;
        self.asked.clear();
        self.wire.clear();
        self.begin_generation();
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    fn begin_generation(&mut self) {
        self.generation += 1;
        self.progress = None;
        self.entry = None;
    }

    /// A miss asks for the value, and for where the node is after it; a probe for that alone.
    pub fn ask(&mut self, fill: bool) -> bool {
        if !self.asked.is_empty() {
            return false;
        }
        self.open = true;
        if fill {
            self.asked.push_back(Ask::Get);
        }
        self.asked.push_back(Ask::Info);
        true
    }

    pub fn store(&mut self) -> bool {
        let Some(handed) = self.handed.take() else {
            return false;
        };
        let current = handed.generation == self.generation;
        if current {
            self.entry = Some(handed);
        }
        current
    }
}

impl Step<'_> {
    fn cache(&mut self, at: usize) -> Option<&mut Cache> {
        self.process(at).cache.as_mut()
    }

    /// The server carries out what the feed asked.
    pub(crate) fn serve_feed(&mut self, at: usize) -> bool {
        let Some(node) = self.cache(at).map(|cache| cache.node) else {
            return false;
        };
        let (progress, value) = (self.info(node), self.state.cluster.servers[node].data);
        let Some(cache) = self.cache(at) else {
            return false;
        };
        match cache.asked.pop_front() {
            Some(Ask::Get) => {
                cache.tracked = true;
                cache.wire.push_back(Message::Value(value));
            }
            Some(Ask::Info) => cache.wire.push_back(Message::Info(progress)),
            None => return false,
        }
        true
    }

    /// The client takes the next message from the feed's wire: the one piece of code that every fill and every
    /// invalidation goes through.
    pub(crate) fn take_feed(&mut self, at: usize) -> bool {
        let variant = self.scenario.variant;
        let Some(cache) = self.cache(at) else {
            return false;
        };
        match cache.wire.pop_front() {
            None => return false,
            Some(Message::Null) => {
                let progress = cache.progress;
                cache.begin_generation();
                if variant == Variant::ProgressOutlivesData {
                    cache.progress = progress;
                }
            }
            Some(Message::Invalidate) => cache.entry = None,
            Some(Message::Value(value)) => {
                let entry = Entry {
                    value,
                    generation: cache.generation,
                    upper: None,
                };
                if variant == Variant::FillOutsideWireOrder {
                    cache.handed = Some(entry);
                } else {
                    cache.entry = Some(entry);
                }
            }
            Some(Message::Info(progress)) => {
                cache.progress = Some(progress);
                if let Some(entry) = &mut cache.entry {
                    entry.upper.get_or_insert(progress);
                }
            }
        }
        true
    }

    /// A read begins with one of the two loads.
    pub(crate) fn begin_hit(&mut self, at: usize) -> bool {
        let variant = self.scenario.variant;
        let process = &self.state.processes[at];
        let requirement = process.requirement();
        let busy =
            process.writing.as_ref().is_some_and(|writing| writing.awaited) || process.asking.is_some();
        if busy || requirement.in_doubt() {
            return false;
        }
        let must = process.needs.now(&self.state.cluster);
        let Some(cache) = self.cache(at).filter(|cache| cache.reader.is_none()) else {
            return false;
        };
        let loaded = if variant == Variant::EntryBeforeProgress {
            Loaded::Entry(cache.entry)
        } else {
            Loaded::Progress(cache.progress, cache.generation)
        };
        cache.reader = Some(Reader {
            requirement,
            must,
            loaded,
        });
        true
    }

    /// The other load, and the judgement.
    pub(crate) fn finish_hit(&mut self, at: usize) -> bool {
        let unchecked = self.scenario.variant == Variant::GenerationUnchecked;
        let Some(cache) = self.cache(at) else {
            return false;
        };
        let Some(reader) = cache.reader.take() else {
            return false;
        };
        let (entry, progress, generation) = match reader.loaded {
            Loaded::Progress(progress, generation) => (cache.entry, progress, generation),
            Loaded::Entry(entry) => (entry, cache.progress, cache.generation),
        };
        let entry = entry.filter(|entry| unchecked || entry.generation == generation);
        let Some(entry) = entry else {
            self.event(Event::Refused);
            return true;
        };
        let covered = reader.requirement.is_empty()
            || progress.is_some_and(|progress| {
                self.coverage(&reader.requirement, &progress, at) == Coverage::Covered
                    && (progress.role == Role::Primary || progress.read_only)
            });
        let remembers = self.process(at).remembers();
        let bound = entry.upper.filter(|_| remembers);
        if !covered || remembers && bound.is_none() {
            self.event(Event::Refused);
            return true;
        }
        self.judge(at, reader.must & !entry.value);
        if reader.must != 0 {
            self.event(Event::Hit);
        }
        if let Some(bound) = bound {
            let process = self.process(at);
            process.view.add_read(&Mark {
                scope: Scope::default(),
                history: bound.history,
                offset: Offset::at(bound.applied),
            });
            process.needs.seen |= entry.value;
        }
        true
    }
}
