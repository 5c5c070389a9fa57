//! Two scripted nodes, a primary and a replica of it, that are true to the laws of replication while anything happens
//! to their connections. Each reply says whose it is and where the node's data are: `c7.0@140`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use highwater::Role;
use highwater_testkit::{Play, Request, Script, primary_info, replica_info};
use proptest::prelude::*;

pub(crate) const HISTORY: &str = "8371445ab47aefbc94b3e4bbbd7db4ca1d2c0b1c";
/// Where the primary begins.
const START: u64 = 100;

/// What happens as a node takes in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Nothing but the reply.
    Plain,
    /// The reply comes in so many pieces.
    Pieces(u8),
    /// The reply is late.
    Late(u8),
    /// An invalidation of a key comes first.
    Invalidate,
    /// A push of another kind comes first.
    Push,
    /// The replica catches up; the primary moves by itself.
    Advance,
    /// The replica's data are replaced by those of so many per cent of the stream, with a null push as of a full
    /// resync; the primary is flushed.
    Replace(u8),
    /// The replica begins a full resync: `INFO` says 1, as that of Redis 6.2 does, and its data are as they were.
    Forget,
    /// The request is refused.
    Refuse,
    /// The connection ends after so many per cent of the reply.
    End(u8),
    Reset(u8),
}

/// Steps of which some, or none, end the connection: until there is another one, callers are turned away.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::bool::ANY.prop_flat_map(|ends| {
        let end = (0..=100_u8, prop::bool::ANY).prop_map(move |(percent, reset)| match reset {
            _ if !ends => Step::Plain,
            true => Step::Reset(percent),
            false => Step::End(percent),
        });
        let step = prop_oneof![
            24 => Just(Step::Plain),
            12 => (2..9_u8).prop_map(Step::Pieces),
            6 => (1..6_u8).prop_map(Step::Late),
            3 => Just(Step::Invalidate),
            3 => Just(Step::Push),
            18 => Just(Step::Advance),
            6 => (0..100_u8).prop_map(Step::Replace),
            3 => Just(Step::Forget),
            3 => Just(Step::Refuse),
            2 => end,
        ];
        prop::collection::vec(step, 0..100)
    })
}

/// Bytes instead of a reply.
#[derive(Clone, Debug)]
pub(crate) struct Nonsense {
    /// The how many-th request it is for, of all or of those for INFO.
    after: usize,
    for_info: bool,
    bytes: Vec<u8>,
}

/// Nonsense of all kinds that a client can see to be that, for the first request that it can be for.
pub(crate) fn all_nonsense(role: Role) -> impl Iterator<Item = Nonsense> {
    let of = |bytes: Vec<Vec<u8>>, for_info| {
        bytes.into_iter().map(move |bytes| Nonsense {
            after: 1,
            for_info,
            bytes,
        })
    };
    of(no_reply(), false).chain(of(no_info(role), true))
}

pub(crate) fn nonsense(role: Role) -> impl Strategy<Value = Nonsense> {
    let all: Vec<_> = all_nonsense(role).collect();
    (1..12_usize, prop::sample::select(all)).prop_map(|(after, nonsense)| Nonsense { after, ..nonsense })
}

fn no_reply() -> Vec<Vec<u8>> {
    let short = [
        "?\r\n",
        "\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$-2\r\n",
        "$x\r\n",
        "$1\r\nab\r\n",
        "$99999999999\r\n",
        "$9223372036854775807\r\n",
        "*99999999999\r\n",
        "*60000000\r\n",
        "%30000000\r\n+a\r\n",
        "*2\r\n:1\r\n*18446744073709551616\r\n",
        ":1x\r\n",
        "+a\rb\r\n",
        "#x\r\n",
        ",x\r\n",
        ">-1\r\n",
        ">1\r\n:1\r\n",
        "|-1\r\n",
        "=2\r\nab\r\n",
    ];
    let mut all: Vec<_> = short.into_iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(b"*1\r\n".repeat(1000));
    all.push(b"x".repeat(70_000));
    all.push([b"+", &b"x".repeat(70_000)[..], b"\r\n"].concat());
    all
}

