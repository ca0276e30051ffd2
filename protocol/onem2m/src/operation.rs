//! Operations and the small enumerations of primitives (TS-0004 6.3.4.2).

use crate::rsc::Refusal;

/// m2m:operation
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// 1
    Create = 1,
    /// 2
    Retrieve = 2,
    /// 3
    Update = 3,
    /// 4
    Delete = 4,
    /// 5
    Notify = 5,
}

/// m2m:responseType
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResponseType {
    /// 1
    NonBlockingSynch = 1,
    /// 2
    NonBlockingAsynch = 2,
    /// 3
    #[default]
    Blocking = 3,
    /// 4
    FlexBlocking = 4,
    /// 5
    NoResponse = 5,
}

/// m2m:desIdResType
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdFormat {
    /// 1
    #[default]
    Structured = 1,
    /// 2
    Unstructured = 2,
}

/// m2m:contentStatus
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentStatus {
    /// 1
    Partial = 1,
    /// 2
    Full = 2,
}

/// m2m:resultContent
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ResultContent {
    Nothing = 0,
    Attributes = 1,
    Address = 2,
    AddressAndAttributes = 3,
    AttributesAndChildren = 4,
    AttributesAndChildReferences = 5,
    ChildReferences = 6,
    Original = 7,
    Children = 8,
    ModifiedAttributes = 9,
    Semantic = 10,
    DiscoveryReferences = 11,
    Permissions = 12,
}

/// The release of a primitive (`rvi`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Release {
    R1,
    R2,
    R2a,
    R3,
    R4,
    R5,
}

impl Operation {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Create,
            2 => Self::Retrieve,
            3 => Self::Update,
            4 => Self::Delete,
            5 => Self::Notify,
            _ => return None,
        })
    }
}

impl ResponseType {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::NonBlockingSynch,
            2 => Self::NonBlockingAsynch,
            3 => Self::Blocking,
            4 => Self::FlexBlocking,
            5 => Self::NoResponse,
            _ => return None,
        })
    }
}

impl IdFormat {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Structured,
            2 => Self::Unstructured,
            _ => return None,
        })
    }
}

impl ContentStatus {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Partial,
            2 => Self::Full,
            _ => return None,
        })
    }
}

impl ResultContent {
    /// By number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Nothing,
            1 => Self::Attributes,
            2 => Self::Address,
            3 => Self::AddressAndAttributes,
            4 => Self::AttributesAndChildren,
            5 => Self::AttributesAndChildReferences,
            6 => Self::ChildReferences,
            7 => Self::Original,
            8 => Self::Children,
            9 => Self::ModifiedAttributes,
            10 => Self::Semantic,
            11 => Self::DiscoveryReferences,
            12 => Self::Permissions,
            _ => return None,
        })
    }
}

impl Release {
    /// The text of `rvi`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::R1 => "1",
            Self::R2 => "2",
            Self::R2a => "2a",
            Self::R3 => "3",
            Self::R4 => "4",
            Self::R5 => "5",
        }
    }
    /// By that text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::R1, Self::R2, Self::R2a, Self::R3, Self::R4, Self::R5].into_iter().find(|r| r.as_str() == text)
    }
    /// Whether the hosting CSE serves it (TS-0004 7.3.2.1; transit CSEs do not judge). Absent means release 1, which is
    /// refused with RELEASE_VERSION_NOT_SUPPORTED.
    pub fn supported(rvi: Option<Self>) -> Result<Self, Refusal> {
        match rvi {
            None | Some(Self::R1) => Err(Refusal::new(
                crate::Rsc::RELEASE_VERSION_NOT_SUPPORTED,
                "rvi 1 or absent; 2, 2a, 3, 4, 5 are served",
            )),
            Some(release) => Ok(release),
        }
    }
}
