//! Values of attributes, compact: 24 bytes each plus text.

use crate::time::Timestamp;

/// A range of bytes inside the body that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// The value of one attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Only in updates: delete the attribute (TS-0004 7.3.3.7).
    Null,
    /// Boolean.
    Bool(bool),
    /// Any integer type and every enumeration.
    Int(i64),
    /// xs:float, xs:double.
    Float(f64),
    /// m2m:timestamp.
    Time(Timestamp),
    /// Any textual type.
    Str(Box<str>),
    /// A list of simple values.
    List(Box<[Value]>),
    /// Compact JSON text of a complex value, or of a list of complex values.
    Json(Box<str>),
    /// JSON text that stays where it is: in the body that the client sent (contentInstance `con`).
    Raw(Span),
}

impl Value {
    /// Bytes that it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Str(text) | Self::Json(text) => text.len(),
            Self::List(items) => items.iter().map(|v| size_of::<Self>() + v.heap_bytes()).sum(),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Time(_) | Self::Raw(_) => 0,
        }
    }
    /// A textual value.
    pub fn str(text: impl Into<Box<str>>) -> Self {
        Self::Str(text.into())
    }
    /// A list of texts.
    pub fn list<S: Into<Box<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::List(items.into_iter().map(Self::str).collect())
    }
    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }
    /// The integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }
    /// The integer, if not negative.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_int().and_then(|n| u64::try_from(n).ok())
    }
    /// The boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }
    /// The timestamp.
    pub fn as_time(&self) -> Option<Timestamp> {
        match self {
            Self::Time(t) => Some(*t),
            _ => None,
        }
    }
    /// The elements.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
    /// The texts of a list.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.as_list().unwrap_or_default().iter().filter_map(Self::as_str)
    }
    /// The JSON text of a complex value.
    pub fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(text) => Some(text),
            _ => None,
        }
    }
}
