//! Filter criteria (TS-0004 6.3.5.8, 7.3.3.14, 7.3.3.17; TS-0001 8.1.2, 10.2.6).

mod compare;
mod labels;
mod matching;
mod parse;
mod search;

use crate::tables::{AttrId, Ty};
use crate::time::Timestamp;

pub(crate) use compare::like;
pub use search::Found;

/// m2m:filterUsage
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FilterUsage {
    /// 1
    Discovery = 1,
    /// 2
    #[default]
    Conditional = 2,
    /// 3
    IpeDiscovery = 3,
    /// 4
    DiscoveryBasedOperation = 4,
}

/// m2m:filterOperation
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FilterOperation {
    /// 1
    #[default]
    And = 1,
    /// 2
    Or = 2,
}

/// A name and a value to compare (`atr`, `catr`, `patr`); the value may hold `*` in a discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeFilter {
    /// Attribute.
    pub name: AttrId,
    /// Text of the value.
    pub value: String,
}

/// Filter criteria. Members are named as in JSON; an empty list is an absent tag.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct FilterCriteria {
    pub crb: Option<Timestamp>,
    pub cra: Option<Timestamp>,
    pub ms: Option<Timestamp>,
    pub us: Option<Timestamp>,
    pub sts: Option<u64>,
    pub stb: Option<u64>,
    pub exb: Option<Timestamp>,
    pub exa: Option<Timestamp>,
    pub lbl: Vec<String>,
    pub clbl: Vec<String>,
    pub palb: Vec<String>,
    pub lbq: Option<String>,
    pub ty: Vec<Ty>,
    pub chty: Vec<Ty>,
    pub pty: Vec<Ty>,
    pub sza: Option<u64>,
    pub szb: Option<u64>,
    pub cty: Vec<String>,
    pub atr: Vec<AttributeFilter>,
    pub catr: Vec<AttributeFilter>,
    pub patr: Vec<AttributeFilter>,
    pub smf: Vec<String>,
    pub fu: Option<FilterUsage>,
    pub fo: Option<FilterOperation>,
    pub lim: Option<u32>,
    pub lvl: Option<u32>,
    pub ofst: Option<u32>,
    pub arp: Option<String>,
    pub cfs: Option<u8>,
    pub cfq: Option<String>,
}

impl FilterUsage {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Discovery,
            2 => Self::Conditional,
            3 => Self::IpeDiscovery,
            4 => Self::DiscoveryBasedOperation,
            _ => return None,
        })
    }
}

impl FilterOperation {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::And,
            2 => Self::Or,
            _ => return None,
        })
    }
}
