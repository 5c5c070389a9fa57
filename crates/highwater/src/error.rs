//! Errors of the client.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use redis::RedisError;

/// What went wrong, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client was configured wrongly: a URL, a bound, a role, a right that is missing.
    Config,
    /// No node could be asked. Nothing has been sent: trying again is safe.
    Unavailable,
    /// Too much is in flight already. Nothing has been sent.
    Overloaded,
    /// The connection was lost or silent after a read had been sent.
    Disconnected,
    /// The outcome of a write is not known: it may have happened, or may still happen. Repeating it
    /// can apply it twice. The session remembers the doubt.
    InDoubt,
    /// A write of the session may have been lost in a failover, and the policy is to fail the read.
    PossiblyLost,
    /// The primary does not know a history that the session depends on, and the policy is to fail
    /// the read.
    UnknownHistory,
    /// The command is not possible on a shared connection.
    Unsupported,
    /// The server answered with an error.
    Server,
    /// The server sent what no server should.
    Protocol,
}

/// An error of the client. Its message says what to do next; it holds no keys, values or secrets
/// but what the server itself wrote into an error reply.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    reply: Option<RedisError>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
            reply: None,
        }))
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        let Inner {
            kind, message, reply, ..
        } = &*self.0;
        Self(Arc::new(Inner {
            kind: *kind,
            message: message.clone(),
            source: Some(Arc::new(source)),
            reply: reply.clone(),
        }))
    }

    /// An error reply of the server.
    pub(crate) fn reply(error: redis::ServerError) -> Self {
        let reply = RedisError::from(error);
        Self(Arc::new(Inner {
            kind: ErrorKind::Server,
            message: format!("the server answered with an error: {reply}"),
            source: None,
            reply: Some(reply),
        }))
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
    /// a write in doubt.
    fn from(error: Error) -> Self {
        if let Some(reply) = &error.0.reply {
            return reply.clone();
        }
        let kind = match error.kind() {
            // redis-rs says "reconnect" for these, "don't retry" for the rest.
            ErrorKind::Unavailable => io::ErrorKind::NotConnected,
            ErrorKind::Disconnected => io::ErrorKind::ConnectionReset,
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
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
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
    fn keeps_its_kind_through_redis_rs() {
        for kind in [
            ErrorKind::InDoubt,
            ErrorKind::Unavailable,
            ErrorKind::Config,
            ErrorKind::Protocol,
        ] {
            let crossed = RedisError::from(Error::new(kind, "what happened"));
            assert_eq!(Error::of(&crossed).map(Error::kind), Some(kind));
            assert!(crossed.to_string().contains("what happened"));
        }
    }

    #[test]
    fn never_invites_to_repeat_a_write_in_doubt() {
        let crossed = RedisError::from(Error::new(ErrorKind::InDoubt, "x"));
        assert!(matches!(crossed.retry_method(), RetryMethod::NoRetry));
        assert!(!crossed.is_connection_dropped() && !crossed.is_timeout());
    }
}
