//! The servers: what Redis and Valkey do, as far as it was measured (`docs` of each rule name the fact).

use highwater_core::{History, Progress};

/// A server's number.
pub type Node = usize;
/// A set of writes, one bit each. A data set is the set of the writes in it.
pub(crate) type Writes = u16;

/// A place in a stream whose write is not in the data.
const GONE: u8 = u8::MAX;

/// What a server does when it restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// With what it last saved.
    WithData,
    /// With nothing.
    Empty,
}

/// How a replica's attempt to resume from its upstream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// From where it is.
    Partial,
    /// With a copy of the upstream's data.
    Full,
    /// It has thrown away its own data, and has not received the upstream's.
    Failed,
}

/// What a server has saved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Image {
    /// A primary without a backlog saves no history.
    history: Option<u8>,
    log: Vec<u8>,
    data: Writes,
}

/// One server process after the other at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Which process: connections end with it.
    pub run: u8,
    /// Whom it follows; a primary follows nobody.
    pub upstream: Option<Node>,
    /// It has resumed from the upstream, and applies its stream.
    pub link: bool,
    /// `master_replid`.
    pub history: u8,
    /// `master_replid2` and `second_repl_offset`.
    ancestor: Option<(u8, u8)>,
    /// The stream from offset 1 on, an entry an offset: a write's number and one, or 0 for what writes nothing (PING).
    pub log: Vec<u8>,
    /// The first offset from which others can resume; `None`: `repl_backlog_active:0`.
    backlog: Option<u8>,
    /// A replica that has thrown away its data for a resync which has failed, or was restarted empty: it shows offset
    /// 1, and can't resume from where it is.
    hollow: bool,
    /// What reads show.
    pub data: Writes,
    disk: Option<Image>,
}

/// Something that connections to a server notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The data were replaced: a null push (law 8).
    Null(Node),
    /// A write was applied: invalidations (law 7).
    Applied(Node),
    /// The process ended.
    Ended(Node),
}

/// All servers of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub servers: Vec<Server>,
    /// What was ever in each history, for the model's own judgement.
    truth: Vec<Vec<u8>>,
    /// What each history grew out of, and whether by a promotion or a restart with data, which servers tell.
    told_parent: Vec<Option<u8>>,
}

impl Cluster {
    /// Servers that follow these. With `attached`, replicas are in step at offset 2; without, the primary never had a
    /// replica, and replicas have nothing.
    pub fn new(upstreams: &[Option<Node>], attached: bool) -> Self {
        let log = if attached { vec![0, 0] } else { Vec::new() };
        let server = |(node, upstream): (usize, &Option<Node>)| {
            let primary = upstream.is_none();
            let alike = attached || primary;
            Server {
                run: 0,
                upstream: *upstream,
                link: attached && !primary,
                // History 0 is no history; each server that has nothing has one of its own.
                history: if alike {
                    1
                } else {
                    1 + u8::try_from(node).unwrap_or(u8::MAX)
                },
                ancestor: None,
                log: log.clone(),
                backlog: attached.then_some(1),
                hollow: !alike,
                data: 0,
                disk: None,
            }
        };
        let servers: Vec<_> = upstreams.iter().enumerate().map(server).collect();
        let histories = servers.len() + 2;
        Self {
            servers,
            truth: vec![log; histories],
            told_parent: vec![None; histories],
        }
    }

    fn new_history(&mut self, log: &[u8], told_parent: Option<u8>) -> u8 {
        self.truth.push(log.to_vec());
        self.told_parent.push(told_parent);
        u8::try_from(self.truth.len() - 1).unwrap_or(u8::MAX)
    }

    fn unlink_downstream(&mut self, node: Node) {
        for server in self
            .servers
            .iter_mut()
            .filter(|server| server.upstream == Some(node))
        {
            server.link = false;
        }
    }

    pub fn is_primary(&self, node: Node) -> bool {
        self.servers[node].upstream.is_none()
    }

    /// Carries out a write; false where it is refused (`READONLY`).
    pub fn write(&mut self, node: Node, write: u8, notices: &mut Vec<Notice>) -> bool {
        if !self.is_primary(node) {
            return false;
        }
        self.servers[node].data |= 1 << write;
        self.append(node, write + 1);
        notices.push(Notice::Applied(node));
        true
    }

    /// The stream of a primary grows; that of one without a backlog does not (trap: "stays at offset 0").
    fn append(&mut self, node: Node, entry: u8) -> bool {
        let server = &mut self.servers[node];
        if server.backlog.is_none() {
            return false;
        }
        server.log.push(entry);
        self.truth[usize::from(server.history)] = server.log.clone();
        true
    }

    /// The stream moves without a write (law 9).
    pub fn ping(&mut self, node: Node) -> bool {
        self.is_primary(node) && self.append(node, 0)
    }

