//! The way that anybody would begin with: ask INFO before each read whether the replica is far enough, and after each
//! write where the primary is.

use std::collections::HashMap;

use redis::{AsyncCommands, aio::MultiplexedConnection};

use super::{
    Caller,
    redis_rs::{PlainCaller, pipeline},
};

/// A place in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    history: String,
    offset: u64,
}

impl Mark {
    /// Where a node is now.
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> Self {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(connection)
            .await
            .unwrap();
        Self::read(&info).expect("INFO says where the node is")
    }

    fn read(info: &str) -> Option<Self> {
        let (mut history, mut applied, mut offset) = (None, None, None);
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "master_replid" => history = Some(value.trim_end().to_owned()),
                "slave_repl_offset" => applied = value.trim_end().parse().ok(),
                "master_repl_offset" => offset = value.trim_end().parse().ok(),
                _ => {}
            }
        }
        Some(Self {
            history: history?,
            offset: applied.or(offset)?,
        })
    }

    fn covers(&self, other: &Self) -> bool {
        self.history == other.history && self.offset >= other.offset
    }
}

/// A caller with its sessions' marks.
#[derive(Debug)]
pub(super) struct Naive {
    plain: PlainCaller<MultiplexedConnection>,
    marks: Vec<Option<Mark>>,
    session: usize,
}

impl Naive {
    pub(super) fn new(plain: PlainCaller<MultiplexedConnection>, marks: Vec<Option<Mark>>) -> Self {
        Self {
            plain,
            marks,
            session: 0,
        }
    }

    /// The node to read from.
    async fn reader(&self) -> MultiplexedConnection {
        let mut replica = self.plain.reader.clone();
        match &self.marks[self.session] {
            Some(mark) if !Mark::of(&mut replica).await.covers(mark) => self.plain.writer.clone(),
            _ => replica,
        }
    }
}

impl Caller for Naive {
    type Bytes = Vec<u8>;

    async fn get(&mut self, key: &str) -> Vec<u8> {
        self.reader().await.get(key).await.unwrap()
    }

    async fn set(&mut self, key: &str, value: &[u8]) {
        let mut writer = self.plain.writer.clone();
        let () = writer.set(key, value).await.unwrap();
        self.marks[self.session] = Some(Mark::of(&mut writer).await);
    }

    async fn get_all(&mut self, keys: &[String]) -> Vec<Vec<u8>> {
        let mut reader = self.reader().await;
        pipeline(keys).query_async(&mut reader).await.unwrap()
    }

    async fn hash(&mut self, key: &str) -> HashMap<String, String> {
        self.reader().await.hgetall(key).await.unwrap()
    }

    fn turn_to(&mut self, session: usize) {
        self.session = session;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_where_it_has_applied_to() {
        let at = |offset| Mark {
            history: String::from("a"),
            offset,
        };
        let primary = Mark::read("role:master\r\nmaster_replid:a\r\nmaster_repl_offset:9\r\n").unwrap();
        assert_eq!(primary, at(9));
        let replica = "slave_repl_offset:7\r\nmaster_replid:a\r\nmaster_repl_offset:9\r\n";
        let replica = Mark::read(replica).unwrap();
        assert!(replica.covers(&at(7)) && !replica.covers(&primary));
    }
}
