//! Which nodes there are, and which of them is the primary.
//!
//! The builder's fixed list is one source of that, a [`Discovery`] another. Both only propose: what a node
//! says of itself goes before what is said of it (`steward`), and proofs decide over each reply.

mod discovery;
mod members;
mod sentinel;
mod steward;

pub use self::{
    discovery::{Discovery, Publisher, Topology},
    sentinel::Sentinel,
};
pub(crate) use self::{
    members::{Change, Members, Registry, Roster},
    steward::{Steward, steward},
};
