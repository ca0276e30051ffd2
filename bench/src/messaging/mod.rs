//! Messages between two processes, once through our transport and once through bare quinn, on the same two threads.
//!
//! ```text
//!  near: a thread of this process, pinned to the first CPU      far: a child process, pinned to the last CPU
//!    ours::Near  ---- one QUIC endpoint ---------------------->  ours::serve
//!    bare::Near  ---- another one ----------------------------->  bare::serve
//! ```
//! Both sides have one current-thread runtime in each process, the same certificates and TLS settings, the same packet
//! size, windows and socket buffers, and one connection for messages and one for bulk.

mod bare;
mod ours;
mod pair;
mod side;

pub(crate) use pair::{ROLE, far_end, with_pair};
pub(crate) use side::{Pace, Side};
