//! From an address inside a context to a resource: structured, unstructured and hybrid forms (TS-0001 7.2), virtual
//! resources at the end or in the middle (`fopt`).

use onemec_wire::Seq;

use super::Tree;

/// Where an address inside a context begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Start {
    /// At the root of the context (a structured address, or an AE's stem).
    Root,
    /// At the resource with this place (an unstructured address).
    Place(Seq),
}

/// An address inside a context.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Target {
    /// Where it begins.
    pub start: Start,
    /// Names of children from there on.
    pub path: Vec<String>,
}

impl Target {
    /// The root of the context.
    pub fn root() -> Self {
        Self { start: Start::Root, path: Vec::new() }
    }
}

/// The virtual resources that this CSE has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Virtual {
    /// `la`
    Latest,
    /// `ol`
    Oldest,
    /// `fopt`
    FanOutPoint,
}

impl Virtual {
    /// By its fixed name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "la" => Some(Self::Latest),
            "ol" => Some(Self::Oldest),
            "fopt" => Some(Self::FanOutPoint),
            _ => None,
        }
    }
}

/// What an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A resource.
    Node(Seq),
    /// A contentInstance: its container and itself.
    Instance(Seq, Seq),
    /// A virtual child of a resource, and how many names of the path come after it (only below `fopt`).
    Virtual(Seq, Virtual, usize),
}

impl Tree {
    /// Follows an address. `la` and `ol` are returned as such, also when the container is empty.
    pub fn find(&self, target: &Target) -> Option<Found> {
        let mut at = match target.start {
            Start::Root => Found::Node(self.root()?.seq),
            Start::Place(seq) if self.node(seq).is_some() => Found::Node(seq),
            Start::Place(seq) => self.instance_anywhere(seq)?,
        };
        for (i, name) in target.path.iter().enumerate() {
            let Found::Node(parent) = at else { return None };
            at = match (self.child(parent, name), Virtual::named(name)) {
                (Some(child), _) => child,
                (None, Some(v)) if self.has_virtual(parent, v) => {
                    let rest = target.path.len() - i - 1;
                    if rest > 0 && v != Virtual::FanOutPoint {
                        return None;
                    }
                    return Some(Found::Virtual(parent, v, rest));
                }
                _ => return None,
            };
        }
        Some(at)
    }

    /// The latest or oldest instance behind a virtual resource.
    pub fn behind(&self, container: Seq, which: Virtual) -> Option<Found> {
        let instances = self.node(container)?.instances.as_ref()?;
        let instance = match which {
            Virtual::Latest => instances.latest(),
            Virtual::Oldest => instances.oldest(),
            Virtual::FanOutPoint => None,
        }?;
        Some(Found::Instance(container, instance.seq))
    }

    /// Names from the root of the context down to the resource; empty for the root itself. The root's own name and the
    /// CSEBase's are put before it by who knows where the context lives.
    pub fn path_below_root(&self, found: Found) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = match found {
            Found::Node(seq) | Found::Virtual(seq, _, _) => seq,
            Found::Instance(container, seq) => {
                let instance = self.node(container).and_then(|n| n.instances.as_ref()).and_then(|i| i.get(seq));
                names.extend(instance.map(super::Instance::name));
                container
            }
        };
        while let Some(node) = self.node(at) {
            let Some(parent) = node.parent else { break };
            names.push(node.name.to_string());
            at = parent;
        }
        names.reverse();
        names
    }

    fn has_virtual(&self, seq: Seq, which: Virtual) -> bool {
        use onemec_onem2m::Ty;
        let Some(node) = self.node(seq) else { return false };
        match which {
            Virtual::Latest | Virtual::Oldest => node.ty == Ty::CONTAINER,
            Virtual::FanOutPoint => node.ty == Ty::GROUP,
        }
    }

    /// An instance by its place alone: the containers are few, each search is logarithmic.
    fn instance_anywhere(&self, seq: Seq) -> Option<Found> {
        self.nodes().find_map(|n| n.instances.as_ref().and_then(|i| i.get(seq)).map(|i| Found::Instance(n.seq, i.seq)))
    }
}
