//! What redis-rs expects of a connection's replies.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::{Either, select};
use redis::{
    Arg, AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, ServerError, Value,
    aio::MultiplexedConnection,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{command::Arguments, error::Error};

/// The arguments of a command; `None` where there are others than are given by their bytes.
pub(crate) fn arguments_of(command: &Cmd) -> Option<impl Arguments<'_>> {
    let simple = |argument| match argument {
        Arg::Simple(argument) => Some(argument),
        _ => None,
    };
    let arguments = command.args_iter().map(simple);
    arguments
        .clone()
        .all(|argument| argument.is_some())
        .then(|| arguments.flatten())
}

/// The outcome of a single command. Error replies are errors already.
pub(crate) fn value_of(command: &Cmd, outcome: Result<Value, Error>) -> Result<Value, RedisError> {
    let value = outcome?;
    // The caller said that they want no reply. It was waited for all the same: it carries the mark.
    Ok(if command.is_no_response() {
        Value::Nil
    } else {
        value
    })
}

/// The outcome of a pipeline: the replies that redis-rs asks for. An empty one is not carried out.
pub(crate) async fn values_of(
    pipeline: &Pipeline,
    offset: usize,
    count: usize,
    carried_out: impl Future<Output = Result<Value, Error>>,
) -> Result<Vec<Value>, RedisError> {
    if let Some(outcome) = of_nothing(pipeline) {
        return outcome;
    }
    asked_for(pipeline, carried_out.await?, offset, count).await
}

/// The outcome of a pipeline that needs no server: an empty one.
fn of_nothing(pipeline: &Pipeline) -> Option<Result<Vec<Value>, RedisError>> {
    if !pipeline.is_empty() {
        return None;
    }
    Some(if pipeline.is_transaction() {
        // What EXEC says when nothing was queued.
        Ok(vec![Value::Array(Vec::new())])
    } else {
        Err((redis::ErrorKind::Client, "empty command").into())
    })
}

/// The replies that redis-rs asks for: all of a pipeline's, or EXEC's alone.
async fn asked_for(
    pipeline: &Pipeline,
    value: Value,
    offset: usize,
    count: usize,
) -> Result<Vec<Value>, RedisError> {
    let Value::Array(mut replies) = value else {
        return Ok(vec![value]);
    };
    let wanted: Vec<Value> = replies.split_off(offset.min(replies.len()));
    if !pipeline.is_transaction() {
        return Ok(wanted.into_iter().take(count).collect());
    }
    if replies.iter().any(|reply| matches!(reply, Value::ServerError(_))) {
        return aborted(pipeline, &replies, &wanted, offset, count).await;
    }
    match wanted.as_slice() {
        // EXEC's own refusal is the outcome of the whole transaction.
        [Value::ServerError(error)] => Err(error.clone().into()),
        _ => Ok(wanted.into_iter().take(count).collect()),
    }
}

/// A transaction of which commands were refused when they were queued. redis-rs has an error that lists
/// them, and no way to make it but to read such replies: so it gets to read them.
async fn aborted(
    pipeline: &Pipeline,
    queued: &[Value],
    executed: &[Value],
    offset: usize,
    count: usize,
) -> Result<Vec<Value>, RedisError> {
    let mut replies = Vec::new();
    for reply in queued.iter().chain(executed) {
        match reply {
            Value::ServerError(error) => write_error(&mut replies, error),
            // What else was said makes no difference to the error.
            _ => replies.extend_from_slice(b"+QUEUED\r\n"),
        }
    }
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let replay = Replay {
        replies,
        read: 0,
        asked: false,
    };
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&info, replay, settings).await?;
    let outcome = {
        let request = std::pin::pin!(connection.send_packed_commands(pipeline, offset, count));
        match select(request, std::pin::pin!(driver)).await {
            Either::Left((outcome, _)) => outcome,
            // It ended with the replies, which it has handed over.
            Either::Right(((), request)) => request.await,
        }
    };
    match (outcome, executed) {
        (Err(error), _) => Err(error),
        (Ok(_), [Value::ServerError(error), ..]) => Err(error.clone().into()),
        (Ok(_), _) => Ok(executed.to_vec()),
    }
}

fn write_error(replies: &mut Vec<u8>, error: &ServerError) {
    replies.push(b'-');
    replies.extend_from_slice(error.code().as_bytes());
    if let Some(details) = error.details() {
        replies.push(b' ');
        // An error is one line.
        replies.extend(
            details
                .bytes()
                .map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
        );
    }
    replies.extend_from_slice(b"\r\n");
}

/// A server that has answered already: once it is asked, it says what it has to say.
struct Replay {
    replies: Vec<u8>,
    read: usize,
    asked: bool,
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.asked {
            // Asking polls the connection again.
            return Poll::Pending;
        }
        let rest = self.replies.get(self.read..).unwrap_or_default();
        let len = rest.len().min(space.remaining());
        space.put_slice(rest.get(..len).unwrap_or_default());
        self.read += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.asked = true;
        context.waker().wake_by_ref();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    fn refusal(pipeline: &Pipeline, replies: Vec<Value>) -> RedisError {
        let offset = replies.len() - 1;
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(asked_for(pipeline, Value::Array(replies), offset, 1))
            .unwrap_err()
    }

    #[test]
    fn an_aborted_transaction_lists_what_was_refused() {
        let mut pipeline = redis::pipe();
        pipeline.atomic().set("a", 1).cmd("NONSENSE").arg(2).get("a");
        let queued = Value::SimpleString("QUEUED".into());
        let replies = vec![
            Value::Okay,
            queued.clone(),
            error("ERR unknown command 'NONSENSE'"),
            queued,
            error("EXECABORT Transaction discarded because of previous errors."),
        ];
        let failed = refusal(&pipeline, replies);
        assert_eq!(failed.code(), Some("EXECABORT"));
        let listed = failed.into_server_errors().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].0, listed[0].1.code()), (1, "ERR"));
        assert_eq!(listed[0].1.details(), Some("unknown command 'NONSENSE'"));
    }

    #[test]
    fn execs_own_refusal_is_the_outcome() {
        let mut pipeline = redis::pipe();
        pipeline.atomic().get("a");
        let replies = vec![
            Value::Okay,
            Value::SimpleString("QUEUED".into()),
            error("EXECABORT Transaction discarded because of: no"),
        ];
        let failed = refusal(&pipeline, replies);
        assert_eq!(failed.code(), Some("EXECABORT"));
    }
}