    /// A replica applies one more entry of its upstream's stream.
    pub fn apply(&mut self, node: Node, notices: &mut Vec<Notice>) -> bool {
        let server = &self.servers[node];
        let Some(upstream) = server.upstream.filter(|_| server.link) else {
            return false;
        };
        let Some(&entry) = self.servers[upstream].log.get(server.log.len()) else {
            return false;
        };
        let server = &mut self.servers[node];
        server.log.push(entry);
        if let Some(write) = entry.checked_sub(1).filter(|_| entry != GONE) {
            server.data |= 1 << write;
            notices.push(Notice::Applied(node));
        }
        true
    }

    /// `REPLICAOF`: nothing else happens until the link is up.
    pub fn follow(&mut self, node: Node, upstream: Node) -> bool {
        let mut above = Some(upstream);
        while let Some(at) = above {
            if at == node {
                return false;
            }
            above = self.servers[at].upstream;
        }
        let server = &mut self.servers[node];
        if server.upstream == Some(upstream) {
            return false;
        }
        server.upstream = Some(upstream);
        server.link = false;
        self.unlink_downstream(node);
        true
    }

    /// A replica's link breaks, and the backlog moves on beyond where the replica is.
    pub fn cut(&mut self, node: Node) -> bool {
        let server = &mut self.servers[node];
        let Some(upstream) = server.upstream.filter(|_| server.link) else {
            return false;
        };
        server.link = false;
        let upstream = &mut self.servers[upstream];
        upstream.backlog = u8::try_from(upstream.log.len() + 2).ok();
        true
    }

    /// `REPLICAOF NO ONE` (law 6). In the hollow state this tells a false lineage, without a backlog.
    pub fn promote(&mut self, node: Node) -> bool {
        let server = &self.servers[node];
        if server.upstream.is_none() {
            return false;
        }
        let (old, mut log, hollow) = (server.history, server.log.clone(), server.hollow);
        if hollow {
            // It goes on counting from where it was, over nothing.
            log.fill(GONE);
        }
        let new = self.new_history(&log, (!hollow).then_some(old));
        let server = &mut self.servers[node];
        server.ancestor = u8::try_from(log.len() + 1).ok().map(|fork| (old, fork));
        server.history = new;
        server.log = log;
        server.upstream = None;
        server.link = false;
        server.hollow = false;
        self.unlink_downstream(node);
        true
    }

    /// How a replica could resume now.
    pub fn syncs(&self, node: Node) -> Option<Sync> {
        let server = &self.servers[node];
        let upstream = &self.servers[server.upstream.filter(|_| !server.link)?];
        if upstream.upstream.is_some() && !upstream.link {
            // Its own link is down: it refuses.
            return None;
        }
        let next = server.log.len() + 1;
        let known = server.history == upstream.history
            || upstream
                .ancestor
                .is_some_and(|(history, fork)| history == server.history && next <= usize::from(fork));
        let held = upstream
            .backlog
            .is_some_and(|first| usize::from(first) <= next && next <= upstream.log.len() + 1);
        Some(if known && held && !server.hollow {
            Sync::Partial
        } else {
            Sync::Full
        })
    }

    /// A replica resumes, or fails to.
    pub fn sync(&mut self, node: Node, how: Sync, notices: &mut Vec<Notice>) -> bool {
        let Some(possible) = self.syncs(node) else {
            return false;
        };
        let Some(upstream) = self.servers[node].upstream else {
            return false;
        };
        match (how, possible) {
            (Sync::Partial, Sync::Partial) => {
                let new = self.servers[upstream].history;
                let server = &mut self.servers[node];
                server.link = true;
                server.backlog = server.backlog.or(u8::try_from(server.log.len() + 1).ok());
                if server.history != new {
                    // Its own offset, not the fork point (law 6).
                    server.ancestor = u8::try_from(server.log.len() + 1)
                        .ok()
                        .map(|fork| (server.history, fork));
                    server.history = new;
                    self.unlink_downstream(node);
                }
                true
            }
            (Sync::Full, Sync::Full) => {
                if self.servers[upstream].backlog.is_none() {
                    self.change_history(upstream, true);
                }
                let source = self.servers[upstream].clone();
                let server = &mut self.servers[node];
                server.history = source.history;
                server.ancestor = None;
                server.backlog = u8::try_from(source.log.len() + 1).ok();
                server.log = source.log;
                server.data = source.data;
                server.hollow = false;
                server.link = true;
                self.unlink_downstream(node);
                notices.push(Notice::Null(node));
                true
            }
            (Sync::Failed, Sync::Full) if !self.servers[node].hollow => {
                if self.servers[upstream].backlog.is_none() {
                    self.change_history(upstream, true);
                }
                let server = &mut self.servers[node];
                server.data = 0;
                server.hollow = true;
                server.backlog = None;
                self.unlink_downstream(node);
                notices.push(Notice::Null(node));
                true
            }
            _ => false,
        }
    }

    /// A primary's ID changes under its connections: its first replica attaches, or its backlog is freed.
    fn change_history(&mut self, node: Node, backlog: bool) {
        let log = self.servers[node].log.clone();
        let new = self.new_history(&log, None);
        let server = &mut self.servers[node];
        server.history = new;
        server.ancestor = None;
        server.backlog = if backlog {
            u8::try_from(log.len() + 1).ok()
        } else {
            None
        };
    }

