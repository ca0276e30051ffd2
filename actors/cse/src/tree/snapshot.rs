//! A tree as bytes: bincode of [`Image`]; attributes under their names, as `onemec_onem2m` writes them. Bodies of instances
//! stay in the history. Version 1 is the same without `appended`, and is still read.

use bytes::Bytes;
use onemec_onem2m::{Attributes, Span, Ty};
use onemec_wire::{ContextId, Incarnation, NodeId, Seq};

use super::instances::Extra;
use super::{Creator, Instance, Instances, Node, Tree};

/// Version of the layout.
const VERSION: u16 = 2;
/// The one before.
const WITHOUT_APPENDED: u16 = 1;

#[derive(bincode::Encode, bincode::Decode)]
struct Image {
    version: u16,
    tree: TreeImage,
    /// By node: boot and number of the last operation from its local buffer.
    appended: Vec<(NodeId, Incarnation, u64)>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct TreeImage {
    root: Seq,
    /// In the order of their places: a tree has one image only.
    nodes: Vec<NodeImage>,
    timers: Vec<(u64, Seq, Seq)>,
    home: Option<crate::op::Home>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct NodeImage {
    seq: Seq,
    ty: u16,
    name: Box<str>,
    fixed_id: Option<String>,
    parent: Option<Seq>,
    ct: u64,
    lt: u64,
    et: Option<u64>,
    st: Option<u64>,
    creator: Creator,
    shows_creator: bool,
    attributes: Vec<u8>,
    instances: Option<Vec<InstanceImage>>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct InstanceImage {
    seq: Seq,
    ct: u64,
    et: u64,
    st: u64,
    cs: u32,
    con_start: u32,
    con_len: u32,
    extra: Option<ExtraImage>,
}

/// Name, creator, encoded attributes.
type ExtraImage = (Option<Box<str>>, Option<Creator>, Vec<u8>);

impl Tree {
    /// The whole tree as bytes: equal trees give equal bytes.
    pub fn to_snapshot(&self) -> Bytes {
        let nodes = self.nodes.values().map(node_image).collect();
        let timers = self.timers.iter().copied().collect();
        let tree = TreeImage { root: self.root, nodes, timers, home: self.home.clone() };
        let appended = self.appended.iter().map(|(node, (boot, n))| (*node, *boot, *n)).collect();
        crate::codec::encode(&Image { version: VERSION, tree, appended })
    }

    /// A tree from [`Tree::to_snapshot`].
    pub fn from_snapshot(context: ContextId, bytes: &[u8]) -> Result<Self, String> {
        let version = bytes.first_chunk().map_or(0, |b| u16::from_le_bytes(*b));
        let (image, appended) = match version {
            VERSION => {
                let image: Image = crate::codec::decode_snapshot(bytes)?;
                (image.tree, image.appended)
            }
            WITHOUT_APPENDED => {
                let (_, image): (u16, TreeImage) = crate::codec::decode_snapshot(bytes)?;
                (image, Vec::new())
            }
            other => return Err(format!("version {other} is not known here")),
        };
        let mut tree = Self::new(context);
        // Parents come before their children since they were created before them.
        for n in image.nodes {
            if n.parent.is_some_and(|p| !tree.nodes.contains_key(&p)) {
                return Err(format!("resource {} has no parent", n.seq));
            }
            tree.insert(node(n)?);
        }
        if tree.root != image.root {
            return Err("more than one root".into());
        }
        tree.home = image.home;
        tree.timers = image.timers.into_iter().collect();
        tree.appended = appended.into_iter().map(|(node, boot, n)| (node, (boot, n))).collect();
        Ok(tree)
    }
}

fn node_image(n: &Node) -> NodeImage {
    NodeImage {
        seq: n.seq,
        ty: n.ty.0,
        name: n.name.clone(),
        fixed_id: n.fixed_id.clone(),
        parent: n.parent,
        ct: n.ct,
        lt: n.lt,
        et: n.et,
        st: n.st,
        creator: n.creator.clone(),
        shows_creator: n.shows_creator,
        attributes: encoded(&n.attributes),
        instances: n.instances.as_ref().map(|i| i.iter().map(instance_image).collect()),
    }
}

fn node(n: NodeImage) -> Result<Node, String> {
    Ok(Node {
        seq: n.seq,
        ty: Ty(n.ty),
        name: n.name,
        fixed_id: n.fixed_id,
        parent: n.parent,
        ct: n.ct,
        lt: n.lt,
        et: n.et,
        st: n.st,
        creator: n.creator,
        shows_creator: n.shows_creator,
        attributes: decoded(&n.attributes)?,
        children: Default::default(),
        subscriptions: Vec::new(),
        instances: n.instances.map(instances).transpose()?,
    })
}

fn instance_image(i: &Instance) -> InstanceImage {
    let extra = i.extra.as_ref().map(|e| (e.name.clone(), e.creator.clone(), encoded(&e.attributes)));
    InstanceImage {
        seq: i.seq,
        ct: i.ct,
        et: i.et,
        st: i.st,
        cs: i.cs,
        con_start: i.con.start,
        con_len: i.con.len,
        extra,
    }
}

fn instances(list: Vec<InstanceImage>) -> Result<Box<Instances>, String> {
    let mut all = Box::<Instances>::default();
    for i in list {
        let extra = match i.extra {
            Some((name, creator, bytes)) => Some(Box::new(Extra { name, creator, attributes: decoded(&bytes)? })),
            None => None,
        };
        let con = Span { start: i.con_start, len: i.con_len };
        all.push(Instance { seq: i.seq, ct: i.ct, et: i.et, st: i.st, cs: i.cs, con, extra });
    }
    Ok(all)
}

fn encoded(attributes: &Attributes) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.encode(&mut out);
    out
}

fn decoded(mut bytes: &[u8]) -> Result<Attributes, String> {
    let mut attributes = Attributes::decode(&mut bytes).map_err(|e| e.to_string())?;
    attributes.shrink();
    if bytes.is_empty() { Ok(attributes) } else { Err("attributes are too long".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onemec_core::buffer::BufferKey;

    #[test]
    fn the_version_before_is_read() {
        let context = ContextId::made(1, 1, 0);
        let mut tree = Tree::new(context);
        let without = TreeImage { root: Seq(0), nodes: Vec::new(), timers: Vec::new(), home: None };
        let old = crate::codec::encode(&(WITHOUT_APPENDED, without));
        assert_eq!(Tree::from_snapshot(context, &old), Ok(tree.clone()));
        tree.note_appended(BufferKey { node: NodeId(3), incarnation: Incarnation(2), n: 9 });
        assert_eq!(Tree::from_snapshot(context, &tree.to_snapshot()), Ok(tree));
        assert!(Tree::from_snapshot(context, &[9, 0]).is_err());
    }
}
