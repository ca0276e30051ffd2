//! Identifiers that travel between nodes. Each is its own type, so that two of them are never confused.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A node of the cluster: stands in its certificate and never changes while the node keeps its data folder.
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
pub struct NodeId(pub u64);

/// One boot of a node. Grows with every start; leases, in-sync sets and commands name `(node, incarnation)`
/// (DESIGN.md section 4, rule 4).
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
pub struct Incarnation(pub u64);

/// A boot of a node: what leases are granted to and what counts in an in-sync set.
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
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its boot.
    pub incarnation: Incarnation,
}

impl Member {
    /// The boot `incarnation` of `node`.
    pub const fn new(node: u64, incarnation: u64) -> Self {
        Self { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }
}

/// The reign of one primary over one group. Grows by one with every change of primary; every record, strong answer and
/// effect carries the epoch under which it was made.
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
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next primary.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The place of a record in its group's log. The first record is 1; 0 means "before everything".
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
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A group's placement changes one at a time; each change in the directory makes a new version, and every command names
/// the one it was made for.
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
pub struct Version(pub u64);

impl Version {
    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 16 bytes, big-endian: cluster generation (4), index of the directory entry that made it (8), ordinal within
        /// that entry (4). Never reused. Because the index is inside, a node that does not know an id can tell
        /// "deleted" from "not seen yet" (DESIGN.md section 4, rule 13).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[derive(serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode)]
        #[repr(transparent)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id of the `ordinal`-th thing made by directory entry `index` in cluster generation `generation`.
            pub const fn made(generation: u32, index: u64, ordinal: u32) -> Self {
                let g = generation.to_be_bytes();
                let i = index.to_be_bytes();
                let o = ordinal.to_be_bytes();
                Self([
                    g[0], g[1], g[2], g[3], i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], o[0], o[1], o[2], o[3],
                ])
            }

            /// The cluster generation in which it was made.
            pub const fn generation(&self) -> u32 {
                u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
            }

            /// The index of the directory entry that made it.
            pub const fn index(&self) -> u64 {
                let b = &self.0;
                u64::from_be_bytes([b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11]])
            }

            /// Its place among the things made by that entry.
            pub const fn ordinal(&self) -> u32 {
                u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]])
            }
        }

        impl fmt::Display for $name {
            /// `generation.index.ordinal` in lower-case hexadecimal without leading zeros.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}.{:x}.{:x}", self.generation(), self.index(), self.ordinal())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;

            fn from_str(s: &str) -> Result<Self, BadId> {
                let mut parts = s.split('.');
                let mut part = || parts.next().ok_or(BadId);
                let generation = u32::from_str_radix(part()?, 16).map_err(|_| BadId)?;
                let index = u64::from_str_radix(part()?, 16).map_err(|_| BadId)?;
                let ordinal = u32::from_str_radix(part()?, 16).map_err(|_| BadId)?;
                if parts.next().is_some() {
                    return Err(BadId);
                }
                Ok(Self::made(generation, index, ordinal))
            }
        }
    };
}

made_id! {
    /// A group of contexts that move together: the unit of placement, with one log (DESIGN.md section 1).
    GroupId
}
made_id! {
    /// A movable, replicated context: the subtree of one AE, one swarm job, one learning session (DESIGN.md section 1).
    ContextId
}

/// A text that is not an id of the form `generation.index.ordinal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form generation.index.ordinal in hexadecimal")]
pub struct BadId;

macro_rules! show_number {
    ($($name:ident $prefix:literal),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}
show_number!(NodeId "n", Incarnation "i", Epoch "e", Seq "", Version "v");

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.incarnation)
    }
}
