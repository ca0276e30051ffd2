//! How filters, access control and result content see resources: traits that the resource tree implements.

use std::borrow::Cow;

use bytes::Bytes;

use crate::attributes::Attributes;
use crate::operation::IdFormat;
use crate::tables::{AttrId, Ty};
use crate::value::{Span, Value};

/// One resource.
pub trait Resource {
    /// Its type.
    fn ty(&self) -> Ty;
    /// One attribute, those that the CSE sets (`ty`, `ri`, `pi`, `rn`, `ct`, `cs` ...) included.
    fn get(&self, id: AttrId) -> Option<Cow<'_, Value>>;
    /// Every attribute, in the order in which they shall appear.
    fn visit(&self, each: &mut dyn FnMut(AttrId, &Value));
    /// The bytes of a [`Value::Raw`]; `None` if they are not at hand: it is then rendered as null.
    fn raw(&self, span: Span) -> Option<Bytes>;
    /// The name of its representation in JSON (`m2m:cnt`).
    fn root(&self) -> &str {
        self.ty().info().map_or("m2m:unknown", |t| t.root)
    }
}

/// A tree of resources. Virtual resources are no part of it.
pub trait Tree {
    /// A handle of a resource, cheap to clone.
    type Node: Resource + Clone;
    /// The parent; `None` for the CSEBase, or if it is not visible here.
    fn parent(&self, node: &Self::Node) -> Option<Self::Node>;
    /// Calls `each` for the direct children, oldest first, until it says false.
    fn children(&self, node: &Self::Node, each: &mut dyn FnMut(Self::Node) -> bool);
    /// CSE-relative address.
    fn address(&self, node: &Self::Node, format: IdFormat) -> String;
}

/// A resource on its own: a copy, or one that has been deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Detached {
    /// Type.
    pub ty: Ty,
    /// All attributes.
    pub attributes: Attributes,
    /// What [`Value::Raw`] points into.
    pub body: Bytes,
}

impl Resource for Detached {
    fn ty(&self) -> Ty {
        self.ty
    }
    fn get(&self, id: AttrId) -> Option<Cow<'_, Value>> {
        self.attributes.get(id).map(Cow::Borrowed)
    }
    fn visit(&self, each: &mut dyn FnMut(AttrId, &Value)) {
        for (id, value) in self.attributes.iter() {
            each(id, value);
        }
    }
    fn raw(&self, span: Span) -> Option<Bytes> {
        span.of(&self.body)
    }
}

impl Span {
    /// The bytes inside `body`; `None` if it is shorter.
    pub fn of(self, body: &Bytes) -> Option<Bytes> {
        let start = usize::try_from(self.start).ok()?;
        let end = start.checked_add(usize::try_from(self.len).ok()?)?;
        (end <= body.len()).then(|| body.slice(start..end))
    }
}
