//! Errors of the client.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use redis::RedisError;

use highwater_core::Reason;

use crate::route::Reply;

/// What went wrong, for callers that decide by it, and what to do about it.
///
/// | kind | did it happen? | repeat it? |
/// | --- | --- | --- |
/// | [`Config`](Self::Config), [`Unsupported`](Self::Unsupported) | no | no: correct it |
/// | [`Unavailable`](Self::Unavailable), [`Overloaded`](Self::Overloaded) | no | yes, after a pause |
/// | [`Closed`](Self::Closed) | no | not with this client |
/// | [`Disconnected`](Self::Disconnected), [`Timeout`](Self::Timeout) | a read, so no matter | yes |
/// | [`InDoubt`](Self::InDoubt) | perhaps, or it still may | only if that does no harm |
/// | [`TooFewAcks`](Self::TooFewAcks) | yes, at the primary | only if that does no harm |
/// | [`PossiblyLost`](Self::PossiblyLost), [`UnknownHistory`](Self::UnknownHistory) | a read, refused by policy | see there |
/// | [`Server`](Self::Server) | the server says | as the server's error says |
/// | [`Protocol`](Self::Protocol) | a read, so no matter | no |
/// | [`Layer`](Self::Layer) | only the layer knows | as the layer's error says |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client was configured wrongly: a URL, a bound, a role, a right that is missing. Correct what
    /// the message names; repeating does not help.
    Config,
    /// No node could be asked, or none that proves to be the primary. The command did not happen: try
    /// again after a pause. If it lasts, `client.status()` shows which node is missing and why.
    Unavailable,
    /// Too much is in flight already. Nothing has been sent: slow down, or raise the bound.
    Overloaded,
    /// The connection was lost or silent after a read had been sent: try again, another node may answer.
    /// Writes are [`InDoubt`](Self::InDoubt) instead.
    Disconnected,
    /// A timeout layer gave up on a read: try again, or allow more time. Writes are
    /// [`InDoubt`](Self::InDoubt) instead.
    Timeout,
    /// The outcome of a write is not known: it may have happened, or may still happen. Repeating it
    /// can apply it twice: do so only where that does no harm (`SET` of the same value), or read first
    /// what it would have changed. The session remembers the doubt.
    InDoubt,
    /// A write was applied at the primary, and fewer replicas have acknowledged it in time than [`Acks`](crate::Acks) asks
    /// for, or it is not known how many. Don't repeat it, unless that does no harm: it has happened, replicas may yet get it, and the
    /// session depends on it. It
    /// is lost only if the primary fails before that; then the session is told. [`Error::applied`] has the reply.
    TooFewAcks,
    /// A write of the session may have been lost in a failover, and the policy is to fail the read. Check
    /// what the user wrote last, and tell them; the session's next read is answered.
    PossiblyLost,
    /// The primary does not know a history that the session depends on, and the policy is to fail
    /// the read. If the data were dropped on purpose, begin a new session; otherwise look which server is
    /// the primary.
    UnknownHistory,
    /// The client has been shut down. What is refused with this did not happen: make another client.
    Closed,
    /// The command is not possible on this connection: use [`Client::dedicated`](crate::Client::dedicated),
    /// or, for what that refuses as well, a plain redis-rs connection.
    Unsupported,
    /// The server answered with an error: [`Error::server_error`] has it.
    Server,
    /// The server sent what no server should. Check what listens at the address; if it is a Redis or
    /// Valkey server, please report it.
    Protocol,
    /// A layer that was given to the builder failed with an error of its own: it is the
    /// [`source`](std::error::Error::source). Whether a write had been passed on, only the layer knows; if it
    /// had, the session is in doubt until its connection settles it.
    Layer,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Config,
        Self::Unavailable,
        Self::Overloaded,
        Self::Disconnected,
        Self::Timeout,
        Self::InDoubt,
        Self::TooFewAcks,
        Self::PossiblyLost,
        Self::UnknownHistory,
        Self::Closed,
        Self::Unsupported,
        Self::Server,
        Self::Protocol,
        Self::Layer,
    ];

    /// What to do next, as the messages of errors of this kind end.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Config => "correct the configuration; repeating does not help",
            Self::Unavailable => {
                "it did not happen: try again after a pause, and see client.status() if it lasts"
            }
            Self::Overloaded => "nothing was sent: slow down, or raise the bound",
            Self::Disconnected => "it was a read: try again, another node may answer",
            Self::Timeout => "it was a read: try again, or allow more time",
            Self::InDoubt => "it may have happened, or still may: repeat it only if that does no harm",
            Self::TooFewAcks => {
                "it has happened: don't repeat it; it is safe once replicas have it, and lost if the primary fails before"
            }
            Self::PossiblyLost => "check what the user wrote last; the session's next read is answered",
            Self::UnknownHistory => {
                "begin a new session if the data were dropped on purpose, or look which server is the primary"
            }
            Self::Closed => "it did not happen: make another client, if this process is to go on",
            Self::Unsupported => {
                "use client.dedicated(&session) for it, or a plain redis-rs connection if that refuses it too"
            }
            Self::Server => "see what the server says",
            Self::Protocol => {
                "check what listens at the address, and report it if it is a Redis or Valkey server"
            }
            Self::Layer => {
                "see the layer's own error; a write may have happened if the layer had passed it on"
            }
        }
    }
}