/// What is no reply to `INFO replication`, least of all of the node that it came from.
fn no_info(role: Role) -> Vec<Vec<u8>> {
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
    let mut all = vec![
        text(""),
        text("role:master\r\n"),
        text(&primary_info("no history", 100)),
        text(&primary_info(HISTORY, 100).replace("role:master", "role:sentinel")),
        text(&primary_info(HISTORY, 100).repeat(2)),
        text(&replica_info(HISTORY, u64::MAX)),
        text(&replica_info(HISTORY, 100).replace("slave_repl_offset", "offset")),
    ];
    all.extend(
        [
            "+PONG\r\n",
            ":5\r\n",
            "*0\r\n",
            "_\r\n",
            "$-1\r\n",
            "=2\r\nab\r\n",
            "%1\r\n+a\r\n:1\r\n",
        ]
        .map(Into::into),
    );
    if role == Role::Primary {
        // It is the same history, and a primary never goes back in it.
        all.push(text(&primary_info(HISTORY, 1)));
    }
    all
}

/// How far the primary's stream goes.
#[derive(Clone, Debug)]
pub(crate) struct Stream(Arc<AtomicU64>);

impl Stream {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn grow(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

pub(crate) struct Node {
    role: Role,
    resp3: bool,
    stream: Stream,
    /// Where a replica's data are.
    data: u64,
    forgotten: bool,
    steps: VecDeque<Step>,
    /// Which commands have come in, by what they are about.
    pub(crate) seen: Vec<String>,
    /// What it says once, of what no server says.
    nonsense: Option<Nonsense>,
    /// The connection that it has said it on, while that is up.
    confused: Option<usize>,
    /// What is queued on which connection; `None` where something was refused.
    queued: HashMap<usize, Option<Vec<Request>>>,
}

impl Node {
    pub(crate) fn new(role: Role, resp3: bool, stream: &Stream, steps: Vec<Step>) -> Self {
        Self {
            role,
            resp3,
            data: stream.now(),
            stream: stream.clone(),
            forgotten: false,
            steps: steps.into(),
            seen: Vec::new(),
            nonsense: None,
            confused: None,
            queued: HashMap::new(),
        }
    }

    pub(crate) fn talking(mut self, nonsense: Option<Nonsense>) -> Self {
        self.nonsense = nonsense;
        self
    }

    /// From now on nothing happens to it any more.
    pub(crate) fn calm_down(&mut self) {
        self.steps.clear();
        self.nonsense = None;
    }

    /// True when it has said what nonsense it had to say.
    pub(crate) fn has_talked(&self) -> bool {
        self.nonsense.is_none()
    }

    /// True while a connection is up on which it has said nonsense.
    pub(crate) fn is_believed(&self) -> bool {
        self.confused.is_some()
    }

    /// What it says instead of a reply, if now is the time for it.
    fn nonsense(&mut self, connection: usize, request: &Request) -> Option<Vec<u8>> {
        let nonsense = self.nonsense.as_mut()?;
        if nonsense.for_info && !request.is_info() || self.queued.contains_key(&connection) {
            return None;
        }
        nonsense.after = nonsense.after.saturating_sub(1);
        if nonsense.after > 0 {
            return None;
        }
        self.nonsense.take().map(|nonsense| nonsense.bytes)
    }

    /// Where what it shows is.
    fn shown(&self) -> u64 {
        match self.role {
            Role::Primary => self.stream.now(),
            Role::Replica => self.data,
        }
    }

    fn happen(&mut self, step: Step) -> Option<&'static str> {
        match (step, self.role) {
            (Step::Invalidate, _) => Some(">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"),
            (Step::Push, _) => Some(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"),
            (Step::Replace(_), Role::Primary) => Some(NULL_PUSH),
            (Step::Replace(percent), Role::Replica) => {
                self.data = self.stream.now() * u64::from(percent) / 100;
                self.forgotten = false;
                Some(NULL_PUSH)
            }
            (Step::Advance, Role::Primary) => {
                self.stream.grow(14);
                None
            }
            (Step::Advance, Role::Replica) if !self.forgotten => {
                self.data = self.stream.now();
                None
            }
            (Step::Forget, Role::Replica) => {
                self.forgotten = true;
                None
            }
            _ => None,
        }
        .filter(|_| self.resp3)
    }

    fn reply(&mut self, connection: usize, request: &Request, refuse: bool) -> String {
        if let Some(queue) = self.queued.get_mut(&connection) {
            return match request.name().as_str() {
                "EXEC" => self.execute(connection),
                _ if refuse => {
                    *queue = None;
                    refusal(request)
                }
                _ => {
                    if let Some(queue) = queue {
                        queue.push(request.clone());
                    }
                    "+QUEUED\r\n".to_owned()
                }
            };
        }
        match request.name().as_str() {
            _ if refuse => refusal(request),
            "MULTI" => {
                self.queued.insert(connection, Some(Vec::new()));
                "+OK\r\n".to_owned()
            }
            "EXEC" => "-ERR EXEC without MULTI\r\n".to_owned(),
            _ => self.carry_out(request),
        }
    }

    fn execute(&mut self, connection: usize) -> String {
        match self.queued.remove(&connection).flatten() {
            None => "-EXECABORT discarded\r\n".to_owned(),
            Some(queue) => {
                let replies: String = queue.iter().map(|request| self.carry_out(request)).collect();
                format!("*{}\r\n{replies}", queue.len())
            }
        }
    }

    fn carry_out(&mut self, request: &Request) -> String {
        if request.is_info() {
            let info = self.info();
            return format!("${}\r\n{info}\r\n", info.len());
        }
        if request.name() == "SET" {
            self.stream.grow(10);
        }
        let about = request.argument(1);
        let text = format!("{about}@{}", self.shown());
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        match about.bytes().map(usize::from).sum::<usize>() % 5 {
            0 => bulk(&text),
            1 => format!("+{text}\r\n"),
            2 => format!("*3\r\n{}:7\r\n*0\r\n", bulk(&text)),
            3 => bulk(&format!("{text} {}", "x".repeat(20_000))),
            _ if self.resp3 => format!("%1\r\n+at\r\n{}", bulk(&text)),
            _ => format!("*2\r\n+at\r\n{}", bulk(&text)),
        }
    }
}

const NULL_PUSH: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

fn refusal(request: &Request) -> String {
    format!("-ERR {} refused {}\r\n", request.argument(1), request.name())
}

impl Script for Node {
    fn info(&mut self) -> String {
        match self.role {
            Role::Primary => primary_info(HISTORY, self.stream.now()),
            Role::Replica => replica_info(HISTORY, if self.forgotten { 1 } else { self.data }),
        }
    }

    fn ended(&mut self, connection: usize) {
        if self.confused == Some(connection) {
            self.confused = None;
        }
    }

    fn speaks_resp3(&self) -> bool {
        self.resp3
    }

    fn answer(&mut self, connection: usize, request: &Request) -> Vec<Play> {
        if matches!(request.name().as_str(), "GET" | "SET") {
            self.seen.push(request.argument(1).to_owned());
        }
        if let Some(nonsense) = self.nonsense(connection, request) {
            self.confused = Some(connection);
            return vec![Play::bytes(nonsense)];
        }
        let step = self.steps.pop_front().unwrap_or(Step::Plain);
        let mut bytes = self.happen(step).unwrap_or_default().as_bytes().to_vec();
        let reply = self.reply(connection, request, matches!(step, Step::Refuse));
        bytes.extend_from_slice(reply.as_bytes());
        let part = |percent: u8| bytes[..bytes.len() * usize::from(percent) / 100].to_vec();
        match step {
            Step::Pieces(pieces) => {
                let len = bytes.len().div_ceil(usize::from(pieces));
                let piece = |piece: &[u8]| [Play::bytes(piece), Play::Breath(2)];
                bytes.chunks(len).flat_map(piece).collect()
            }
            Step::Late(turns) => vec![Play::Breath(turns.into()), Play::bytes(bytes)],
            Step::End(percent) => vec![Play::bytes(part(percent)), Play::End],
            Step::Reset(percent) => vec![Play::bytes(part(percent)), Play::Breath(1), Play::Reset],
            _ => vec![Play::bytes(bytes)],
        }
    }
}
