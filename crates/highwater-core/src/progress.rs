//! Progress: what one `INFO replication` says.

use std::fmt;

use crate::History;

/// What a node is in its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It accepts writes (`role:master`).
    Primary,
    /// It follows another node (`role:slave`).
    Replica,
}

/// The history that a node's own history grew out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ancestor {
    /// The older history (`master_replid2`).
    pub history: History,
    /// The first offset that is not shared (`second_repl_offset`).
    pub fork: u64,
}

/// What one `INFO replication` of a node says.
///
/// It is a proof only when it is bound to a reply by one of the two sound forms (law 3 of the
/// protocol facts); otherwise it is a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Primary or replica.
    pub role: Role,
    /// The history that the node is in (`master_replid`).
    pub history: History,
    /// The history before it, if the node knows one.
    pub ancestor: Option<Ancestor>,
    /// How far the node has *applied* its history, in bytes: `master_repl_offset` of a primary,
    /// `slave_repl_offset` of a replica (never what it has merely received: law 2).
    pub applied: u64,
    /// A replica's link to its primary is up. A primary has no such link: true.
    pub link_up: bool,
    /// A replica refuses writes (`slave_read_only`). Coverage means nothing on a writable one.
    pub read_only: bool,
}

impl Progress {
    /// Reads the reply of `INFO replication` in one pass, without allocation.
    ///
    /// Unknown fields are passed over; Redis 6.2 to 8 and Valkey 7.2 to 9 are understood.
    ///
    /// # Errors
    ///
    /// When a field that is needed is missing, said twice, or makes no sense.
    pub fn scan(info: &[u8]) -> Result<Self, ScanError> {
        let mut fields = Fields::default();
        for line in Lines(info) {
            fields.take(line)?;
        }
        fields.finish()
    }
}

struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr::memchr(b'\n', self.0) {
            Some(end) => (self.0.get(..end)?, self.0.get(end + 1..)?),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[derive(Default)]
struct Fields<'a> {
    role: Option<&'a [u8]>,
    replid: Option<&'a [u8]>,
    replid2: Option<&'a [u8]>,
    second_offset: Option<&'a [u8]>,
    master_offset: Option<&'a [u8]>,
    slave_offset: Option<&'a [u8]>,
    link: Option<&'a [u8]>,
    read_only: Option<&'a [u8]>,
    backlog: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), ScanError> {
        // Most lines are of no interest; their first letters say so.
        let (field, name, value) = match line {
            [b'r', b'o', b'l', b'e', b':', value @ ..] => (&mut self.role, "role", value),
            [b's', b'l', b'a', b'v', b'e', b'_', rest @ ..] => {
                if let Some(value) = rest.strip_prefix(b"repl_offset:") {
                    (&mut self.slave_offset, "slave_repl_offset", value)
                } else if let Some(value) = rest.strip_prefix(b"read_only:") {
                    (&mut self.read_only, "slave_read_only", value)
                } else {
                    return Ok(());
                }
            }
            [b'm', b'a', b's', b't', b'e', b'r', b'_', rest @ ..] => {
                if let Some(value) = rest.strip_prefix(b"replid:") {
                    (&mut self.replid, "master_replid", value)
                } else if let Some(value) = rest.strip_prefix(b"replid2:") {
                    (&mut self.replid2, "master_replid2", value)
                } else if let Some(value) = rest.strip_prefix(b"repl_offset:") {
                    (&mut self.master_offset, "master_repl_offset", value)
                } else if let Some(value) = rest.strip_prefix(b"link_status:") {
                    (&mut self.link, "master_link_status", value)
                } else {
                    return Ok(());
                }
            }
            [b's', b'e', b'c', b'o', b'n', b'd', b'_', rest @ ..] => match rest.strip_prefix(b"repl_offset:")
            {
                Some(value) => (&mut self.second_offset, "second_repl_offset", value),
                None => return Ok(()),
            },
            [b'r', b'e', b'p', b'l', b'_', rest @ ..] => match rest.strip_prefix(b"backlog_active:") {
                Some(value) => (&mut self.backlog, "repl_backlog_active", value),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(ScanError {
                field: name,
                problem: "is said twice",
            }),
        }
    }

    fn finish(self) -> Result<Progress, ScanError> {
        let role = match self.role {
            Some(b"master") => Role::Primary,
            Some(b"slave") => Role::Replica,
            Some(_) => {
                return Err(ScanError {
                    field: "role",
                    problem: "is neither master nor slave",
                });
            }
            None => {
                return Err(ScanError {
                    field: "role",
                    problem: "is missing",
                });
            }
        };
        let history = history("master_replid", self.replid)?.ok_or(ScanError {
            field: "master_replid",
            problem: "is missing or zero",
        })?;
        let ancestor = match (
            history_or_none("master_replid2", self.replid2)?,
            self.second_offset,
        ) {
            (Some(older), Some(text)) => match offset("second_repl_offset", text)? {
                // A lineage without a backlog is not believed. A replica that has thrown away its data
                // for a resync that then failed has no backlog, and says when it is promoted that it
                // shares everything with its old history, with an empty dataset (measured on Redis
                // 7.0.15). A sound promotion and a sound restart have one; without one, the server
                // takes a new ID as soon as a replica attaches, so nothing is lost by the rule.
                Some(fork) if older != history && self.backlog != Some(b"0") => {
                    Some(Ancestor { history: older, fork })
                }
                _ => None,
            },
            _ => None,
        };
        let applied = match role {
            Role::Primary => offset_needed("master_repl_offset", self.master_offset)?,
            Role::Replica => offset_needed("slave_repl_offset", self.slave_offset)?,
        };
        let link_up = match (role, self.link) {
            (Role::Primary, _) | (Role::Replica, Some(b"up")) => true,
            (Role::Replica, _) => false,
        };
        let read_only = role == Role::Primary || self.read_only != Some(b"0");
        Ok(Progress {
            role,
            history,
            ancestor,
            applied,
            link_up,
            read_only,
        })
    }
}

