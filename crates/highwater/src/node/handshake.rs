//! The first words on a connection: the protocol, who we are, which database, what we may do there, and
//! the first sample.
//!
//! What a server refuses changes what is relied on, and nothing silently: proofs take their other form
//! where tracking is refused, lost writes wait out their grace time where `CLIENT KILL` is, and without
//! `INFO` there is no proof, so that is an error.

use std::io;

use highwater_core::{Progress, Role};
use redis::{Cmd, ProtocolVersion, ServerError, Value, cmd};

use super::{
    Settings,
    address::Address,
    line::Line,
    lost::{Fate, Identity},
    stream::{ReadBuffer, ReadHalf, WriteHalf},
};
use crate::error::{Error, ErrorKind};

/// The rights that a user needs for all that highwater does by itself, as `ACL SETUSER` takes them;
/// besides the keys and commands that the application uses.
///
/// * `INFO`: proofs. Refused, connecting fails, unless
///   [`primary_only_without_proofs`](crate::ClientBuilder::primary_only_without_proofs) is chosen.
/// * `CLIENT TRACKING`: the cheaper form of proofs. Refused, reads on replicas travel between `MULTI` and
///   `EXEC`, which then have to be allowed.
/// * `CLIENT KILL`: settles writes of a lost connection at once. Refused, a grace time does
///   ([`doubt_grace`](crate::ClientBuilder::doubt_grace)).
/// * `COMMAND`: what the server's commands do. Refused, a table of the usual commands serves, and what is
///   not in it goes to the primary.
/// * `HELLO`: RESP3. Needed where connections begin as a user without it; refused, RESP2 is spoken.
/// * `SELECT`: databases other than 0.
///
/// Writes with [`Acks`](crate::Acks) need `+wait` besides, and `+waitaof` for what is to be on disk.
pub const MINIMAL_ACL: &str = "+info +client|tracking +client|kill +command +hello +select";

/// An ID that no connection has: to see whether `CLIENT KILL` is allowed, without killing any.
const NOBODY: i64 = i64::MAX;
/// So many lost connections are closed in one round trip.
const KILLS_AT_ONCE: usize = 512;

/// A connection that is ready for requests.
pub(super) struct Opened {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
    pub(super) buffer: ReadBuffer,
    pub(super) identity: Identity,
    /// What became of the lost connections that were asked after.
    pub(super) fates: Vec<(Identity, Fate)>,
    /// Taken after that; `None` where no proofs are wanted.
    pub(super) progress: Option<Progress>,
    pub(super) manners: Manners,
    /// The reply to COMMAND, where it was wanted and given.
    pub(super) table: Option<Value>,
    /// What is refused, and what that means.
    pub(super) warnings: Vec<String>,
    /// Fields of hashes can have a time to live here; asked for the near cache only.
    pub(super) field_ttls: bool,
    /// Why `WAITAOF` can't be asked, where acknowledgements are to be waited for.
    pub(super) no_aof: Option<Error>,
}

/// How a connection is spoken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) resp3: bool,
    /// Tracking is on, so that a null push says that the data were replaced (law 3 b).
    pub(crate) tracking: bool,
}

/// What a new connection is to find out.
pub(super) struct Questions {
    pub(super) role: Role,
    /// Connections with writes that are to be settled.
    pub(super) lost: Vec<Identity>,
    /// The table of commands is not known yet.
    pub(super) table: bool,
    /// What the server refuses is to be found out.
    pub(super) rights: bool,
    /// Reads are to have their keys tracked, for the near cache.
    pub(super) feed: bool,
    /// Acknowledgements are to be waited for.
    pub(super) acks: bool,
}

