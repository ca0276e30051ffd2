//! DELETE (TS-0004 7.3.3.8), and what else takes resources away.

use onemec_core::context::Outcome;
use onemec_onem2m::access::Operations;
use onemec_onem2m::filter::FilterCriteria;
use onemec_onem2m::result::{self, Wanted};
use onemec_onem2m::{AttrId, IdFormat, Operation, Refusal, ResultContent, Rsc, Ty};

use super::{Cx, Done, container, events};
use crate::access::{Access, Stop};
use crate::op::{Reply, Write};
use crate::tree::{Found, Tree};

/// A DELETE that can be executed.
pub(super) struct Plan {
    found: Found,
    /// Content of the answer: the resource as it was.
    body: Vec<u8>,
}

pub(super) fn plan(tree: &Tree, cx: &Cx<'_>, write: &Write) -> Result<Plan, Stop> {
    super::check_result_content(Operation::Delete, write.rcn)?;
    let no_such = || Refusal::new(Rsc::NOT_FOUND, "no such resource");
    let addressed = tree.find(&write.target).ok_or_else(no_such)?;
    let found = match addressed {
        Found::Virtual(container, which, _) => tree.behind(container, which).ok_or_else(no_such)?,
        other => other,
    };
    cx.asker.may(tree, found, Operation::Delete.into(), None).required()?;
    match found {
        Found::Node(seq) if tree.node(seq).is_some_and(|n| n.ty == Ty::CSE_BASE) => {
            return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "a CSEBase cannot be deleted").into());
        }
        Found::Instance(container, _) if tree.node(container).is_some_and(|n| n.flag(AttrId::DISR)) => {
            return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "retrieval is disabled (disr)").into());
        }
        _ => {}
    }
    super::check_condition(tree, cx, write, found)?;
    let rcn = ResultContent::from_u8(write.rcn).unwrap_or(ResultContent::Nothing);
    let view = cx.view(tree);
    let body = match view.handle(found) {
        Some(handle) if rcn != ResultContent::Nothing => {
            let filter = write.filter.as_deref().map(FilterCriteria::from_json).transpose()?;
            let format = if write.unstructured { IdFormat::Unstructured } else { IdFormat::Structured };
            let wanted = Wanted { rcn, format, filter: filter.as_ref(), attributes: &[] };
            let mut visible = |h: &crate::view::Handle<'_>| {
                !h.is_disabled()
                    && cx.asker.may(tree, h.found(), Operations::from(Operation::Retrieve), None) == Access::Granted
            };
            result::retrieved(&view, &handle, &wanted, &mut visible)?.body.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    Ok(Plan { found, body })
}

pub(super) fn execute(tree: &mut Tree, cx: &Cx<'_>, plan: Plan, outcome: &mut Outcome) -> Done {
    remove(tree, cx, plan.found, outcome);
    Ok((Reply::Done { rsc: Rsc::DELETED.0, created: None, next_offset: None }, plan.body))
}

/// Takes a resource away with all below it, tells those who subscribed to it, and gives up the bodies that it kept.
pub(super) fn remove(tree: &mut Tree, cx: &Cx<'_>, found: Found, outcome: &mut Outcome) {
    match found {
        Found::Instance(container, seq) => {
            events::child_deleted(tree, cx, container, found, outcome);
            tree.remove_instance(container, seq);
            outcome.released.push(seq);
            container::touch(tree, container, cx.now_ms);
        }
        Found::Node(seq) => {
            let parent = tree.node(seq).and_then(|n| n.parent);
            if let Some(parent) = parent {
                events::child_deleted(tree, cx, parent, found, outcome);
            }
            events::subtree_deleted(tree, cx, seq, outcome);
            events::name_free(tree, seq, outcome);
            for gone in tree.remove(seq) {
                outcome.released.extend(gone.instances.iter().flat_map(|i| i.iter()).map(|i| i.seq));
            }
            // The AE itself: its context ends with it (rule 13).
            outcome.finished |= parent.is_none();
        }
        Found::Virtual(..) => {}
    }
}
