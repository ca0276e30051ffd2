//! RETRIEVE and discovery (TS-0004 7.3.3.6, 7.3.3.14) on a tree that is only read.

use std::cell::RefCell;

use onemec_onem2m::access::Operations;
use onemec_onem2m::filter::{FilterCriteria, FilterUsage};
use onemec_onem2m::result::{self, Branch, Nesting, Reference, Room, Wanted};
use onemec_onem2m::view::Resource;
use onemec_onem2m::{AttrId, IdFormat, Operation, Refusal, ResultContent, Rsc, Tree as _, Ty};

use crate::access::{Access, Asker, Stop};
use crate::op::{Needs, Read, Reply, ResourceFacts, Way};
use crate::tree::{Found, Target, Tree, Virtual};
use crate::view::{Handle, View};

/// Most policies that one request asks for.
const NEEDS_MAX: usize = 64;

/// Answers a RETRIEVE: control part and content.
pub fn retrieve(view: &View<'_>, read: &Read, asker: &Asker<'_>) -> Result<(Reply, Vec<u8>), Stop> {
    let filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?;
    let rcn = ResultContent::from_u8(read.rcn).ok_or_else(|| Refusal::bad_request("rcn is not known"))?;
    let found = locate(view.tree, &read.target)?;
    asker.may(view.tree, found, Operation::Retrieve.into(), None).required()?;
    let handle = view.handle(found).ok_or_else(not_found)?;
    if handle.is_disabled() {
        return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "retrieval is disabled (disr)").into());
    }
    if let Some(filter) = &filter {
        filter.check()?;
        let of_target = matches!(rcn, ResultContent::Attributes | ResultContent::Original);
        if of_target && filter.has_conditions() && !filter.matches(view, &handle) {
            return Err(Refusal::new(Rsc::NOT_FOUND, "the resource does not match the filter criteria").into());
        }
    }
    let attributes = attribute_ids(&handle, &read.attributes)?;
    let format = format(read);
    let wanted = Wanted { rcn, format, filter: filter.as_ref(), attributes: &attributes };
    let needs = RefCell::default();
    // References and children show what the originator may retrieve (TS-0001 10.2.6.2).
    let mut visible = |h: &Handle<'_>| visible(asker, h, Operation::Retrieve.into(), &needs);
    let content = result::retrieved(view, &handle, &wanted, &mut visible)?;
    enough(needs.into_inner())?;
    let reply = Reply::Done { rsc: Rsc::OK.0, created: None, next_offset: content.next_offset };
    Ok((reply, content.body.unwrap_or_default()))
}

/// What a discovery finds in one context, in the order of the tree. Offset and limit are the caller's where it searches
/// more than one context: it passes criteria without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// References.
    pub references: Vec<Reference>,
    /// There are more: the offset at which to go on.
    pub next_offset: Option<u32>,
}

/// Adds the children of a resource to a result (rcn 4 and 8).
pub fn nest(
    view: &View<'_>,
    target: &Handle<'_>,
    filter: &FilterCriteria,
    asker: &Asker<'_>,
    nesting: &mut Nesting,
) -> Result<(), Stop> {
    let needs = RefCell::default();
    let mut visible = |h: &Handle<'_>| visible(asker, h, Operation::Retrieve.into(), &needs);
    nesting.offer_children(view, target, filter, &mut visible);
    enough(needs.into_inner())
}

/// The target of a read as a child of a resource in another context (rcn 4 and 8); `None` if it is not shown there.
pub fn branch(view: &View<'_>, read: &Read, asker: &Asker<'_>, room: Room) -> Result<Option<Branch>, Stop> {
    let filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?.unwrap_or_default();
    let handle = view.handle(locate(view.tree, &read.target)?).ok_or_else(not_found)?;
    let needs = RefCell::default();
    let mut visible = |h: &Handle<'_>| visible(asker, h, Operation::Retrieve.into(), &needs);
    let branch = result::branch(view, &handle, &filter, &mut visible, room);
    enough(needs.into_inner())?;
    Ok(branch)
}

/// Answers a discovery, or the references of a retrieve with them. `with_target`: the target itself is a candidate, one level below where the search began.
pub fn discover(view: &View<'_>, read: &Read, asker: &Asker<'_>, with_target: bool) -> Result<Discovered, Stop> {
    let mut filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?.unwrap_or_default();
    filter.check()?;
    let found = locate(view.tree, &read.target)?;
    let target = view.handle(found).ok_or_else(not_found)?;
    let needs = RefCell::default();
    let operation = match filter.fu {
        Some(FilterUsage::Discovery) => Operations::DISCOVERY,
        _ => Operation::Retrieve.into(),
    };
    let mut may_see = |h: &Handle<'_>| visible(asker, h, operation, &needs);
    let mut handles = Vec::new();
    if with_target {
        if filter.matches(view, &target) && may_see(&target) {
            handles.push(target);
        }
        if filter.lvl == Some(1) {
            return finish(view, read, asker, &filter, handles, None, needs.into_inner());
        }
        filter.lvl = filter.lvl.map(|l| l - 1);
    }
    // The target stands at the first place.
    let own = handles.len();
    if with_target {
        match filter.ofst {
            Some(offset) if offset > 1 => {
                handles.clear();
                filter.ofst = Some(offset - u32::try_from(own).unwrap_or(0));
            }
            _ => filter.lim = filter.lim.map(|l| l.saturating_sub(u32::try_from(own).unwrap_or(0))),
        }
    }
    let mut more = filter.search(view, &target, &mut may_see);
    more.next_offset = more.next_offset.map(|next| next.saturating_add(u32::try_from(own).unwrap_or(0)));
    handles.extend(more.nodes);
    finish(view, read, asker, &filter, handles, more.next_offset, needs.into_inner())
}

