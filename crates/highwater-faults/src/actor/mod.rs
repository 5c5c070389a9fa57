//! A process with a client and some sessions. It does what standard input says, and tells on standard output what it
//! did: see [`wire`](crate::wire).

mod calls;
mod client;
mod keys;
mod person;

pub(crate) use self::keys::{WITNESSES, witnessed};

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use highwater::{Client, SigningKey, TokenCodec};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin},
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};

use self::{keys::Shelf, person::Person};
use crate::{
    Error,
    clock::{self, Nanos},
    operation::Level,
    wire::{Casting, ClientSetting, Order, Passed, Word},
};

/// Words that wait to be written; who has one more waits.
const WORDS: usize = 256;
/// Operations told at once.
const PIECE: usize = 2000;
/// Tokens of other processes that wait to be taken over; more are dropped.
const TOKENS: usize = 64;

/// The levels of a process's sessions.
const LEVELS: [Level; 9] = [
    Level::ReadYourWrites,
    Level::ReadYourWrites,
    Level::ReadYourWrites,
    Level::Monotonic,
    Level::Monotonic,
    Level::Bounded(50),
    Level::Bounded(500),
    Level::Primary,
    Level::Eventual,
];
/// Of these sessions, the ones that seldom write: what they read and take over is not hidden behind marks of their own.
const READERS: [usize; 5] = [1, 3, 5, 6, 7];
/// The ones that several tasks use at once.
const SHARED: [usize; 2] = [2, 4];
const TASKS_OF_SHARED: usize = 3;

/// What all sessions of the process share.
#[derive(Debug)]
struct Company {
    casting: Casting,
    client: Mutex<Client>,
    codec: TokenCodec,
    /// Keys that are known of sessions elsewhere, too.
    known: Mutex<Shelf>,
    tokens: Mutex<Vec<Passed>>,
    histories: Mutex<Vec<String>>,
    words: mpsc::Sender<Word>,
    numbers: AtomicU64,
    stop: AtomicBool,
}

/// How far a task is.
#[derive(Debug, Default)]
struct Pulse {
    /// When the last read began that has been answered, and the last write.
    read: AtomicU64,
    write: AtomicU64,
}

impl Company {
    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that nobody else in the round has.
    fn number(&self) -> u64 {
        self.casting.process << 40 | self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs the process to its end.
pub(crate) async fn main() -> Result<(), Error> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let line = orders.next_line().await?.ok_or("no casting")?;
    let casting: Casting = serde_json::from_str(&line)?;
    let (words, mut heard) = mpsc::channel::<Word>(WORDS);
    let writer = tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(word) = heard.recv().await {
            let mut line = serde_json::to_vec(&word)?;
            line.push(b'\n');
            output.write_all(&line).await?;
            output.flush().await?;
        }
        Ok::<_, Error>(())
    });
    let setting = casting.client.clone();
    let company = Arc::new(Company {
        client: Mutex::new(client::connect(&setting).await?),
        codec: TokenCodec::signed(SigningKey::new("a secret that all processes know")?),
        known: Mutex::default(),
        tokens: Mutex::default(),
        histories: Mutex::default(),
        words,
        numbers: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        casting,
    });
    company.words.send(Word::Ready).await?;

    let mut people = JoinSet::new();
    let mut pulses = Vec::new();
    for (place, level) in LEVELS.into_iter().enumerate() {
        let shared = SHARED.contains(&place);
        let tasks = if shared { TASKS_OF_SHARED } else { 1 };
        let reader = READERS.contains(&place);
        for person in Person::crowd(&company, level, reader, tasks) {
            pulses.push(person.pulse());
            people.spawn(person.run());
        }
    }
    let orderly = obey(&mut orders, &company, &setting, &pulses).await?;
    company.stop.store(true, Ordering::Relaxed);
    if !orderly {
        // Nobody is there any more to whom anything could be told.
        return Ok(());
    }
    while let Some(operations) = people.join_next().await {
        for piece in operations?.chunks(PIECE) {
            company.words.send(Word::Did(piece.to_vec())).await?;
        }
    }
    let histories = std::mem::take(&mut *company.histories.lock().unwrap_or_else(PoisonError::into_inner));
    company.words.send(Word::Histories(histories)).await?;
    drop(company);
    writer.await??;
    Ok(())
}

/// Does what it is told. False when nobody tells anything any more.
async fn obey(
    orders: &mut Lines<BufReader<Stdin>>,
    company: &Arc<Company>,
    setting: &ClientSetting,
    pulses: &[Arc<Pulse>],
) -> Result<bool, Error> {
    let mut syncs = JoinSet::new();
    while let Some(line) = orders.next_line().await? {
        match serde_json::from_str::<Order>(&line)? {
            Order::Token(passed) => {
                let mut tokens = company.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                if tokens.len() < TOKENS {
                    tokens.push(passed);
                }
            }
            Order::Sync { number, writes } => {
                let (words, pulses) = (company.words.clone(), pulses.to_vec());
                syncs.spawn(async move {
                    all_since(clock::now(), writes, &pulses).await;
                    // The conductor may have given up.
                    let _ = words.send(Word::Synced(number)).await;
                });
            }
            Order::Rebuild => {
                // Connects in the background: what is asked before waits, or is refused.
                let client = client::builder(setting).connect_lazy()?;
                let old = std::mem::replace(
                    &mut *company.client.lock().unwrap_or_else(PoisonError::into_inner),
                    client,
                );
                drop(old);
            }
            Order::Finish => return Ok(true),
        }
    }
    Ok(false)
}

async fn all_since(start: Nanos, writes: bool, pulses: &[Arc<Pulse>]) {
    let since = |pulse: &Pulse| {
        pulse.read.load(Ordering::Relaxed) >= start
            && (!writes || pulse.write.load(Ordering::Relaxed) >= start)
    };
    while !pulses.iter().all(|pulse| since(pulse)) {
        sleep(Duration::from_millis(2)).await;
    }
}
