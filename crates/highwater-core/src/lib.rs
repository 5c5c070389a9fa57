//! What is known about a replication stream, and what a session may conclude from it.
//!
//! This crate is the judgement of `highwater`: it is pure, does no I/O and reads no clock.
//!
//! * A [`Mark`] is a point in the replication stream of one deployment: (scope, history, offset).
//! * A [`Progress`] is what one `INFO replication` of a node says.
//! * [`Progress::covers`] says whether a node that reported this progress has applied a mark.
//! * [`Marks`] is the set of marks that one user depends on; a [`Session`] is the shared handle on
//!   it that requests, writes in flight and tokens work with.
//! * A [`TokenCodec`] turns marks into a string that travels between processes, and back.
//!
//! ```
//! use highwater_core::{Coverage, Edges, Offset, Progress};
//!
//! let info = b"role:slave\r\nmaster_link_status:up\r\nslave_repl_offset:120\r\nslave_read_only:1\r\n\
//!     master_replid:0123456789abcdef0123456789abcdef01234567\r\n\
//!     master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\n";
//! let progress = Progress::scan(info)?;
//! let edges = Edges::default();
//! assert_eq!(progress.covers(progress.history, Offset::at(100), &edges), Coverage::Covered);
//! assert_eq!(progress.covers(progress.history, Offset::at(121), &edges), Coverage::Behind);
//! # Ok::<(), highwater_core::ScanError>(())
//! ```

mod consistency;
mod coverage;
mod edges;
mod history;
mod mark;
mod marks;
mod progress;
mod requirement;
mod route;
mod session;
mod session_id;
mod token;
mod view;
mod witness;

pub use consistency::{Consistency, UnknownLevel};
pub use coverage::Coverage;
pub use edges::Edges;
pub use history::{History, ParseHistoryError};
pub use mark::{Mark, Offset, Scope, ScopeError};
pub use marks::{MAX_MARKS, Marks};
pub use progress::{Ancestor, Progress, Role, ScanError};
pub use requirement::{Point, Requirement};
pub use route::{Continuity, Reason, Route, RouteCounts};
pub use session::{CallerGuard, PendingWrite, Session};
pub use session_id::{SessionId, SessionIdError};
pub use token::{KeyError, MAX_TOKEN_LEN, SigningKey, Token, TokenCodec, TokenError, TokenErrorKind};
pub use view::{Conclusion, View};
pub use witness::{Edge, Replied, Witness};
