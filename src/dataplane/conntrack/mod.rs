//! Connection state: which packets belong to a flow that policy has already judged.
//!
//! ```text
//! FlowKey ──keyed hash──▶ two buckets of eight entries ──tag equal──▶ Flow (both directions' keys)
//! ```
//!
//! - [`table`]: the bounded table: find, insert, evict, expire. It knows keys and deadlines alone.
//! - [`tcp`]: TCP's state machine and window; [`sctp`]: SCTP's.
//! - [`trail`]: the rules that decided a flow, shared between flows.
//! - [`timeout`]: how long a flow of each state lives.
//!
//! A table belongs to one worker. Everything is allocated at start.

pub mod flow;
pub mod sctp;
pub mod table;
pub mod tcp;
pub mod timeout;
pub mod trail;

pub use flow::{Flow, FlowDirection, FlowState, HopCache, Marks, Window, Worth};
pub use table::{FlowRef, FlowTable, InsertError, Place};
pub use timeout::{Timeouts, TranslatedTimeouts};
pub use trail::{TrailId, Trails};