fn finish(
    view: &View<'_>,
    read: &Read,
    asker: &Asker<'_>,
    filter: &FilterCriteria,
    handles: Vec<Handle<'_>>,
    next_offset: Option<u32>,
    needs: Needs,
) -> Result<Discovered, Stop> {
    enough(needs)?;
    let references = handles
        .into_iter()
        .filter_map(|handle| match &filter.arp {
            None => Some(reference(view, &handle, read)),
            Some(path) => related(view, &handle, read, asker, path),
        })
        .collect();
    Ok(Discovered { references, next_offset })
}

fn reference(view: &View<'_>, handle: &Handle<'_>, read: &Read) -> Reference {
    Reference { name: handle.name().into_owned(), ty: handle.ty(), address: view.address(handle, format(read)) }
}

/// `arp`: what lies at a path below a match, if the originator may see it (TS-0004 7.3.3.17.17).
fn related(view: &View<'_>, handle: &Handle<'_>, read: &Read, asker: &Asker<'_>, path: &str) -> Option<Reference> {
    let Found::Node(seq) = handle.found() else { return None };
    let path: Vec<String> = path.trim_matches('/').split('/').map(str::to_owned).collect();
    let tree = handle.tree();
    let found = tree.find(&Target { start: crate::tree::Start::Place(seq), path: path.clone() })?;
    if asker.may(tree, found, Operations::DISCOVERY, None) != Access::Granted {
        return None;
    }
    match found {
        Found::Virtual(parent, which, _) => {
            if which != Virtual::FanOutPoint {
                tree.behind(parent, which)?;
            }
            let address = format!("{}/{}", view.address(handle, format(read)), path.join("/"));
            Some(Reference { name: path.last()?.clone(), ty: handle.ty(), address })
        }
        _ => Some(reference(view, &handle.at(found)?, read)),
    }
}

/// The members of a group behind its fan-out point, or an AE's points of access, if the originator may use that for
/// `operation`.
pub fn way(tree: &Tree, target: &Target, operation: Operations, asker: &Asker<'_>) -> Result<Way, Stop> {
    let found = tree.find(target).ok_or_else(not_found)?;
    let (Found::Virtual(seq, Virtual::FanOutPoint, _) | Found::Node(seq)) = found else {
        return Err(not_found().into());
    };
    asker.may(tree, found, operation, None).required()?;
    let leads = if matches!(found, Found::Node(_)) { AttrId::POA } else { AttrId::MID };
    let to = tree.node(seq).map(|n| n.texts(leads).map(str::to_owned).collect()).unwrap_or_default();
    Ok(Way { rid: tree.rid(seq), to })
}

/// What other contexts may need to know of a resource.
pub fn facts(view: &View<'_>, target: &Target) -> Option<ResourceFacts> {
    let found = locate(view.tree, target).ok()?;
    let handle = view.handle(found)?;
    let texts = |id| handle.get(id).map(|v| v.strings().map(str::to_owned).collect()).unwrap_or_default();
    Some(ResourceFacts {
        rid: handle.rid(),
        ty: handle.ty().0,
        name: handle.name().into_owned(),
        poa: texts(AttrId::POA),
        reachable: handle.get(AttrId::RR).and_then(|v| v.as_bool()).unwrap_or(handle.ty() == Ty::CSE_BASE),
        members: texts(AttrId::MID),
        csi: handle.get(AttrId::CSI).and_then(|v| v.as_str().map(str::to_owned)),
        cst: handle.get(AttrId::CST).and_then(|v| v.as_u64()).and_then(|n| u8::try_from(n).ok()),
    })
}

/// The resource behind an address; `la` and `ol` lead to the instance.
fn locate(tree: &Tree, target: &Target) -> Result<Found, Refusal> {
    match tree.find(target).ok_or_else(not_found)? {
        Found::Virtual(container, which @ (Virtual::Latest | Virtual::Oldest), _) => {
            tree.behind(container, which).ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, "the container has no instance"))
        }
        Found::Virtual(..) => Err(not_found()),
        found => Ok(found),
    }
}

fn visible(asker: &Asker<'_>, handle: &Handle<'_>, operation: Operations, needs: &RefCell<Needs>) -> bool {
    if handle.is_disabled() {
        return false;
    }
    match asker.may(handle.tree(), handle.found(), operation, None) {
        Access::Granted => true,
        Access::Denied => false,
        Access::Needs(more) => {
            let mut needs = needs.borrow_mut();
            merge(&mut needs.policies, more.policies);
            merge(&mut needs.groups, more.groups);
            false
        }
    }
}

fn merge(into: &mut Vec<String>, more: Vec<String>) {
    for item in more {
        if into.len() < NEEDS_MAX && !into.contains(&item) {
            into.push(item);
        }
    }
}

fn enough(needs: Needs) -> Result<(), Stop> {
    if needs.is_empty() { Ok(()) } else { Err(Stop::Needs(needs)) }
}

fn attribute_ids(handle: &Handle<'_>, names: &[String]) -> Result<Vec<AttrId>, Refusal> {
    let info = handle.ty().info();
    names
        .iter()
        .map(|name| {
            AttrId::from_short(name)
                .filter(|id| info.is_some_and(|i| i.has(*id)))
                .ok_or_else(|| Refusal::bad_request(format!("the resource has no attribute {name}")))
        })
        .collect()
}

fn format(read: &Read) -> IdFormat {
    if read.unstructured { IdFormat::Unstructured } else { IdFormat::Structured }
}

fn not_found() -> Refusal {
    Refusal::new(Rsc::NOT_FOUND, "no such resource")
}
