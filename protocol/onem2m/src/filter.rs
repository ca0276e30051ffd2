//! Filter criteria (TS-0004 6.3.5.8, 7.3.3.14, 7.3.3.17; TS-0001 8.1.2, 10.2.6).

use crate::rsc::Refusal;
use crate::tables::{AttrId, Ty};
use crate::time::Timestamp;
use crate::view::Tree;

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

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<N> {
    /// Matches in the order of the tree (parents before children).
    pub nodes: Vec<N>,
    /// There are more: `cnst` is partial and this is `cnot`, the offset at which to go on.
    pub next_offset: Option<u32>,
}

impl FilterCriteria {
    /// Reads the JSON of `fc`.
    pub fn from_json(_text: &str) -> Result<Self, Refusal> {
        unimplemented!()
    }
    /// Writes the JSON of `fc`.
    pub fn to_json(&self) -> String {
        unimplemented!()
    }
    /// Adds one parameter of an HTTP query; false if it is none of filter criteria.
    pub fn add_query(&mut self, _key: &str, _value: &str) -> Result<bool, Refusal> {
        unimplemented!()
    }
    /// The HTTP query, without a leading `?`.
    pub fn to_query(&self) -> String {
        unimplemented!()
    }
    /// Whether any matching condition is given (else everything matches).
    pub fn has_conditions(&self) -> bool {
        unimplemented!()
    }
    /// What this CSE does not do: semantic and content filters (NOT_IMPLEMENTED).
    pub fn check(&self) -> Result<(), Refusal> {
        unimplemented!()
    }
    /// Whether `node` matches.
    pub fn matches<T: Tree>(&self, _tree: &T, _node: &T::Node) -> bool {
        unimplemented!()
    }
    /// Looks below `root` (not at it) down to `lvl`, in the order of the tree, for what matches and `visible` lets through;
    /// what it hides is skipped but looked below. `lim` and `ofst` are applied, `arp` is the caller's.
    pub fn search<T: Tree>(
        &self,
        _tree: &T,
        _root: &T::Node,
        _visible: &mut dyn FnMut(&T::Node) -> bool,
    ) -> Found<T::Node> {
        unimplemented!()
    }
}