/// A history that has to be well formed where it is said; zero means none.
fn history(field: &'static str, text: Option<&[u8]>) -> Result<Option<History>, ScanError> {
    let Some(text) = text else { return Ok(None) };
    let history = History::from_hex(text).map_err(|_| ScanError {
        field,
        problem: "is no replication ID",
    })?;
    Ok(Some(history).filter(|history| !history.is_zero()))
}

/// As [`history`], quick for the common "none".
fn history_or_none(field: &'static str, text: Option<&[u8]>) -> Result<Option<History>, ScanError> {
    if text == Some(&[b'0'; 40]) {
        Ok(None)
    } else {
        history(field, text)
    }
}

/// An offset of 0 to 2⁶³−1; `None` for the negative numbers by which servers say "none".
fn offset(field: &'static str, text: &[u8]) -> Result<Option<u64>, ScanError> {
    let wrong = ScanError {
        field,
        problem: "is no offset",
    };
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(wrong);
    }
    let mut value: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        value = match value
            .checked_mul(10)
            .and_then(|value| value.checked_add(digit.into()))
        {
            Some(value) if digit <= 9 && i64::try_from(value).is_ok() => value,
            _ => return Err(wrong),
        };
    }
    Ok(if negative && value > 0 { None } else { Some(value) })
}

/// As [`offset`], where "none" means that nothing has been applied.
fn offset_needed(field: &'static str, text: Option<&[u8]>) -> Result<u64, ScanError> {
    let text = text.ok_or(ScanError {
        field,
        problem: "is missing",
    })?;
    Ok(offset(field, text)?.unwrap_or(0))
}

/// The reply is no sensible `INFO replication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanError {
    field: &'static str,
    problem: &'static str,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the reply to INFO replication can't be used: {} {}",
            self.field, self.problem
        )
    }
}

impl std::error::Error for ScanError {}