/// Opens and introduces a connection.
pub(super) async fn open(
    address: &Address,
    settings: &Settings,
    questions: Questions,
) -> Result<Opened, Error> {
    let line = Line::to_node(&address.place)
        .await
        .map_err(|error| can_not_connect(address, error))?;
    let mut talk = Talk {
        line,
        address,
        warnings: Vec::new(),
    };
    let Greeting {
        resp3,
        client,
        mut mode,
    } = talk.greet(settings).await?;
    if address.database != 0 {
        let selected = talk.ask(cmd("SELECT").arg(address.database)).await?;
        accepted(selected).map_err(|refusal| refused(address, "SELECT", &refusal))?;
    }
    let mut identity = Identity {
        process: None,
        client,
    };
    let (mut fates, mut progress, mut tracking) = (Vec::new(), None, false);
    let mut field_ttls = false;
    if questions.feed {
        field_ttls = talk.follow(resp3).await?;
        tracking = true;
    }
    if settings.proofs {
        tracking = tracking || (resp3 && talk.track().await?);
        let server = talk.ask(cmd("INFO").arg("server")).await?;
        identity.process = info_field(&server, "run_id");
        mode = mode
            .or_else(|| info_field(&server, "redis_mode"))
            .or_else(|| info_field(&server, "server_mode"));
        fates = talk.fates(questions.lost, &identity).await?;
        match questions.role {
            _ if !questions.rights => {}
            Role::Primary => talk.may_kill().await?,
            Role::Replica if !tracking => talk.may_enclose().await?,
            Role::Replica => {}
        }
        progress = Some(talk.sample().await?);
    }
    match mode.as_deref() {
        Some("cluster") => {
            let message = format!("{address} runs in cluster mode, which highwater does not support yet");
            return Err(Error::new(ErrorKind::Config, message));
        }
        Some("sentinel") => {
            let message = format!("{address} is a sentinel, not a data node");
            return Err(Error::new(ErrorKind::Config, message));
        }
        _ => {}
    }
    let no_aof = if questions.acks {
        talk.may_wait().await?
    } else {
        None
    };
    let table = if questions.table {
        talk.table().await?
    } else {
        None
    };
    let (read, write, buffer) = talk.line.into_parts();
    Ok(Opened {
        read,
        write,
        buffer,
        identity,
        fates,
        progress,
        manners: Manners { resp3, tracking },
        table,
        warnings: talk.warnings,
        field_ttls,
        no_aof,
    })
}

/// What the first exchange has told.
struct Greeting {
    resp3: bool,
    client: i64,
    mode: Option<String>,
}

struct Talk<'a> {
    line: Line,
    address: &'a Address,
    warnings: Vec<String>,
}

