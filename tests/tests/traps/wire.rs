//! A raw RESP3 connection, which gives replies and pushes in the order in which the server sent them.

use std::{io::Write, net::TcpStream};

use highwater_testkit::{InfoReplication, Server};
use redis::{Parser, PushKind, Value};

use crate::common::SOON;

pub(crate) struct Wire {
    stream: TcpStream,
    parser: Parser,
    /// Pushes by which the server said that all data were replaced or flushed.
    pub(crate) nulls: usize,
}

impl Wire {
    pub(crate) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut wire = Self {
            stream,
            parser: Parser::new(),
            nulls: 0,
        };
        wire.ask("HELLO 3");
        wire
    }

    /// A connection with the kind of tracking that highwater uses, on which no key is tracked.
    pub(crate) fn tracking(server: &Server) -> Self {
        let mut wire = Self::connect(server);
        assert_eq!(wire.ask("CLIENT TRACKING ON OPTIN"), Value::Okay);
        wire
    }

    /// Sends commands, one a line, without waiting for replies.
    pub(crate) fn send(&mut self, lines: &str) {
        let mut packed = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<_> = line.split_whitespace().collect();
            packed.extend(redis::Cmd::new().arg(words).get_packed_command());
        }
        self.stream.write_all(&packed).unwrap();
    }

    /// What comes next, be it a reply or a push.
    pub(crate) fn next(&mut self) -> Value {
        let value = self.parser.parse_value(&mut self.stream).unwrap();
        if let Value::Push { kind, data } = &value
            && *kind == PushKind::Invalidate
            && matches!(data.as_slice(), [Value::Nil])
        {
            self.nulls += 1;
        }
        value
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Value {
        loop {
            let value = self.next();
            if !matches!(value, Value::Push { .. }) {
                return value;
            }
        }
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.reply()
    }

    pub(crate) fn info(&mut self) -> InfoReplication {
        info(&self.ask("INFO replication"))
    }
}

/// What a reply to `INFO replication` says.
pub(crate) fn info(reply: &Value) -> InfoReplication {
    text(reply).parse().unwrap()
}

pub(crate) fn text(reply: &Value) -> String {
    redis::from_redis_value_ref(reply).unwrap_or_else(|_| panic!("no text: {reply:?}"))
}
