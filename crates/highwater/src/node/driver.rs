//! The driver of one connection: reads replies and pushes in wire order, binds proofs to replies,
//! settles writes, and hands each caller what is theirs.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use highwater_core::{Offset, Progress, Replied, Witness};
use redis::{PushKind, Value};
use tokio::time::Sleep;

use super::{
    Node, Sample,
    acks::Acking,
    connection::{Answer, Call, Connection, Proof, ProofWanted, Slot, lost_while},
    enclosed::Enclosure,
    lost::Identity,
    reply::{self, Parser},
    stream::{ReadBuffer, ReadHalf},
};
use crate::{
    cache::FeedWriter,
    defaults::{EAGER_PROBES, PROBE_PACE},
    error::{Error, ErrorKind},
};

/// How many times in a row the socket is read before other tasks get their turn.
const READS_PER_TURN: usize = 8;
/// How many callers are answered before they get theirs: tokio's queue of a thread has room for twice as many, and what it
/// has not goes through a lock that all threads share.
const CALLS_PER_TURN: usize = 128;
/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// All callers': the node's own connection, which also asks where the node is.
    Shared,
    /// One caller's: nothing is sent on it but what the caller sends, and the proofs for that.
    Exclusive,
    /// The near cache's, which is handed all that comes, in wire order.
    Feed,
    /// All callers' whose writes wait for acknowledgements.
    Acked,
}

/// Drives one connection until it ends.
pub(super) struct Driver {
    node: Arc<Node>,
    usage: Use,
    connection: Arc<Connection>,
    identity: Identity,
    /// What applies replies and pushes to the near cache.
    feed: Option<Box<FeedWriter>>,
    socket: ReadHalf,
    buffer: ReadBuffer,
    parser: Parser,
    /// What the next replies are for.
    expected: VecDeque<Slot>,
    /// The replies so far to the call in front, when it has several.
    collected: Vec<Value>,
    /// What the samples so far prove.
    witness: Witness,
    /// Calls of this flush that are answered and wait for its trailing INFO.
    untrailed: Vec<Untrailed>,
    /// Calls of this flush that wait for acknowledgements.
    acking: Acking,
    /// As far as the flush's samples so far tell, the node is in the stream that the flush's writes are in.
    same_stream: bool,
    /// The last INFO's text: a reply of the same bytes needs no scan.
    last_info: Vec<u8>,
    batch: Batch,
    tick: Pin<Box<Sleep>>,
    pace: Pin<Box<Sleep>>,
    /// How many more INFOs those who wait now may have without a pause.
    eager: u32,
    /// When the INFO was asked for that is under way for its own sake.
    probing: Option<Instant>,
    gathering: bool,
    /// Something has been received since the last tick, and since when nothing has been.
    received: bool,
    silent_since: Instant,
    /// Why the connection ended.
    ended: Option<Error>,
    /// Since when the node's shared connection has been down, as seen by an exclusive one.
    down_since: Option<Instant>,
}

/// A call that has its reply and no proof yet.
struct Untrailed {
    call: Call,
    value: Value,
    replied: Replied,
}

/// What one turn has concluded, for the queue's books.
#[derive(Default)]
struct Batch {
    calls: usize,
    flushes: usize,
}

impl Driver {
    pub(super) fn new(
        node: Arc<Node>,
        usage: Use,
        connection: Arc<Connection>,
        (socket, buffer): (ReadHalf, ReadBuffer),
        identity: Identity,
        first: Option<Progress>,
    ) -> Self {
        Self {
            node,
            usage,
            witness: Witness::new(first, connection.manners.tracking),
            connection,
            identity,
            feed: None,
            socket,
            buffer,
            parser: Parser::default(),
            expected: VecDeque::new(),
            collected: Vec::new(),
            untrailed: Vec::new(),
            acking: Acking::default(),
            same_stream: true,
            last_info: Vec::new(),
            batch: Batch::default(),
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
            pace: Box::pin(tokio::time::sleep(Duration::ZERO)),
            eager: EAGER_PROBES,
            probing: None,
            gathering: false,
            received: false,
            silent_since: Instant::now(),
            ended: None,
            down_since: None,
        }
    }