impl Talk<'_> {
    /// Says which protocol is spoken, and who we are.
    async fn greet(&mut self, settings: &Settings) -> Result<Greeting, Error> {
        let address = self.address;
        let protocol = address.protocol.or(settings.protocol);
        if protocol != Some(ProtocolVersion::RESP2) {
            let hello = self
                .ask(&hello(address, settings))
                .await
                .map_err(|error| at_first(address, error))?;
            match accepted(hello) {
                Ok(hello) => {
                    return Ok(Greeting {
                        resp3: true,
                        client: number(field(&hello, "id")),
                        mode: field(&hello, "mode")
                            .and_then(bytes)
                            .map(|mode| String::from_utf8_lossy(mode).into_owned()),
                    });
                }
                Err(refusal) if protocol.is_none() && knows_no_hello(&refusal) => {
                    self.warn("HELLO 3 is refused: RESP2 is spoken, which costs a MULTI around each read");
                }
                Err(refusal) => return Err(refused_hello(address, &refusal)),
            }
        }
        if let Some(password) = &address.password {
            let mut auth = cmd("AUTH");
            if let Some(username) = &address.username {
                auth.arg(username);
            }
            let answer = self
                .ask(auth.arg(password))
                .await
                .map_err(|error| at_first(address, error))?;
            accepted(answer).map_err(|refusal| refused_auth(address, &refusal))?;
        }
        if let Some(name) = &settings.client_name {
            let named = self
                .ask(cmd("CLIENT").arg("SETNAME").arg(name))
                .await
                .map_err(|error| at_first(address, error))?;
            // The name is for people only; who may not give one goes without.
            if let Err(refusal) = accepted(named)
                && refusal.code() == "NOAUTH"
            {
                return Err(refused(address, "CLIENT SETNAME", &refusal));
            }
        }
        let client = self.ask(cmd("CLIENT").arg("ID")).await?;
        if let Value::ServerError(refusal) = &client
            && refusal.code() == "NOAUTH"
        {
            return Err(refused(address, "CLIENT ID", refusal));
        }
        Ok(Greeting {
            resp3: false,
            client: number(Some(&client)),
            mode: None,
        })
    }

    /// Turns tracking on, for its null pushes, which void proofs (law 3 b); OPTIN tracks no key by itself.
    /// False when that is refused.
    async fn track(&mut self) -> Result<bool, Error> {
        let tracking = self
            .ask(cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN"))
            .await?;
        match accepted(tracking) {
            Ok(_) => Ok(true),
            Err(refusal) if is_passing(&refusal) => Err(refused(self.address, "CLIENT TRACKING", &refusal)),
            Err(refusal) => {
                self.warn(&format!(
                    "CLIENT TRACKING is refused ({refusal}): each read on a replica travels in a MULTI of its own; \
                     allow +client|tracking"
                ));
                Ok(false)
            }
        }
    }

    /// Turns tracking on for the near cache: the keys of all reads are tracked. Says whether fields of hashes can
    /// have a time to live, which no invalidation tells of.
    async fn follow(&mut self, resp3: bool) -> Result<bool, Error> {
        let address = self.address;
        let off = |why: String| {
            let message = format!("{address} can't feed the near cache: {why}");
            Error::new(ErrorKind::Config, message)
        };
        if !resp3 {
            return Err(off("invalidations need RESP3".to_owned()));
        }
        let tracking = self.ask(cmd("CLIENT").arg("TRACKING").arg("ON")).await?;
        if let Err(refusal) = accepted(tracking) {
            if is_passing(&refusal) {
                return Err(refused(address, "CLIENT TRACKING", &refusal));
            }
            return Err(off(format!(
                "CLIENT TRACKING is refused ({refusal}); allow +client|tracking"
            )));
        }
        // A key that the user may not touch is refused by another word.
        let ttl = self.ask(cmd("PTTL").arg("highwater")).await?;
        if let Err(refusal) = accepted(ttl)
            && refusal
                .details()
                .is_some_and(|details| details.contains("permissions to run"))
        {
            return Err(off(format!("PTTL is refused ({refusal}); allow +pttl")));
        }
        let known = self.ask(cmd("COMMAND").arg("INFO").arg("HPEXPIRE")).await?;
        Ok(match accepted(known) {
            Ok(Value::Array(known)) => known.iter().any(|command| !matches!(command, Value::Nil)),
            _ => true,
        })
    }

    /// Where the node is.
    async fn sample(&mut self) -> Result<Progress, Error> {
        let address = self.address;
        let info = self.ask(cmd("INFO").arg("replication")).await?;
        let info = accepted(info).map_err(|refusal| refused(address, "INFO", &refusal))?;
        Progress::scan(bytes(&info).unwrap_or_default()).map_err(|error| {
            let message = format!("{address} does not say how it replicates");
            Error::new(ErrorKind::Protocol, message).with_source(error)
        })
    }

    /// Makes sure that proofs between MULTI and EXEC are possible (law 3 a).
    async fn may_enclose(&mut self) -> Result<(), Error> {
        for command in [
            cmd("MULTI"),
            cmd("INFO").arg("replication").to_owned(),
            cmd("EXEC"),
        ] {
            let reply = self.ask(&command).await?;
            if let Err(refusal) = accepted(reply) {
                let what = "MULTI, INFO and EXEC, which proofs need without CLIENT TRACKING";
                return Err(refused(self.address, what, &refusal));
            }
        }
        Ok(())
    }

    /// Notes whether lost connections can be closed at the server.
    async fn may_kill(&mut self) -> Result<(), Error> {
        let answer = self.ask(cmd("CLIENT").arg("KILL").arg("ID").arg(NOBODY)).await?;
        if let Err(refusal) = accepted(answer) {
            if is_passing(&refusal) {
                return Err(refused(self.address, "CLIENT KILL", &refusal));
            }
            self.warn(&format!(
                "CLIENT KILL is refused ({refusal}): writes of a lost connection stay in doubt for the grace time; \
                 allow +client|kill"
            ));
        }
        Ok(())
    }

    /// Makes sure that acknowledgements can be waited for, and says why not for those from disk.
    async fn may_wait(&mut self) -> Result<Option<Error>, Error> {
        let address = self.address;
        let refused = |command: &str, needs: &str, refusal: &ServerError| {
            let message = format!("{address} refuses {command}: {refusal}; writes with acks need {needs}");
            Error::new(ErrorKind::Config, message)
        };
        // Nobody has to be waited for.
        if let Err(refusal) = accepted(self.ask(cmd("WAIT").arg(0).arg(1)).await?) {
            if is_passing(&refusal) {
                return Err(self::refused(address, "WAIT", &refusal));
            }
            if refusal
                .details()
                .is_some_and(|details| details.contains("replica"))
            {
                let message = format!("{address} is a replica now, and has nobody's acknowledgements");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            return Err(refused("WAIT", "the right +wait", &refusal));
        }
        match accepted(self.ask(cmd("WAITAOF").arg(0).arg(0).arg(1)).await?) {
            Ok(_) => Ok(None),
            Err(refusal) if is_passing(&refusal) => Err(self::refused(address, "WAITAOF", &refusal)),
            Err(refusal) => {
                let needs = "WAITAOF to know what is on disk: Redis 7.2 or Valkey, and the right +waitaof";
                Ok(Some(refused("WAITAOF", needs, &refusal)))
            }
        }
    }

    /// The server's table of commands.
    async fn table(&mut self) -> Result<Option<Value>, Error> {
        match accepted(self.ask(&cmd("COMMAND")).await?) {
            Ok(table) => Ok(Some(table)),
            Err(refusal) if is_passing(&refusal) => Err(refused(self.address, "COMMAND", &refusal)),
            Err(refusal) => {
                self.warn(&format!(
                    "COMMAND is refused ({refusal}): a built-in table says which commands read, and others go to \
                     the primary; allow +command"
                ));
                Ok(None)
            }
        }
    }

    fn warn(&mut self, what: &str) {
        self.warnings.push(what.to_owned());
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, Error> {
        self.line.ask(command).await
    }

    /// Makes sure that lost connections deliver nothing more, as far as we may.
    async fn fates(&mut self, lost: Vec<Identity>, here: &Identity) -> Result<Vec<(Identity, Fate)>, Error> {
        let mut fates = Vec::with_capacity(lost.len());
        let mut here_still = Vec::new();
        for connection in lost {
            match (&connection.process, &here.process) {
                // The process that had it is no more.
                (Some(there), Some(here)) if there != here => fates.push((connection, Fate::Gone)),
                (Some(_), Some(_)) => here_still.push(connection),
                // Without knowing the process, the number may be somebody else's.
                _ => fates.push((connection, Fate::KillRefused)),
            }
        }
        let mut refused = false;
        for some in here_still.chunks(KILLS_AT_ONCE) {
            // Who may not close one may close none.
            let replies = if refused {
                Vec::new()
            } else {
                let mut kills = redis::pipe();
                for connection in some {
                    kills.cmd("CLIENT").arg("KILL").arg("ID").arg(connection.client);
                }
                self.line
                    .ask_all(&kills.get_packed_pipeline(), some.len())
                    .await?
            };
            for (place, connection) in some.iter().enumerate() {
                // 0 says that it had gone by itself.
                let gone = matches!(replies.get(place), Some(Value::Int(_)));
                refused |= !gone;
                let fate = if gone { Fate::Gone } else { Fate::KillRefused };
                fates.push((connection.clone(), fate));
            }
        }
        Ok(fates)
    }
}

pub(crate) fn accepted(value: Value) -> Result<Value, ServerError> {
    match value {
        Value::ServerError(error) => Err(error),
        value => Ok(value),
    }
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

pub(crate) fn can_not_connect(address: &Address, error: io::Error) -> Error {
    let (kind, advice) = match tls_advice(&error) {
        Some(advice) => (ErrorKind::Config, format!(": {advice}")),
        None => (ErrorKind::Unavailable, String::new()),
    };
    Error::new(kind, format!("can't connect to {address}{advice}")).with_source(error)
}

/// The connection was lost before the first reply: the server may not have liked how we came.
fn at_first(address: &Address, error: Error) -> Error {
    let Some(cause) = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>())
    else {
        return error;
    };
    if let Some(advice) = tls_advice(cause) {
        return Error::new(ErrorKind::Config, format!("can't connect to {address}: {advice}"))
            .with_source(error);
    }
    if matches!(
        cause.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    ) {
        let message = format!(
            "{address} closed the connection at the first word; if it expects TLS there, the URL begins with rediss://"
        );
        return Error::new(ErrorKind::Unavailable, message).with_source(error);
    }
    error
}

#[cfg(feature = "tls")]
fn tls_advice(error: &io::Error) -> Option<&'static str> {
    crate::tls::advice(error)
}

#[cfg(not(feature = "tls"))]
fn tls_advice(_: &io::Error) -> Option<&'static str> {
    None
}

