//! The honest part: how a server answers while a connection introduces itself.

use super::{Play, Request};

/// What a primary's `INFO replication` says.
#[must_use]
pub fn primary_info(history: &str, offset: u64) -> String {
    format!(
        "# Replication\r\nrole:master\r\nconnected_slaves:1\r\nmaster_replid:{history}\r\nmaster_replid2:{:040}\r\n\
         master_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\n",
        0
    )
}

/// What a replica's does.
#[must_use]
pub fn replica_info(history: &str, offset: u64) -> String {
    format!(
        "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\nslave_read_repl_offset:{offset}\r\n\
         slave_repl_offset:{offset}\r\nslave_read_only:1\r\nmaster_replid:{history}\r\nmaster_replid2:{:040}\r\n\
         master_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\n",
        0
    )
}

/// The answer to a request of an introduction, if it is one whatever comes before it.
pub(super) fn answer(request: &Request, connection: usize, resp3: bool) -> Option<Play> {
    let answer = match (
        request.name().as_str(),
        request.argument(1).to_ascii_uppercase().as_str(),
    ) {
        ("HELLO", _) if resp3 => Play::bytes(format!(
            "%3\r\n+id\r\n:{connection}\r\n+mode\r\n+standalone\r\n+proto\r\n:3\r\n"
        )),
        ("HELLO", _) => Play::error("ERR unknown command `HELLO`"),
        ("CLIENT", "ID") => Play::bytes(format!(":{connection}\r\n")),
        ("CLIENT", "KILL") => Play::bytes(":0\r\n"),
        ("CLIENT", _) | ("SELECT" | "AUTH", _) => Play::bytes("+OK\r\n"),
        ("PING", _) => Play::bytes("+PONG\r\n"),
        ("INFO", "SERVER") => Play::bulk("# Server\r\nredis_mode:standalone\r\nrun_id:scripted\r\n"),
        // The client has a table of its own.
        ("COMMAND", _) => Play::error("ERR no table here"),
        _ => return None,
    };
    Some(answer)
}
