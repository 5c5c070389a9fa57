//! One node, without the guarantee.

use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};

use crate::{
    client::Client,
    command::{Class, Command},
    error::{Error, ErrorKind},
    node::{Node, ProofWanted, Request},
    redis_rs,
    route::{closed, finished},
};

/// One node, whichever role it has: for `INFO`, `CONFIG`, `SLOWLOG`, a look at what a replica holds.
///
/// **No session, no proof**: replies may be older than anything that a session has seen, and writes
/// leave no mark. Commands travel on the connection that the client has to the node anyway, so those
/// that block it or change its state are refused.
#[derive(Clone, Debug)]
pub struct NodeConnection {
    client: Client,
    /// `None`: whichever is the primary.
    node: Option<Arc<Node>>,
}

impl NodeConnection {
    pub(crate) fn new(client: Client, node: Option<Arc<Node>>) -> Self {
        Self { client, node }
    }

    fn node(&self) -> Result<Arc<Node>, Error> {
        match &self.node {
            Some(node) => Ok(Arc::clone(node)),
            None => self.client.router().primary(),
        }
    }

    /// Where the node is now: `host:port`, or a path; `unknown` while no discovery has named a primary.
    #[must_use]
    pub fn address(&self) -> String {
        self.node()
            .map_or_else(|_| String::from("unknown"), |node| node.address.to_string())
    }

    /// Carries out a command at this node. A session and a level that it was given mean nothing here.
    ///
    /// # Errors
    ///
    /// An error reply of the server, or why there is no reply: see [`ErrorKind`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the connection and everybody else's replies as they are. A write may
    /// still happen.
    pub async fn call(&self, command: impl Into<Command>) -> Result<Value, Error> {
        let command = command.into();
        let router = self.client.router();
        router.check_open()?;
        let class = router.table().await.classify(&command.packed, command.unit)?;
        if class == Class::Blocking {
            let message = format!("{} blocks, and a node's connection is shared", command.name());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let _permit = router.permits.acquire().await.map_err(|_| closed())?;
        let request = Request {
            packed: &command.packed,
            replies: command.replies,
            proof: ProofWanted::Nothing,
            may_write: class == Class::Write,
            writer: None,
        };
        let sent = self.node()?.connection()?.send(&request)?;
        let answer = sent.answer.await.map_err(|_| closed())??;
        finished(answer.value, &command)
    }
}

impl ConnectionLike for NodeConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { redis_rs::value_of(cmd, self.call(cmd).await) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let carried_out = async move { self.call(pipeline).await };
        Box::pin(redis_rs::values_of(pipeline, offset, count, carried_out))
    }

    fn get_db(&self) -> i64 {
        self.client.router().database()
    }
}