/// True for the refusals of servers and proxies that speak only RESP2, or allow only that.
fn knows_no_hello(refusal: &ServerError) -> bool {
    matches!(refusal.code(), "NOPROTO" | "NOPERM")
        || refusal
            .details()
            .is_some_and(|details| details.to_ascii_lowercase().contains("unknown command"))
}

/// True for refusals that say nothing of what is allowed.
fn is_passing(refusal: &ServerError) -> bool {
    matches!(refusal.code(), "LOADING" | "MASTERDOWN" | "BUSY" | "NOAUTH")
}

fn refused_hello(address: &Address, refusal: &ServerError) -> Error {
    match refusal.code() {
        "WRONGPASS" | "NOAUTH" | "LOADING" | "MASTERDOWN" | "BUSY" => refused(address, "HELLO", refusal),
        // Only the code: a server that does not know HELLO repeats its arguments, the password among them.
        code => Error::new(
            ErrorKind::Config,
            format!(
                "{address} does not speak RESP3 (HELLO 3: {code}); take protocol=resp3 off, or use Redis 6 or later"
            ),
        ),
    }
}

fn refused_auth(address: &Address, refusal: &ServerError) -> Error {
    match refusal.code() {
        "WRONGPASS" | "NOAUTH" | "LOADING" | "MASTERDOWN" | "BUSY" => refused(address, "AUTH", refusal),
        // Only the code, as above.
        code => Error::new(
            ErrorKind::Config,
            format!(
                "{address} refuses AUTH ({code}): take the password out of the URL if the server has none"
            ),
        ),
    }
}