/// An error of the client. Its message ends with what to do next ([`ErrorKind::advice`]); it holds no keys, values or secrets
/// but what the server itself wrote into an error reply.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    reply: Option<RedisError>,
    reason: Option<Reason>,
    applied: Option<Reply>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
            reply: None,
            reason: None,
            applied: None,
        }))
    }

    /// Too few acknowledgements for a write that has this reply.
    pub(crate) fn too_few_acks(message: String, applied: Option<Reply>, source: Option<Self>) -> Self {
        let withheld = source.as_ref().and_then(|source| match source.kind() {
            ErrorKind::PossiblyLost => Some(Reason::PossiblyLost),
            ErrorKind::UnknownHistory => Some(Reason::UnknownHistory),
            _ => None,
        });
        let reason = applied.as_ref().map(|reply| reply.reason).or(withheld);
        Self(Arc::new(Inner {
            kind: ErrorKind::TooFewAcks,
            message,
            source: source.map(|source| Arc::new(source) as Arc<dyn StdError + Send + Sync>),
            reply: None,
            reason,
            applied,
        }))
    }

    /// What happened, without what to do next.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with_shared_source(Arc::new(source))
    }

    pub(crate) fn with_shared_source(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source);
        self
    }

    /// An error reply of the server.
    pub(crate) fn reply(error: redis::ServerError) -> Self {
        let reply = RedisError::from(error);
        Self(Arc::new(Inner {
            kind: ErrorKind::Server,
            message: format!("the server answered with an error: {reply}"),
            source: None,
            reply: Some(reply),
            reason: None,
            applied: None,
        }))
    }

    /// Why the reply that this stands for came from where it came from.
    pub(crate) fn with_reason(mut self, reason: Reason) -> Self {
        Arc::make_mut(&mut self.0).reason = Some(reason);
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's own error, when [`ErrorKind::Server`].
    #[must_use]
    pub fn server_error(&self) -> Option<&RedisError> {
        self.0.reply.as_ref()
    }

    /// Why a server's error reply came from the node that it came from, as [`Reply::reason`] says of a value: so whether the
    /// session's marks could not be honoured ([`Reason::PossiblyLost`], which is said once, and
    /// [`Reason::UnknownHistory`]). Also where a pipeline has failed after one of its replies had shown that, and with
    /// [`ErrorKind::TooFewAcks`]. Through redis-rs's own error, as through redis-rs's values, only
    /// [`Session::continuity`](crate::Session::continuity) says so.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The reply to a write that was applied, when [`ErrorKind::TooFewAcks`]: what the server answered, and in
    /// [`Reply::acks`] how many have acknowledged it, if that is known. `None` also when a policy withholds what the unit
    /// has read.
    #[must_use]
    pub fn applied(&self) -> Option<&Reply> {
        self.0.applied.as_ref()
    }

    /// The highwater error inside a redis-rs error that a connection of this crate returned, if any.
    ///
    /// ```
    /// # async fn f(mut connection: impl redis::AsyncCommands + Send) {
    /// let outcome: redis::RedisResult<()> = connection.set("key", "value").await;
    /// if let Err(error) = outcome {
    ///     if let Some(error) = highwater::Error::of(&error) {
    ///         println!("kind {:?}: {error}", error.kind());
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn of(error: &RedisError) -> Option<&Self> {
        // redis-rs keeps the error behind an `Arc`, which is an error of its own.
        let shared = error
            .source()?
            .downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
        shared
            .downcast_ref::<io::Error>()?
            .get_ref()?
            .downcast_ref::<Self>()
    }
}

impl From<Error> for RedisError {
    /// Keeps the kind ([`Error::of`]). What redis-rs would call a retry hint never invites to repeat
    /// a write in doubt, or one that has happened.
    fn from(error: Error) -> Self {
        if let Some(reply) = &error.0.reply {
            return reply.clone();
        }
        let kind = match error.kind() {
            // redis-rs says "reconnect" for these, "don't retry" for the rest.
            ErrorKind::Unavailable => io::ErrorKind::NotConnected,
            ErrorKind::Disconnected => io::ErrorKind::ConnectionReset,
            // Of reads only: "retry".
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error).into()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_what_happened(f)?;
        write!(f, "; {}", self.0.kind.advice())
    }
}

impl Error {
    /// The message with its sources, without the advice: one piece of that is enough.
    fn fmt_what_happened(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let Some(source) = &self.0.source else {
            return Ok(());
        };
        f.write_str(": ")?;
        match source.downcast_ref::<Self>() {
            Some(own) => own.fmt_what_happened(f),
            None => write!(f, "{source}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::RetryMethod;

    #[test]
    fn every_kind_is_kept_through_redis_rs() {
        for kind in ErrorKind::ALL {
            let crossed = RedisError::from(Error::new(kind, "what happened"));
            assert_eq!(Error::of(&crossed).map(Error::kind), Some(kind));
            assert!(crossed.to_string().contains("what happened"));
        }
    }

    #[test]
    fn only_what_did_not_happen_and_reads_invite_to_be_repeated() {
        for kind in ErrorKind::ALL {
            let crossed = RedisError::from(Error::new(kind, "x"));
            let safe = [
                ErrorKind::Unavailable,
                ErrorKind::Disconnected,
                ErrorKind::Timeout,
            ]
            .contains(&kind);
            assert_eq!(
                !matches!(crossed.retry_method(), RetryMethod::NoRetry),
                safe,
                "{kind:?}"
            );
            if !safe {
                assert!(
                    !crossed.is_connection_dropped() && !crossed.is_timeout(),
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn every_message_ends_with_what_to_do_next_said_once() {
        for kind in ErrorKind::ALL {
            let advice = kind.advice();
            let lost = Error::new(ErrorKind::Disconnected, "the connection was lost")
                .with_source(io::Error::other("reset"));
            let message = Error::new(kind, "what happened").with_source(lost).to_string();
            assert_eq!(
                message,
                format!("what happened: the connection was lost: reset; {advice}")
            );
            assert!(advice.len() > 15 && !advice.ends_with('.'), "{advice}");
        }
    }
}
