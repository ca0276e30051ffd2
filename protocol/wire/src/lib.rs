//! The cluster wire protocol `onemec/1`, sans-IO. SPEC.md beside this crate is normative.

pub mod ids;
pub mod record;

pub use ids::{ContextId, Epoch, GroupId, Incarnation, Member, NodeId, Seq, Version};
pub use record::{Record, RecordKind};
