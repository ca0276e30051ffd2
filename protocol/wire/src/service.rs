//! Well-known services: what a frame is for. The runtime registers one handler per number.

/// Number of a service. 0 is for the transport itself; up to 255 belong to the runtime, from 256 on to actors.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct ServiceId(pub u16);

#[allow(missing_docs)]
impl ServiceId {
    /// Frames of the transport itself (hello, credits ...).
    pub const TRANSPORT: Self = Self(0);
    /// Node to node: roles, configuration, status.
    pub const CONTROL: Self = Self(1);
    /// The directory's Raft group.
    pub const RAFT: Self = Self(2);
    /// Leases and lease rounds.
    pub const LEASE: Self = Self(3);
    /// Group replication: appends and their acknowledgements.
    pub const REPLICA: Self = Self(4);
    /// Moves of groups: prepare, ready, segments.
    pub const MOVE: Self = Self(5);
    /// Calls on contexts that another node serves.
    pub const CALL: Self = Self(6);
    /// Membership gossip (datagrams).
    pub const GOSSIP: Self = Self(7);
    /// Administration and command line.
    pub const ADMIN: Self = Self(8);
    /// The only service that another domain may use.
    pub const FEDERATION: Self = Self(9);
    /// First number of the actors' own services.
    pub const ACTORS: Self = Self(256);
    /// oneM2M CSE to CSE inside the cluster.
    pub const CSE: Self = Self(257);
    pub const MOBILITY: Self = Self(258);
    pub const MEC: Self = Self(259);
    pub const SWARM: Self = Self(260);
    pub const LEARNING: Self = Self(261);
}