    /// The backlog of a primary without replicas is freed.
    pub fn free_backlog(&mut self, node: Node) -> bool {
        let followed = self
            .servers
            .iter()
            .any(|server| server.upstream == Some(node) && server.link);
        if followed || !self.is_primary(node) || self.servers[node].backlog.is_none() {
            return false;
        }
        self.change_history(node, false);
        true
    }

    /// A snapshot is written.
    pub fn save(&mut self, node: Node) -> bool {
        let server = &mut self.servers[node];
        if server.hollow {
            return false;
        }
        let image = Image {
            history: server.backlog.map(|_| server.history),
            log: server.log.clone(),
            data: server.data,
        };
        let news = server.disk.as_ref() != Some(&image);
        server.disk = Some(image);
        news
    }

    /// Kill -9, and a new process at once.
    pub fn restart(&mut self, node: Node, how: Restart, notices: &mut Vec<Notice>) -> bool {
        let image = match how {
            Restart::Empty => None,
            Restart::WithData => match self.servers[node].disk.clone() {
                None => return false,
                image => image,
            },
        };
        let primary = self.is_primary(node);
        let image = image.unwrap_or(Image {
            history: None,
            log: Vec::new(),
            data: 0,
        });
        let log = if image.history.is_some() {
            image.log
        } else {
            Vec::new()
        };
        let resumes = u8::try_from(log.len() + 1).ok();
        let (history, ancestor) = match image.history {
            Some(old) if primary => {
                let new = self.new_history(&log, Some(old));
                (new, resumes.map(|fork| (old, fork)))
            }
            Some(old) => (old, None),
            None => (self.new_history(&log, None), None),
        };
        let server = &mut self.servers[node];
        server.run += 1;
        server.link = false;
        server.history = history;
        server.ancestor = ancestor;
        server.backlog = resumes.filter(|_| image.history.is_some());
        server.hollow = !primary && image.history.is_none();
        server.log = log;
        server.data = image.data;
        self.unlink_downstream(node);
        notices.push(Notice::Ended(node));
        true
    }

    /// `INFO replication`, as text, read by the client's own scan.
    pub fn info(&self, node: Node, claims_backlog: bool) -> Progress {
        let server = &self.servers[node];
        let offset = server.log.len();
        let mut text = String::with_capacity(256);
        if server.upstream.is_none() {
            text.push_str("role:master\r\n");
        } else {
            text.push_str("role:slave\r\nslave_read_only:1\r\nmaster_link_status:");
            text.push_str(if server.link { "up" } else { "down" });
            text.push_str("\r\nslave_repl_offset:");
            text.push_str(NUMBERS[if server.hollow { 1 } else { offset }]);
            text.push_str("\r\n");
        }
        let (older, second) = match server.ancestor {
            Some((history, fork)) => (history, NUMBERS[usize::from(fork)]),
            None => (0, "-1"),
        };
        for part in [
            "master_replid:",
            DIGITS[usize::from(server.history)],
            "\r\nmaster_replid2:",
            DIGITS[usize::from(older)],
        ] {
            text.push_str(part);
        }
        let backlog = server.backlog.is_some() || claims_backlog;
        for part in [
            "\r\nmaster_repl_offset:",
            NUMBERS[offset],
            "\r\nsecond_repl_offset:",
            second,
            "\r\nrepl_backlog_active:",
            NUMBERS[usize::from(backlog)],
            "\r\n",
        ] {
            text.push_str(part);
        }
        Progress::scan(text.as_bytes()).expect("the model says what servers say")
    }

    /// True when some part of `history` up to `offset` is not in the primary `node`'s stream, or was never there.
    pub fn lacks(&self, node: Node, lost: History, offset: u64) -> bool {
        let truth = &self.truth[number(lost)];
        let stream = &self.servers[node].log;
        let end = usize::try_from(offset).unwrap_or(usize::MAX);
        match (truth.get(..end), stream.get(..end)) {
            (Some(was), Some(is)) => was != is,
            _ => true,
        }
    }

    /// True when the node's history grew directly out of `parent` in a way that servers tell.
    pub fn tells_parent(&self, node: Node, parent: History) -> bool {
        self.told_parent[usize::from(self.servers[node].history)].map(usize::from) == Some(number(parent))
    }
}

/// Histories and offsets as servers write them; few are ever reached.
const DIGITS: [&str; 16] = [
    "0000000000000000000000000000000000000000",
    "0101010101010101010101010101010101010101",
    "0202020202020202020202020202020202020202",
    "0303030303030303030303030303030303030303",
    "0404040404040404040404040404040404040404",
    "0505050505050505050505050505050505050505",
    "0606060606060606060606060606060606060606",
    "0707070707070707070707070707070707070707",
    "0808080808080808080808080808080808080808",
    "0909090909090909090909090909090909090909",
    "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
    "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
    "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c",
    "0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d",
    "0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e",
    "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
];
const NUMBERS: [&str; 16] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
];

fn number(history: History) -> usize {
    usize::from(history.as_bytes()[0])
}
