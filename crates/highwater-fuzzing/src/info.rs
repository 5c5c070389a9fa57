//! `INFO replication`: the scan agrees with a slow reading of the same text that is written for its plainness.

use std::collections::BTreeMap;

use highwater_core::{Ancestor, Coverage, Edges, History, Offset, Progress, Role};

/// The bytes are what a server says.
///
/// # Panics
///
/// When a property does not hold.
pub fn check(input: &[u8]) {
    let scanned = Progress::scan(input);
    assert_eq!(scanned.ok(), read(input));
    let Ok(progress) = scanned else { return };
    let edges = Edges::default();
    let covers = |history, offset| progress.covers(history, Offset::at(offset), &edges);
    // A replica that says 1 or less says nothing.
    let silent = progress.role == Role::Replica && progress.applied <= 1;
    assert_eq!(
        covers(progress.history, progress.applied) == Coverage::Covered,
        !silent
    );
    if progress.applied < i64::MAX as u64 {
        assert_eq!(covers(progress.history, progress.applied + 1), Coverage::Behind);
    }
    // Fields that nobody knows, and lines that are none, make no difference.
    let padded = [
        b"# Replication\r\nnew_field:role:slave\r\n\r\nrole\n",
        input,
        b"\nslave0:role:x,offset=7\n:",
    ]
    .concat();
    assert_eq!(Progress::scan(&padded), scanned);
}

fn read(info: &[u8]) -> Option<Progress> {
    const KNOWN: [&[u8]; 9] = [
        b"role",
        b"master_replid",
        b"master_replid2",
        b"second_repl_offset",
        b"master_repl_offset",
        b"slave_repl_offset",
        b"master_link_status",
        b"slave_read_only",
        b"repl_backlog_active",
    ];
    let mut fields = BTreeMap::new();
    for line in info.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if KNOWN.contains(&name) && fields.insert(name, value).is_some() {
            return None;
        }
    }
    let field = |name: &str| fields.get(name.as_bytes()).copied();
    let role = match field("role")? {
        b"master" => Role::Primary,
        b"slave" => Role::Replica,
        _ => return None,
    };
    let history = history(field("master_replid")?)??;
    let older = match field("master_replid2") {
        Some(text) => self::history(text)?,
        None => None,
    };
    let mut ancestor = None;
    if let (Some(older), Some(fork)) = (older, field("second_repl_offset")) {
        let fork = offset(fork)?;
        if let Some(fork) = fork.filter(|_| older != history && field("repl_backlog_active") != Some(b"0")) {
            ancestor = Some(Ancestor { history: older, fork });
        }
    }
    let applied = field(match role {
        Role::Primary => "master_repl_offset",
        Role::Replica => "slave_repl_offset",
    })?;
    Some(Progress {
        role,
        history,
        ancestor,
        applied: offset(applied)?.unwrap_or(0),
        link_up: role == Role::Primary || field("master_link_status") == Some(b"up"),
        read_only: role == Role::Primary || field("slave_read_only") != Some(b"0"),
    })
}

/// `None`: it is none. `Some(None)`: forty zeros, which stand for none.
fn history(text: &[u8]) -> Option<Option<History>> {
    if text.len() != 40 {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut bytes = [0; 20];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let pair = &text.get(2 * place..2 * place + 2)?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(Some(History::from_bytes(bytes)).filter(|_| bytes != [0; 20]))
}

/// `None`: it is none. `Some(None)`: a negative number, which stands for none.
fn offset(text: &[u8]) -> Option<Option<u64>> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'))?;
    let number: i128 = text.parse().ok()?;
    let most = i128::from(i64::MAX);
    match number {
        _ if number > most || number < -most => None,
        ..0 => Some(None),
        offset => Some(u64::try_from(offset).ok()),
    }
}
