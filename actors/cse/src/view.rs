//! How `onemec_onem2m` sees a tree: its filters, result contents and notifications are written against these traits.

use std::borrow::Cow;

use bytes::Bytes;
use onemec_core::context::History;
use onemec_onem2m::view::Resource;
use onemec_onem2m::{AttrId, CseIdentity, IdFormat, Span, Timestamp, Ty, Value};

use crate::tree::{Creator, Found, Instance, Node, Tree};

/// A tree together with where its bodies are and where it lives.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The resources.
    pub tree: &'a Tree,
    /// Bodies of contentInstances.
    pub history: &'a dyn History,
    /// The CSE where the context is at home: names and CSE-IDs are rendered for it (DESIGN.md section 5).
    pub home: &'a CseIdentity,
}

/// A resource of a [`View`].
#[derive(Clone, Copy)]
pub struct Handle<'a> {
    view: View<'a>,
    node: &'a Node,
    instance: Option<&'a Instance>,
}

impl<'a> View<'a> {
    /// The resource at a place; `None` for virtual ones.
    pub fn handle(&self, found: Found) -> Option<Handle<'a>> {
        match found {
            Found::Node(seq) => Some(Handle { view: *self, node: self.tree.node(seq)?, instance: None }),
            Found::Instance(container, seq) => {
                let node = self.tree.node(container)?;
                let instance = node.instances.as_ref()?.get(seq)?;
                Some(Handle { view: *self, node, instance: Some(instance) })
            }
            Found::Virtual(..) => None,
        }
    }

    /// The root of the context.
    pub fn root(&self) -> Option<Handle<'a>> {
        Some(Handle { view: *self, node: self.tree.root()?, instance: None })
    }

    /// The structured, CSE-relative address of a resource.
    pub fn structured(&self, found: Found) -> String {
        let mut out = self.home.base_name.to_string();
        if let Some(root) = self.tree.root()
            && root.ty != Ty::CSE_BASE
        {
            out.push('/');
            out.push_str(&root.name);
        }
        for name in self.tree.path_below_root(found) {
            out.push('/');
            out.push_str(&name);
        }
        out
    }

    /// A creator as an identifier.
    pub fn creator_id(&self, creator: &'a Creator) -> Cow<'a, str> {
        match creator {
            Creator::Owner => self.tree.root().and_then(|r| r.fixed_id.as_deref()).unwrap_or_default().into(),
            Creator::Cse => Cow::Borrowed(&self.home.cse_id),
            Creator::Other(id) => Cow::Borrowed(id),
        }
    }
}

impl<'a> Handle<'a> {
    /// Where it is.
    pub fn found(&self) -> Found {
        match self.instance {
            Some(i) => Found::Instance(self.node.seq, i.seq),
            None => Found::Node(self.node.seq),
        }
    }

    /// Its `ri`.
    pub fn rid(&self) -> String {
        match self.instance {
            Some(i) => crate::rid::text(self.view.tree.context(), i.seq),
            None => self.view.tree.rid(self.node.seq),
        }
    }

    /// A contentInstance whose container says `disr`: it is not shown, whichever way it is asked for (TS-0001 9.6.6).
    pub fn is_disabled(&self) -> bool {
        self.instance.is_some() && self.node.flag(AttrId::DISR)
    }

    /// Its `rn`.
    pub fn name(&self) -> Cow<'a, str> {
        match self.instance {
            Some(i) => i.given_name().map_or_else(|| Cow::Owned(i.name()), Cow::Borrowed),
            None => Cow::Borrowed(&self.node.name),
        }
    }

    /// The tree that it is in.
    pub fn tree(&self) -> &'a Tree {
        self.view.tree
    }

    /// Another resource of the same tree.
    pub fn at(&self, found: Found) -> Option<Self> {
        self.view.handle(found)
    }

    fn parent_id(&self) -> String {
        match (self.instance, self.node.parent) {
            (Some(_), _) => self.view.tree.rid(self.node.seq),
            (None, Some(parent)) => self.view.tree.rid(parent),
            (None, None) if self.node.ty == Ty::CSE_BASE => String::new(),
            (None, None) => base_id(self.view.home).to_owned(),
        }
    }

    fn creator(&self) -> Option<&'a Creator> {
        match self.instance {
            Some(i) => i.extra.as_ref().and_then(|e| e.creator.as_ref()),
            None => self.node.shows_creator.then_some(&self.node.creator),
        }
    }

    /// What the CSE derives instead of storing it.
    fn derived(&self, id: AttrId) -> Option<Value> {
        let time = |ms: u64| Value::Time(Timestamp::from_ms(ms));
        let int = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let node = self.node;
        Some(match id {
            AttrId::RN => Value::str(&*self.name()),
            AttrId::TY => Value::Int(i64::from(self.ty().0)),
            AttrId::RI => Value::str(self.rid()),
            AttrId::PI => Value::str(self.parent_id()),
            AttrId::CT => time(self.instance.map_or(node.ct, |i| i.ct)),
            AttrId::LT => time(self.instance.map_or(node.lt, |i| i.ct)),
            AttrId::ET => time(self.instance.map_or(node.et, |i| Some(i.et))?),
            AttrId::ST => int(self.instance.map_or(node.st, |i| Some(i.st))?),
            AttrId::CR => Value::str(self.view.creator_id(self.creator()?)),
            AttrId::CS => int(u64::from(self.instance?.cs)),
            AttrId::CON => Value::Raw(self.instance?.con),
            AttrId::AEI if node.ty == Ty::AE && self.instance.is_none() => Value::str(self.rid()),
            AttrId::CNI if node.ty == Ty::CONTAINER && self.instance.is_none() => int(node.instance_count() as u64),
            AttrId::CBS if node.ty == Ty::CONTAINER && self.instance.is_none() => {
                int(node.instances.as_ref().map_or(0, |i| i.bytes()))
            }
            _ => return None,
        })
    }

    fn stored(&self) -> Option<&'a onemec_onem2m::Attributes> {
        match self.instance {
            Some(i) => i.extra.as_ref().map(|e| &e.attributes),
            None => Some(&self.node.attributes),
        }
    }
}