fn refused(address: &Address, what: &str, refusal: &ServerError) -> Error {
    let (kind, message) = match refusal.code() {
        "WRONGPASS" => (
            ErrorKind::Config,
            format!("{address} refuses the user name or the password in the URL"),
        ),
        "NOAUTH" => (
            ErrorKind::Config,
            format!("{address} asks for a password: put it into the URL, redis://user:password@host:port"),
        ),
        "NOPERM" => (
            ErrorKind::Config,
            format!(
                "{address} refuses {what}: {refusal}; besides the commands that you use, the user needs at least \
                 {MINIMAL_ACL} (without client|tracking: +multi +exec)"
            ),
        ),
        "LOADING" | "MASTERDOWN" | "BUSY" => (
            ErrorKind::Unavailable,
            format!("{address} is not ready: {refusal}"),
        ),
        _ => (ErrorKind::Config, format!("{address} refuses {what}: {refusal}")),
    };
    Error::new(kind, message)
}

/// A field of HELLO's reply.
fn field<'a>(hello: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = hello else { return None };
    pairs
        .iter()
        .find(|(key, _)| bytes(key) == Some(name.as_bytes()))
        .map(|(_, value)| value)
}

/// A connection's number; −1 where it is not told.
fn number(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(id)) => *id,
        _ => -1,
    }
}

/// The bytes of a string, of whatever kind.
pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

/// A field of INFO's reply.
fn info_field(info: &Value, name: &str) -> Option<String> {
    let text = std::str::from_utf8(bytes(info)?).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim_end().to_owned()).filter(|value| !value.is_empty())
}
