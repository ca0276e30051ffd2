//! Handover decisions. The runtime moves groups; this crate says which, where to, when, and whether (DESIGN.md section 5).
//!
//! ```text
//! operator, device, network, drain, failback, load balancing ──> MoveRequest (strategy)
//!                                                                     │
//!   candidates: N best targets ──> attempts: first, then alternates ──┼──> the runtime's move ──> kpi
//!                                       admission at the target <─────┘
//! ```
//! Everything is pure: facts and the time come in as arguments, decisions go out. The only code that waits is
//! [`drain::Drainer`] and [`attempts::pursue`], which run closures that the caller supplies. The node (`actors/node`)
//! feeds all of it from gossip and directory and implements the CSE's `Mobility` and `Tokens` with it.
//!
//! Times named `*_ms` that are points are milliseconds since 1970 unless their documentation says otherwise.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

pub mod admission;
pub mod attempts;
pub mod balance;
pub mod candidates;
pub mod codes;
pub mod drain;
pub mod failback;
pub mod kpi;
pub mod link;
pub mod residency;
pub mod strategy;
pub mod token;