/// The unstructured resource id of a CSE's CSEBase: its CSE-ID without the slash.
pub fn base_id(cse: &CseIdentity) -> &str {
    cse.cse_id.trim_start_matches('/')
}

/// Derived attributes that come first and last in a representation.
const FIRST: [AttrId; 8] =
    [AttrId::RN, AttrId::TY, AttrId::RI, AttrId::PI, AttrId::CT, AttrId::LT, AttrId::ET, AttrId::ST];
const LAST: [AttrId; 6] = [AttrId::CR, AttrId::AEI, AttrId::CNI, AttrId::CBS, AttrId::CS, AttrId::CON];

impl Resource for Handle<'_> {
    fn ty(&self) -> Ty {
        if self.instance.is_some() { Ty::CONTENT_INSTANCE } else { self.node.ty }
    }

    fn get(&self, id: AttrId) -> Option<Cow<'_, Value>> {
        match self.derived(id) {
            Some(value) => Some(Cow::Owned(value)),
            None => self.stored()?.get(id).map(Cow::Borrowed),
        }
    }

    fn visit(&self, each: &mut dyn FnMut(AttrId, &Value)) {
        let mut derived = |id: AttrId| {
            if let Some(value) = self.derived(id) {
                each(id, &value);
            }
        };
        FIRST.into_iter().for_each(&mut derived);
        LAST.into_iter().for_each(&mut derived);
        for (id, value) in self.stored().into_iter().flat_map(onemec_onem2m::Attributes::iter) {
            each(id, value);
        }
    }

    fn raw(&self, span: Span) -> Option<Bytes> {
        span.of(&self.view.history.record(self.instance?.seq)?.body())
    }
}

impl<'a> onemec_onem2m::Tree for View<'a> {
    type Node = Handle<'a>;

    fn parent(&self, node: &Handle<'a>) -> Option<Handle<'a>> {
        match node.instance {
            Some(_) => Some(Handle { instance: None, ..*node }),
            None => node.view.handle(Found::Node(node.node.parent?)),
        }
    }

    fn children(&self, node: &Handle<'a>, each: &mut dyn FnMut(Handle<'a>) -> bool) {
        if node.instance.is_some() {
            return;
        }
        // Oldest first: a child's place in the log is its age. Both lists are sorted by it and merged.
        let mut nodes: Vec<_> = node.node.children.values().copied().collect();
        nodes.sort_unstable();
        let mut nodes = nodes.into_iter().peekable();
        let mut instances = node.node.instances.iter().flat_map(|i| i.iter()).peekable();
        loop {
            let next = match (nodes.peek(), instances.peek()) {
                (Some(n), Some(i)) if *n < i.seq => nodes.next().and_then(|n| node.view.handle(Found::Node(n))),
                (_, Some(_)) => instances.next().map(|i| Handle { instance: Some(i), ..*node }),
                (Some(_), None) => nodes.next().and_then(|n| node.view.handle(Found::Node(n))),
                (None, None) => break,
            };
            if next.is_some_and(|n| !each(n)) {
                return;
            }
        }
    }

    fn address(&self, node: &Handle<'a>, format: IdFormat) -> String {
        match format {
            IdFormat::Structured => node.view.structured(node.found()),
            IdFormat::Unstructured => node.rid(),
        }
    }
}
