//! What `INFO replication` says, parsed.

use std::collections::HashMap;
use std::str::FromStr;

use crate::{Error, ErrorKind, Mark, ReplicationId, Result};

/// The role that a server has at the moment of its INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `role:master`
    Primary,
    /// `role:slave`
    Replica,
}

/// One `INFO replication`, with the servers' field names where tests look for them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InfoReplication {
    /// `role`
    pub role: Role,
    /// `master_replid`: the history that the node is in.
    pub replid: ReplicationId,
    /// `master_replid2`: the one ancestor that it remembers, or `None` where the server prints zeroes.
    pub replid2: Option<ReplicationId>,
    /// `second_repl_offset`: the first offset not shared with the ancestor. −1 for none.
    pub second_repl_offset: i64,
    /// `master_repl_offset`. Meaningless on a replica that syncs: see [`applied`](Self::applied).
    pub master_repl_offset: u64,
    /// `slave_repl_offset`: what a replica has applied.
    pub slave_repl_offset: Option<u64>,
    /// `slave_read_repl_offset`: what a replica has received, applied or not.
    pub slave_read_repl_offset: Option<u64>,
    /// `master_link_status:up`. False on a primary.
    pub link_up: bool,
    /// `master_sync_in_progress:1`. False on a primary.
    pub sync_in_progress: bool,
    /// `connected_slaves`
    pub connected_replicas: usize,
    /// `master_host` and `master_port` of a replica.
    pub master: Option<(String, u16)>,
}

impl InfoReplication {
    /// How far this node's readable data goes: `slave_repl_offset` on a replica, `master_repl_offset` on a primary.
    #[must_use]
    pub fn applied(&self) -> u64 {
        match self.role {
            Role::Primary => self.master_repl_offset,
            Role::Replica => self.slave_repl_offset.unwrap_or(0),
        }
    }

    /// Where this node is, in its own history.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::new(self.replid, self.applied())
    }

    /// Whether this node is in the mark's history and at or past its offset. Other histories are never covered here:
    /// tests that want lineage look at [`replid2`](Self::replid2) themselves.
    #[must_use]
    pub fn covers(&self, mark: Mark) -> bool {
        self.replid == mark.history && self.applied() >= mark.offset
    }
}

impl FromStr for InfoReplication {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let role = match field(&fields, "role")? {
            "master" => Role::Primary,
            "slave" => Role::Replica,
            other => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!("INFO replication has role {other:?}"),
                ));
            }
        };
        let replid2 = field(&fields, "master_replid2")?.parse::<ReplicationId>()?;
        let master = match (fields.get("master_host"), fields.get("master_port")) {
            (Some(host), Some(port)) => Some(((*host).to_owned(), number("master_port", port)?)),
            _ => None,
        };
        Ok(Self {
            role,
            replid: field(&fields, "master_replid")?.parse()?,
            replid2: (!replid2.is_zero()).then_some(replid2),
            second_repl_offset: required(&fields, "second_repl_offset")?,
            master_repl_offset: required(&fields, "master_repl_offset")?,
            slave_repl_offset: optional_offset(&fields, "slave_repl_offset")?,
            slave_read_repl_offset: optional_offset(&fields, "slave_read_repl_offset")?,
            link_up: fields.get("master_link_status") == Some(&"up"),
            sync_in_progress: fields.get("master_sync_in_progress") == Some(&"1"),
            connected_replicas: required(&fields, "connected_slaves")?,
            master,
        })
    }
}

fn field<'a>(fields: &HashMap<&str, &'a str>, name: &str) -> Result<&'a str> {
    fields.get(name).copied().ok_or_else(|| {
        Error::new(
            ErrorKind::Protocol,
            format!("INFO replication has no field {name}"),
        )
    })
}

fn required<T: FromStr>(fields: &HashMap<&str, &str>, name: &str) -> Result<T> {
    number(name, field(fields, name)?)
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::new(ErrorKind::Protocol, format!("INFO replication has {name}:{text}")))
}

/// A replica that syncs for the first time prints offset −1 (or 0 or 1): it has applied nothing.
fn optional_offset(fields: &HashMap<&str, &str>, name: &str) -> Result<Option<u64>> {
    let Some(text) = fields.get(name) else {
        return Ok(None);
    };
    let offset: i64 = number(name, text)?;
    Ok(Some(u64::try_from(offset).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: &str = "# Replication\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:7000\r\n\
        master_link_status:up\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:20\r\nslave_repl_offset:14\r\n\
        connected_slaves:0\r\nmaster_replid:0123456789abcdef0123456789abcdef01234567\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:99\r\nsecond_repl_offset:-1\r\n";

    #[test]
    fn a_replica_is_where_it_has_applied_to() {
        let info: InfoReplication = REPLICA.parse().unwrap();
        assert_eq!(info.role, Role::Replica);
        assert_eq!(info.applied(), 14);
        assert!(info.link_up);
        assert_eq!(info.replid2, None);
        assert_eq!(info.master, Some(("127.0.0.1".to_owned(), 7000)));
        assert!(info.covers(Mark::new(info.replid, 14)));
        assert!(!info.covers(Mark::new(info.replid, 15)));
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = REPLICA
            .replace("master_repl_offset", "x")
            .parse::<InfoReplication>()
            .unwrap_err();
        assert!(error.to_string().contains("master_repl_offset"), "{error}");
    }
}
