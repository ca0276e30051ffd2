//! Every code that this crate tells an operator, with its cause and cure: the source of the pages under docs/errors.

/// A code, what caused it, what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePage {
    /// The code.
    pub code: &'static str,
    /// Its cause, and what it did to the state.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

const fn page(code: &'static str, cause: &'static str, cure: &'static str) -> CodePage {
    CodePage { code, cause, cure }
}

/// All of them, sorted by code. Whatever the code, a group that did not move is served where it was.
pub const PAGES: &[CodePage] = &[
    page("attempts", "All attempts of a move were used up.", "See the last failure; order the move again later."),
    page("bad-data", "A node reports figures that make no sense.", "Look at that node's log; restart it."),
    page("bundle-split", "AEs that should move together are in different groups.", "Regroup them first."),
    page("bundle-too-large", "More than 256 contexts should move together.", "Split the request."),
    page("cancelled", "A drain or a move was cancelled.", "Order it again if it is wanted after all."),
    page("crashed", "The program failed while it moved a group.", "Report the log; order the move again."),
    page(
        "credentials",
        "The device could not prove at the node who it is, or would lose TLS.",
        "Give the node TLS or the device's token, or choose another.",
    ),
    page("deadline", "A move found no target in its time.", "See the last failure; give it more time (move_ms_max)."),
    page("domain", "The node belongs to a domain that the request does not allow.", "Allow it, or choose another."),
    page("draining", "The node is being emptied.", "Choose another, or end the drain (undrain)."),
    page("full", "The node has as many AEs as it may have.", "Raise aes_max, or choose another."),
    page("is-current", "The node serves the AE already.", "Nothing."),
    page("moves-failed", "Many moves failed within a minute.", "See `onemec handovers` for their codes."),
    page("moves-frequent", "A group moves to and fro.", "Look who orders its moves; widen the thresholds."),
    page(
        "moves-slow",
        "Moves interrupted their devices for longer than 200 ms.",
        "See `onemec handovers` for the phase that took long.",
    ),
    page("name-taken", "A name of the AE is taken at the node.", "Rename one of the two, or choose another node."),
    page("no-api", "The node does not offer an API that is needed.", "Start the API there, or choose another."),
    page("no-candidate", "No node may take the AE.", "`onemec candidates AE` tells why for each."),
    page("no-capability", "The node lacks a capability that is needed.", "Choose another, or ask for less."),
    page("no-context", "There is no such AE, or its group is empty.", "Check the name; it may have been deleted."),
    page("no-role", "The node lacks a role that is needed.", "Give it the role in the topology, or choose another."),
    page("no-space", "The node's disk has no room for the history.", "Free space there, or choose another."),
    page("not-ready", "The node has no lease or has just started.", "Wait; it is asked again by itself."),
    page("not-up", "The node is not up.", "Start it, or choose another."),
    page("not-wanted", "The request itself excludes the node.", "Nothing."),
    page("overloaded", "The node has too little free capacity.", "Wait, choose another, or balance the load."),
    page("pinned", "A resource of the CSEBase itself does not move.", "Move AEs only."),
    page("residency", "The data must not go there.", "Choose a node that the label permits, or change the label."),
    page("stale-data", "Nothing was heard from the node for too long.", "Check its network; see `onemec status`."),
    page("timeout", "A move of a drain had no end in time.", "Look at `onemec ae show`; order it again."),
    page("token-ae", "A handover token was shown by another AE.", "Register anew; look for a mix-up or misuse."),
    page(
        "token-credential",
        "A handover token came with another credential.",
        "Register anew with the new credential.",
    ),
    page("token-expired", "A handover token is too old.", "Register anew; raise token_ms; check the clocks."),
    page("token-key", "A handover token was signed with a key that is out of use.", "Register anew."),
    page("token-malformed", "What was shown is no handover token.", "Register anew; send the token as it was given."),
    page("token-signature", "A handover token was altered or is another cluster's.", "Register anew."),
    page(
        "token-used",
        "The AE was moved with this handover token already; a token is good for one re-attachment.",
        "Use the token of that move's answer, or retrieve the AE: the answer carries a fresh one.",
    ),
    page("too-large", "The group's history is larger than the node takes.", "Choose another, or keep less history."),
    page("too-many-moves", "Many moves towards the node are under way.", "Wait; it is asked again by itself."),
    page("trust", "The node lacks a trust word that is needed.", "Choose another."),
    page("unknown", "Whether a group moved is not known.", "Look at `onemec ae show`."),
];

/// The page of a code.
pub fn page_of(code: &str) -> Option<&'static CodePage> {
    PAGES.binary_search_by(|p| p.code.cmp(code)).ok().and_then(|at| PAGES.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::AdmissionCode;
    use crate::candidates::ExclusionCode;

    #[test]
    fn every_code_has_its_page() {
        assert!(PAGES.is_sorted_by(|a, b| a.code < b.code));
        for code in AdmissionCode::ALL {
            assert!(page_of(code.as_str()).is_some(), "{code:?}");
        }
        for code in ExclusionCode::ALL {
            assert!(page_of(code.as_str()).is_some(), "{code:?}");
        }
        let other = ["attempts", "deadline", "no-candidate", "cancelled", "unknown", "crashed", "timeout"];
        let alarms = ["moves-failed", "moves-frequent", "moves-slow"];
        for code in other.into_iter().chain(alarms) {
            assert!(page_of(code).is_some(), "{code}");
        }
        assert_eq!(page_of("nonsense"), None);
    }
}
