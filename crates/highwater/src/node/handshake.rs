//! The first words on a connection: RESP3, who we are, which database, tracking, and the first sample.

use std::future::poll_fn;

use highwater_core::Progress;
use redis::{Cmd, Value, cmd};

use super::{
    Settings,
    address::Address,
    lost::{Fate, Identity},
    reply::Parser,
    stream::{self, ReadBuffer, ReadHalf, WriteHalf},
};
use crate::error::{Error, ErrorKind};

/// A connection that is ready for requests.
pub(super) struct Opened {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
    pub(super) buffer: ReadBuffer,
    pub(super) identity: Identity,
    /// What became of the lost connections that were asked after.
    pub(super) fates: Vec<(Identity, Fate)>,
    /// Taken after that.
    pub(super) progress: Progress,
}

/// What a server must allow for proofs.
const MINIMAL_ACL: &str =
    "+info +client|tracking +client|kill +hello +select +command, besides the commands that you use";

/// Opens and introduces a connection.
pub(super) async fn open(
    address: &Address,
    settings: &Settings,
    lost: Vec<Identity>,
) -> Result<Opened, Error> {
    let (read, write) = stream::open(&address.place).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("can't connect to {address}")).with_source(error)
    })?;
    let mut talk = Talk {
        read,
        write,
        buffer: ReadBuffer::new(),
    };

    let hello = talk.ask(&hello(address, settings)).await?;
    let hello = accepted(hello).map_err(|refusal| refused_hello(address, &refusal))?;
    match field(&hello, "mode").and_then(bytes) {
        Some(b"cluster") => {
            let message = format!("{address} runs in cluster mode, which highwater does not support yet");
            return Err(Error::new(ErrorKind::Config, message));
        }
        Some(b"sentinel") => {
            let message = format!("{address} is a sentinel, not a data node");
            return Err(Error::new(ErrorKind::Config, message));
        }
        _ => {}
    }
    if address.database != 0 {
        let selected = talk.ask(cmd("SELECT").arg(address.database)).await?;
        accepted(selected).map_err(|refusal| refused(address, "SELECT", &refusal))?;
    }
    // Null pushes void proofs (law 3 b); OPTIN tracks no key by itself.
    let tracking = talk
        .ask(cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN"))
        .await?;
    accepted(tracking).map_err(|refusal| refused(address, "CLIENT TRACKING", &refusal))?;
    let identity = Identity {
        process: run_id(&talk.ask(cmd("INFO").arg("server")).await?),
        client: match field(&hello, "id") {
            Some(Value::Int(id)) => *id,
            _ => -1,
        },
    };
    let fates = talk.fates(lost, &identity).await?;
    let info = talk.ask(cmd("INFO").arg("replication")).await?;
    let info = accepted(info).map_err(|refusal| refused(address, "INFO", &refusal))?;
    let text = bytes(&info).unwrap_or_default();
    let progress = Progress::scan(text).map_err(|error| {
        Error::new(
            ErrorKind::Protocol,
            format!("{address} does not say how it replicates"),
        )
        .with_source(error)
    })?;
    Ok(Opened {
        read: talk.read,
        write: talk.write,
        buffer: talk.buffer,
        identity,
        fates,
        progress,
    })
}

fn hello(address: &Address, settings: &Settings) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(password) = &address.password {
        hello
            .arg("AUTH")
            .arg(address.username.as_deref().unwrap_or("default"))
            .arg(password);
    }
    if let Some(name) = &settings.client_name {
        hello.arg("SETNAME").arg(name);
    }
    hello
}

struct Talk {
    read: ReadHalf,
    write: WriteHalf,
    buffer: ReadBuffer,
}

impl Talk {
    /// Sends one command and waits for its reply, past pushes.
    async fn ask(&mut self, command: &Cmd) -> Result<Value, Error> {
        let packed = command.get_packed_command();
        let mut rest = &packed[..];
        while !rest.is_empty() {
            let lost = |error| super::connection::lost_while("writing its first commands", error);
            poll_fn(|context| self.write.poll_ready(context))
                .await
                .map_err(lost)?;
            match self.write.try_write(rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error)),
            }
        }
        let mut parser = Parser::default();
        loop {
            let mut at = 0;
            let parsed = parser.next(self.buffer.unread(), &mut at);
            self.buffer.consume(at);
            match parsed? {
                Some(Value::Push { .. }) => continue,
                Some(value) => return Ok(value),
                None => {}
            }
            let lost = |error| super::connection::lost_while("reading its first replies", error);
            let len = poll_fn(|context| self.read.poll_read(context, self.buffer.space()))
                .await
                .map_err(lost)?;
            if len == 0 {
                return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.buffer.filled(len);
        }
    }
}

impl Talk {
    /// Makes sure that lost connections deliver nothing more, as far as we may.
    async fn fates(&mut self, lost: Vec<Identity>, here: &Identity) -> Result<Vec<(Identity, Fate)>, Error> {
        let mut fates = Vec::with_capacity(lost.len());
        for connection in lost {
            let fate = match (&connection.process, &here.process) {
                // The process that had it is no more.
                (Some(there), Some(here)) if there != here => Fate::Gone,
                (Some(_), Some(_)) => {
                    let kill = self
                        .ask(cmd("CLIENT").arg("KILL").arg("ID").arg(connection.client))
                        .await?;
                    // 0 says that it had gone by itself.
                    if matches!(kill, Value::Int(_)) {
                        Fate::Gone
                    } else {
                        Fate::KillRefused
                    }
                }
                // Without knowing the process, the number may be somebody else's.
                _ => Fate::KillRefused,
            };
            fates.push((connection, fate));
        }
        Ok(fates)
    }
}

fn accepted(value: Value) -> Result<Value, redis::ServerError> {
    match value {
        Value::ServerError(error) => Err(error),
        value => Ok(value),
    }
}

fn refused_hello(address: &Address, refusal: &redis::ServerError) -> Error {
    match refusal.code() {
        "WRONGPASS" => Error::new(
            ErrorKind::Config,
            format!("{address} refuses the user name or the password in the URL"),
        ),
        "NOAUTH" => Error::new(
            ErrorKind::Config,
            format!("{address} asks for a password: put it into the URL, redis://user:password@host:port"),
        ),
        "LOADING" | "MASTERDOWN" | "BUSY" => Error::new(
            ErrorKind::Unavailable,
            format!("{address} is not ready: {refusal}"),
        ),
        // Only the code: a server that does not know HELLO repeats its arguments, the password among them.
        code => Error::new(
            ErrorKind::Config,
            format!("{address} does not speak RESP3 (HELLO 3: {code}); Redis 6 or later is needed"),
        ),
    }
}

fn refused(address: &Address, what: &str, refusal: &redis::ServerError) -> Error {
    let (kind, advice) = match refusal.code() {
        "NOPERM" => (
            ErrorKind::Config,
            format!("; the user needs at least: {MINIMAL_ACL}"),
        ),
        "LOADING" | "MASTERDOWN" | "BUSY" => (ErrorKind::Unavailable, String::new()),
        _ => (ErrorKind::Config, String::new()),
    };
    Error::new(kind, format!("{address} refuses {what}: {refusal}{advice}"))
}

/// A field of HELLO's reply.
fn field<'a>(hello: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = hello else { return None };
    pairs
        .iter()
        .find(|(key, _)| bytes(key) == Some(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The bytes of a string, of whatever kind.
fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

/// The server process's name for itself.
fn run_id(info: &Value) -> Option<String> {
    let text = std::str::from_utf8(bytes(info)?).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    Some(id.to_owned()).filter(|id| !id.is_empty())
}
