//! The processes that have a client each, as the conductor sees them.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    Error,
    operation::Operation,
    stage::SOON,
    wire::{Casting, Order, Word},
};

/// Words that wait to be looked at; their senders wait when there are more.
const WORDS: usize = 1024;

type Input = Arc<Mutex<ChildStdin>>;

/// All of them. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    words: Receiver<Heard>,
    syncs: u64,
    /// The highest sync that each has answered.
    synced: HashMap<usize, u64>,
    did: Vec<Did>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    input: Input,
    reader: Option<JoinHandle<()>>,
}

/// What a process has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Did {
    pub(crate) operations: Vec<Operation>,
    /// Those that marks name.
    pub(crate) histories: Vec<String>,
    ready: bool,
    complete: bool,
}

#[derive(Debug)]
enum Heard {
    Word(usize, Word),
    /// Its output has ended.
    Gone(usize),
}

impl Crew {
    /// Starts a process for each, and waits until their clients are connected.
    pub(crate) fn start(castings: &[Casting]) -> Result<Self, Error> {
        let program = std::env::current_exe()?;
        let mut children = Vec::new();
        for _ in castings {
            children.push(
                Command::new(&program)
                    .arg("actor")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?,
            );
        }
        let (sender, words) = sync_channel(WORDS);
        let mut inputs: Vec<Input> = Vec::new();
        let mut outputs = Vec::new();
        for child in &mut children {
            let input = child.stdin.take().ok_or("a process without input")?;
            inputs.push(Arc::new(Mutex::new(input)));
            outputs.push(child.stdout.take().ok_or("a process without output")?);
        }
        let mut crew = Self {
            members: Vec::new(),
            words,
            syncs: 0,
            synced: HashMap::new(),
            did: vec![Did::default(); castings.len()],
        };
        for (number, (child, output)) in children.into_iter().zip(outputs).enumerate() {
            let (others, sender) = (inputs.clone(), sender.clone());
            let reader = std::thread::Builder::new()
                .name(format!("process-{number}"))
                .spawn(move || listen(number, output, &others, &sender))?;
            crew.members.push(Member {
                child,
                input: inputs.get(number).cloned().ok_or("a process without input")?,
                reader: Some(reader),
            });
        }
        for (member, casting) in crew.members.iter().zip(castings) {
            say(&member.input, casting)?;
        }
        crew.hear_until(SOON, "all processes are connected", |crew| {
            crew.did.iter().all(|did| did.ready)
        })?;
        Ok(crew)
    }

    pub(crate) fn rebuild(&self, process: usize) -> Result<(), Error> {
        let member = self.members.get(process).ok_or("no such process")?;
        say(&member.input, &Order::Rebuild)
    }

    /// Waits until every session of every process has had an answer to a read that it began after this; and to a
    /// write, if so wanted. False when that takes too long.
    pub(crate) fn sync(&mut self, writes: bool, within: Duration) -> Result<bool, Error> {
        self.syncs += 1;
        let number = self.syncs;
        for member in &self.members {
            say(&member.input, &Order::Sync { number, writes })?;
        }
        let all = self.members.len();
        let outcome = self.hear_until(within, "all sessions go on", |crew| {
            crew.synced.values().filter(|synced| **synced >= number).count() == all
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(Waiting::TooLong(_)) => Ok(false),
            Err(Waiting::Gone(error)) => Err(error),
        }
    }

    /// Ends the processes, and returns what each has done.
    pub(crate) fn finish(mut self) -> Result<Vec<Did>, Error> {
        for member in &self.members {
            say(&member.input, &Order::Finish)?;
        }
        self.hear_until(2 * SOON, "all processes have told what they did", |crew| {
            crew.did.iter().all(|did| did.complete)
        })?;
        Ok(std::mem::take(&mut self.did))
    }

    /// Takes in what the processes say until the condition holds.
    fn hear_until(
        &mut self,
        within: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), Waiting> {
        let deadline = Instant::now() + within;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.words.recv_timeout(left) {
                Ok(Heard::Word(process, word)) => self.take(process, word),
                Ok(Heard::Gone(process)) => {
                    // It ends by itself once it has told everything.
                    if !self.did.get(process).is_some_and(|did| did.complete) {
                        return Err(Waiting::Gone(
                            format!("process {process} has ended by itself").into(),
                        ));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Waiting::TooLong(format!("not within {within:?}: {what}").into()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Waiting::Gone("all processes have ended".into()));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, process: usize, word: Word) {
        let Some(did) = self.did.get_mut(process) else {
            return;
        };
        match word {
            Word::Ready => did.ready = true,
            Word::Synced(number) => {
                self.synced.insert(process, number);
            }
            Word::Did(operations) => did.operations.extend(operations),
            Word::Histories(histories) => {
                did.histories = histories;
                did.complete = true;
            }
            // Passed on by who reads.
            Word::Token { .. } => {}
        }
    }
}

/// Why waiting was in vain.
enum Waiting {
    TooLong(Error),
    Gone(Error),
}

impl From<Waiting> for Error {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::TooLong(error) | Waiting::Gone(error) => error,
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            drop(member.child.kill());
            drop(member.child.wait());
        }
        // Who has more to say than there is room finds nobody listening.
        let (_, nobody) = sync_channel(1);
        drop(std::mem::replace(&mut self.words, nobody));
        for member in &mut self.members {
            if let Some(reader) = member.reader.take() {
                drop(reader.join());
            }
        }
    }
}

fn say<T: serde::Serialize>(input: &Input, what: &T) -> Result<(), Error> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    input.write_all(&line)?;
    input.flush()?;
    Ok(())
}

/// Reads what a process says. Tokens go to their process at once, past the conductor, which may be busy.
fn listen(number: usize, output: ChildStdout, others: &[Input], sender: &SyncSender<Heard>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str::<Word>(&line) {
            Ok(Word::Token { to, passed }) => {
                let to = usize::try_from(to).ok().and_then(|to| others.get(to));
                // Who has finished takes no more.
                let _ = to.map(|to| say(to, &Order::Token(passed)));
            }
            Ok(word) => {
                if sender.send(Heard::Word(number, word)).is_err() {
                    return;
                }
            }
            Err(_) => break,
        }
    }
    // Nobody may listen any more.
    let _ = sender.send(Heard::Gone(number));
}