    /// Has all that comes applied to the near cache.
    pub(super) fn with_feed(mut self, feed: FeedWriter) -> Self {
        self.feed = Some(Box::new(feed));
        self
    }

    /// Drives the connection to its end, and says why it ended. What is in flight is concluded when the
    /// driver is dropped.
    pub(super) async fn run(&mut self) -> Error {
        let error = poll_fn(|context| self.poll(context)).await;
        self.ended = Some(error.clone());
        error
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        self.connection.driver.register(context.waker());
        match self.turn(context) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        if std::mem::take(&mut self.gathering) {
            self.flush();
        }
        let mut reads = 0;
        loop {
            match self.socket.poll_read(context, self.buffer.space()) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    let end = std::io::ErrorKind::UnexpectedEof.into();
                    return Err(lost_while("waiting for replies: the server closed it", end));
                }
                Poll::Ready(Ok(len)) => {
                    self.buffer.filled(len);
                    self.received = true;
                }
                Poll::Ready(Err(error)) => return Err(lost_while("reading", error)),
            }
            self.take_replies()?;
            reads += 1;
            if reads == READS_PER_TURN || self.batch.calls >= CALLS_PER_TURN {
                context.waker().wake_by_ref();
                break;
            }
        }
        let answered = self.batch.calls;
        self.close_books();
        while self.connection.is_stuck() {
            match self.connection.socket.poll_ready(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {
                    if self.connection.unstick() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Err(lost_while("writing", error)),
            }
        }
        let queue = self.connection.queue();
        if queue.has_ended() {
            return Err(Error::new(
                ErrorKind::Disconnected,
                "the connection was closed: who used it has gone",
            ));
        }
        drop(queue);
        if answered > 1 {
            // Several callers have just been woken: let them put their next requests into one flush.
            self.gathering = true;
            self.connection.queue().set_gathering(true);
            context.waker().wake_by_ref();
        } else {
            self.flush();
        }
        if let Some(error) = self.connection.queue().ended() {
            return Err(error.clone());
        }
        self.watch(context)
    }

    fn flush(&self) {
        let mut queue = self.connection.queue();
        queue.set_gathering(false);
        if queue.has_unsent() {
            self.connection.flush(queue);
        }
    }

    /// Timeouts, and INFOs for their own sake.
    fn watch(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let (response_timeout, idle_probe) =
            (self.node.settings.response_timeout, self.node.settings.idle_probe);
        while self.tick.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if std::mem::take(&mut self.received) {
                self.silent_since = now;
            }
            // Silence is no byte at all: a large reply that takes long to come is none.
            let queue = self.connection.queue();
            let (oldest, patience) = (queue.oldest_flush(), queue.patience());
            drop(queue);
            let allowed = response_timeout.saturating_add(patience);
            if oldest.is_some_and(|oldest| now.duration_since(oldest.max(self.silent_since)) >= allowed) {
                let silence = format!("no reply from {} within {allowed:?}", self.node.address);
                return Err(Error::new(ErrorKind::Disconnected, silence));
            }
            if matches!(self.usage, Use::Exclusive | Use::Acked) {
                self.watch_node(now)?;
            }
            if self.usage != Use::Exclusive {
                let due =
                    self.usage == Use::Shared && self.node.lost.any_due(now, self.node.settings.doubt_grace);
                // What waits for acknowledgements would hold an INFO up, and shows that the connection lives.
                let held_up = self.usage == Use::Acked && oldest.is_some();
                let stale = self.usage != Use::Acked
                    && self.node.settings.proofs
                    && self.node.sample_age(now) >= idle_probe;
                // Others can have asked on other connections; this one is to be seen to live, too.
                let silent = !held_up && now.duration_since(self.silent_since) >= idle_probe;
                if self.probing.is_none() && (due || stale || silent) {
                    self.probe();
                }
            }
            let period = response_timeout.min(idle_probe) / 4;
            self.tick.as_mut().reset((now + period).into());
        }
        while self.usage == Use::Shared && self.probing.is_none() {
            if !self.node.waiters.any() {
                self.eager = EAGER_PROBES;
                break;
            }
            // With nothing else to do, the first ones follow each other: a replica is nearly always there after one or
            // two, and the timer's least is much longer than that.
            if self.eager > 0 && self.connection.load() == 0 {
                self.eager -= 1;
            } else if self.pace.as_mut().poll(context).is_pending() {
                break;
            }
            self.pace.as_mut().reset((Instant::now() + PROBE_PACE).into());
            self.probe();
        }
        Ok(())
    }

    /// A command that blocks for ever shows nothing of a node that is dead or frozen. The shared
    /// connection does: while it can't be had back, nothing will come on this one either.
    fn watch_node(&mut self, now: Instant) -> Result<(), Error> {
        let links = self.node.links();
        let Some(error) = links.error.filter(|_| links.up == 0) else {
            self.down_since = None;
            return Ok(());
        };
        let since = *self.down_since.get_or_insert(now);
        if now.duration_since(since) < self.node.settings.response_timeout {
            return Ok(());
        }
        let dead = format!("{} does not answer on other connections", self.node.address);
        Err(Error::new(ErrorKind::Disconnected, dead).with_source(error))
    }

    fn probe(&mut self) {
        self.probing = Some(Instant::now());
        self.node.waiters.asking();
        self.connection.probe();
    }

    /// Reads every whole reply and push in the buffer.
    fn take_replies(&mut self) -> Result<(), Error> {
        let buffer = std::mem::replace(&mut self.buffer, ReadBuffer::empty());
        let mut at = 0;
        let outcome = self.take_replies_from(buffer.unread(), &mut at);
        self.buffer = buffer;
        self.buffer.consume(at);
        outcome
    }

    fn take_replies_from(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), Error> {
        while *at < bytes.len() {
            self.pass_silent_slots();
            if self.expected.is_empty() {
                self.connection.queue().take_staged(&mut self.expected);
                self.pass_silent_slots();
            }
            let info = matches!(
                self.expected.front(),
                Some(Slot::Leading | Slot::Trailing(_) | Slot::Probe(_) | Slot::Confirming(_))
            );
            if info && self.parser.between_replies() {
                match reply::text(bytes, at)? {
                    None => return Ok(()),
                    Some(Some(text)) => {
                        let progress = self.sample(text)?;
                        if let Some(feed) = &mut self.feed {
                            feed.read_info(text);
                        }
                        self.info(Some(progress))?;
                        continue;
                    }
                    Some(None) => {}
                }
            }
            match self.parser.next(bytes, at)? {
                None => return Ok(()),
                Some(Value::Push { kind, data }) => self.push(&kind, &data),
                // An INFO that was refused proves nothing.
                Some(Value::ServerError(_)) if info => self.info(None)?,
                Some(_) if info && self.node.settings.proofs => return Err(no_info()),
                // PING's.
                Some(_) if info => self.info(None)?,
                Some(value) => match self.expected.front() {
                    Some(Slot::Wait(_)) => self.told(value)?,
                    _ => self.reply(value)?,
                },
            }
        }
        Ok(())
    }

    /// Passes what the wire says nothing for: ends of flushes, and requests for nothing but a proof.
    fn pass_silent_slots(&mut self) {
        loop {
            match self.expected.front() {
                Some(Slot::EndOfFlush) => {
                    self.expected.pop_front();
                    self.batch.flushes += 1;
                    self.witness.end_flush();
                    self.same_stream = true;
                }
                Some(Slot::Call(call)) if call.replies == 0 => self.answered(Value::Nil),
                _ => return,
            }
        }
    }

    fn push(&mut self, kind: &PushKind, data: &[Value]) {
        if let Some(feed) = &mut self.feed {
            feed.pushed(kind, data);
        }
        if *kind == PushKind::Invalidate && matches!(data.first(), Some(Value::Nil) | None) {
            self.witness.null_push();
        }
    }

    fn sample(&mut self, text: &[u8]) -> Result<Progress, Error> {
        // Before the first one there is none, and an empty one would be taken for it.
        if self.last_info == text && !text.is_empty() {
            return Ok(*self.witness.previous());
        }
        let progress = Progress::scan(text).map_err(|error| no_info().with_source(error))?;
        if self.witness.is_contradicted(&progress) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the primary went back in its own history: these are not one server's replies",
            ));
        }
        self.last_info.clear();
        self.last_info.extend_from_slice(text);
        Ok(progress)
    }

    /// Takes in the reply to an INFO.
    fn info(&mut self, progress: Option<Progress>) -> Result<(), Error> {
        let slot = self.expected.pop_front();
        if let Some(progress) = &progress {
            self.learn(progress);
        }
        let mut sent = None;
        match slot {
            Some(Slot::Leading) => self.witness.lead(progress),
            Some(Slot::Trailing(at)) => {
                self.trailing(progress);
                sent = Some(at);
            }
            Some(Slot::Probe(at)) => {
                sent = Some(at);
                if let (Some(asked), Some(progress)) = (self.probing.take(), &progress) {
                    let grace = self.node.settings.doubt_grace;
                    let settled = self.node.lost.sampled(asked, grace, progress);
                    self.node.meters.settled(settled);
                }
            }
            Some(Slot::Confirming(at)) => {
                // There may be several, each judged by the one before; the first to fail speaks for the rest.
                self.same_stream &= progress.is_some_and(|progress| self.witness.marks(&progress));
                self.batch.calls += self.acking.confirmed(self.same_stream);
                sent = Some(at);
            }
            Some(Slot::Call(_) | Slot::Wait(_) | Slot::EndOfFlush) | None => {
                return Err(Error::new(ErrorKind::Protocol, "a reply that nobody asked for"));
            }
        }
        if let (Some(feed), Some(sent)) = (&mut self.feed, sent) {
            feed.sampled(progress, sent);
        }
        if let Some(progress) = progress {
            self.observed(progress, sent);
        }
        Ok(())
    }

    /// Takes note of a history that grew out of another one. Before any caller is answered, since they judge by
    /// what is known of histories.
    fn learn(&self, progress: &Progress) {
        if let Some(edge) = self.witness.edge(progress) {
            self.node.learn_edge(edge);
        }
    }

    /// Takes note of where the node is. `sent`, where it is known, is a moment just before it was asked.
    fn observed(&mut self, progress: Progress, sent: Option<Instant>) {
        let at = Instant::now();
        self.node.publish(Sample { progress, at }, sent);
        self.witness.observe(progress);
    }

    /// Concludes the calls that waited for their flush's trailing INFO.
    fn trailing(&mut self, progress: Option<Progress>) {
        let proof_of_reads = progress.filter(|progress| self.witness.proves(progress));
        let mark_of_writes = progress.filter(|progress| self.witness.marks(progress));
        self.same_stream &= mark_of_writes.is_some();
        for Untrailed {
            mut call,
            value,
            replied,
        } in std::mem::take(&mut self.untrailed)
        {
            let proof = match call.proof {
                ProofWanted::Both => self
                    .witness
                    .bounds(&replied, progress.as_ref())
                    .map_or(Proof::None, |(low, high)| Proof::Between(low, Some(high))),
                _ => proof_of_reads.map_or(Proof::None, |progress| Proof::Between(progress, Some(progress))),
            };
            if let Some(write) = call.write.take() {
                match mark_of_writes {
                    // A script answers with whatever code it likes, and may have written first: its mark is right in any case. Only
                    // what a server says that is still loading is no place.
                    Some(progress) if !is_error(&value, &["LOADING"]) => {
                        write.settle(progress.history, Offset::at(progress.applied));
                    }
                    _ if is_error(&value, &["READONLY", "LOADING", "MASTERDOWN", "NOAUTH"]) => {
                        write.not_sent();
                    }
                    _ => write.applied_somewhere(),
                }
            }
            self.answer(call, value, proof);
        }
    }

    /// Hands a caller their reply, unless they wait for acknowledgements of it.
    fn answer(&mut self, call: Call, value: Value, proof: Proof) {
        match call.acks {
            None => answer(call, value, proof),
            Some(acks) => self.acking.add(call, acks, value, proof),
        }
    }

    /// Takes in what is told of acknowledgements.
    fn told(&mut self, value: Value) -> Result<(), Error> {
        if let Some(Slot::Wait(wait)) = self.expected.pop_front() {
            self.acking.told(wait, value)?;
            if !self.node.settings.proofs {
                // Nothing more is asked.
                self.batch.calls += self.acking.confirmed(true);
            }
        }
        Ok(())
    }

    /// Takes in a reply to the call in front.
    fn reply(&mut self, value: Value) -> Result<(), Error> {
        let Some(Slot::Call(call)) = self.expected.front() else {
            return Err(Error::new(ErrorKind::Protocol, "a reply that nobody asked for"));
        };
        let value = if call.replies == 1 {
            value
        } else {
            self.collected.push(value);
            if let (Some(feed), Some(_)) = (&mut self.feed, &call.fill) {
                feed.opened();
            }
            if self.collected.len() < call.replies {
                return Ok(());
            }
            if call.enclosure != Enclosure::None {
                return self.enclosed();
            }
            Value::Array(std::mem::take(&mut self.collected))
        };
        self.answered(value);
        Ok(())
    }

    /// The transaction around the call in front has been carried out, or refused.
    #[cold]
    fn enclosed(&mut self) -> Result<(), Error> {
        let Some(Slot::Call(call)) = self.expected.front() else {
            return Ok(());
        };
        let enclosure = call.enclosure;
        let refused = Enclosure::refused(&self.collected)?;
        let (value, info) = enclosure.open(std::mem::take(&mut self.collected));
        let text = match &info {
            Some(Value::BulkString(text)) => Some(text.as_slice()),
            Some(Value::VerbatimString { text, .. }) => Some(text.as_bytes()),
            _ => None,
        };
        let progress = text.map(|text| self.sample(text)).transpose()?;
        // Nothing fails from here on. Until here the call is in its place, to be told why.
        let Some(Slot::Call(call)) = self.expected.pop_front() else {
            return Ok(());
        };
        self.batch.calls += 1;
        let proof = match progress {
            Some(progress) => {
                self.learn(&progress);
                self.observed(progress, None);
                // One point in time: nothing before it, and nothing after.
                Proof::Between(progress, Some(progress))
            }
            None if refused => Proof::Refused,
            None => Proof::None,
        };
        answer(call, value, proof);
        Ok(())
    }

    /// The call in front has all of its replies.
    fn answered(&mut self, value: Value) {
        let Some(Slot::Call(mut call)) = self.expected.pop_front() else {
            return;
        };
        // One that waits for acknowledgements is in flight until then.
        self.batch.calls += usize::from(call.acks.is_none());
        if let Some(fill) = call.fill.take() {
            if let (Some(feed), Value::Array(replies)) = (&mut self.feed, value) {
                feed.filled(*fill, replies);
            }
            return;
        }
        match call.proof {
            ProofWanted::Nothing => self.answer(call, value, Proof::None),
            ProofWanted::Leading => {
                let proof = self
                    .witness
                    .lower_bound()
                    .map_or(Proof::None, |progress| Proof::Between(progress, None));
                answer(call, value, proof);
            }
            ProofWanted::Both | ProofWanted::Trailing => {
                let replied = self.witness.replied();
                self.untrailed.push(Untrailed { call, value, replied });
            }
        }
    }

    /// Takes note, in the queue, of what this turn has concluded.
    fn close_books(&mut self) {
        let connection = Arc::clone(&self.connection);
        let mut queue = connection.queue();
        // A flush can have been sealed after its requests were taken from the queue: its end must
        // be seen now, or callers would wait for a driver that has no reason to wake.
        self.pass_silent_slots();
        if self.expected.is_empty() {
            queue.take_staged(&mut self.expected);
            self.pass_silent_slots();
        }
        let batch = std::mem::take(&mut self.batch);
        if batch.calls > 0 || batch.flushes > 0 {
            connection.concluded(&mut queue, batch.calls, batch.flushes, self.witness.history());
        }
    }

    /// Tells every caller how it stands with them, now that the connection has ended.
    fn conclude_all(&mut self, error: &Error) {
        for Untrailed { mut call, value, .. } in std::mem::take(&mut self.untrailed) {
            // The reply has come: only its place in the stream is not known.
            if let Some(write) = call.write.take() {
                write.applied_somewhere();
            }
            self.answer(call, value, Proof::None);
        }
        self.acking.lost(error);
        let mut lost = Vec::new();
        let mut slots = std::mem::take(&mut self.expected);
        slots.extend(self.connection.close(error));
        // What comes after the last flush was never handed to the socket.
        let sent = slots.iter().rposition(|slot| matches!(slot, Slot::EndOfFlush));
        for (place, slot) in slots.into_iter().enumerate() {
            let Slot::Call(mut call) = slot else { continue };
            let write = call.write.take();
            let error = if sent.is_none_or(|sent| place > sent) {
                if let Some(write) = write {
                    write.not_sent();
                }
                unsent(error)
            } else {
                if let Some(mut write) = write {
                    write.in_doubt();
                    lost.push(write);
                }
                if call.may_write {
                    in_doubt(error)
                } else {
                    error.clone()
                }
            };
            // The caller may be gone.
            let _ = call.reply_to.send(Err(error));
        }
        if !lost.is_empty() {
            // What the kernel still holds must not go out: with a reset, the server learns at once.
            self.connection.socket.abort();
        }
        let orphans = !lost.is_empty();
        let history = self.witness.history();
        self.node.lost.add(&self.identity, history, lost);
        match self.usage {
            Use::Shared => self.node.waiters.wake_all(),
            // The shared connection is up, and will not connect anew for their sake.
            Use::Exclusive | Use::Acked if orphans => self.node.orphans.notify_one(),
            Use::Exclusive | Use::Acked | Use::Feed => {}
        }
    }
}

impl Drop for Driver {
    /// However the driver ends, nobody waits for it.
    fn drop(&mut self) {
        let error = self.ended.take().unwrap_or_else(|| {
            Error::new(
                ErrorKind::Disconnected,
                "the connection was ended: with the client's last handle, its runtime, or a shutdown that took too long",
            )
        });
        self.conclude_all(&error);
    }
}

fn no_info() -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the server's replication state makes no sense",
    )
}

/// Hands a caller their reply. They may be gone: then nobody else may have it.
fn answer(call: Call, value: Value, proof: Proof) {
    let _ = call.reply_to.send(Ok(Answer::new(value, proof)));
}

/// True for error replies with one of these codes.
fn is_error(value: &Value, codes: &[&str]) -> bool {
    matches!(value, Value::ServerError(error) if codes.contains(&error.code()))
}

pub(crate) fn in_doubt(error: &Error) -> Error {
    Error::new(ErrorKind::InDoubt, "the outcome of this write is not known").with_source(error.clone())
}

pub(crate) fn unsent(error: &Error) -> Error {
    if error.kind() == ErrorKind::Closed {
        return error.clone();
    }
    Error::new(ErrorKind::Unavailable, "there is no connection").with_source(error.clone())
}
