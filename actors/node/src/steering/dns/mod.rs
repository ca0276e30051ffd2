//! An authoritative DNS server for one zone, on every node. All of it is derived from the node's copy of the directory at
//! the moment of the question: a move or a failover is visible with the directory's entry.
//!
//! | name in zone `iot.example` | stands for |
//! | --- | --- |
//! | `iot.example` | the nodes that are up |
//! | `edge1.iot.example` | the node; while it is dead, the nodes that are up (any node forwards) |
//! | `LABEL.ae.iot.example` | the node that serves the AE ([`label`] makes LABEL from the AE-ID) |
//!
//! Each has A, AAAA and, below `_http._tcp` or `_https._tcp`, SRV records (RFC 1035, 2782). Their time to live is 0 unless the topology
//! says otherwise: an answer that a resolver keeps leads to a dead node for so long, however fast the takeover was. A
//! node without a lease may know an old directory: it answers SERVFAIL, and the client's resolver asks the next server.

mod answer;
pub mod client;
pub mod label;
mod limit;
mod names;
mod serve;

pub use answer::{Transport, Zone, ZoneError, answer};
pub use names::{ADDRESSES, AES, name_of_ae};
pub use serve::{DnsOptions, DnsServer};
