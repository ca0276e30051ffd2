//! The pure half of the runtime: state machines without clock, randomness or I/O. Time and inputs come in as arguments,
//! what to do goes out as values; `onemec-runtime` executes it, the simulation and the model checker drive the same code.

pub mod buffer;
pub mod context;
pub mod contexts;
pub mod directory;
pub mod election;
pub mod group;
pub mod lease;
pub mod place;
pub mod time;
