//! Where a call goes next (rule 11). Pure.

use onemec_wire::{Epoch, NodeId};

use super::body::HOPS_MAX;

/// What a node knows about a context when a call for it arrives or comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The primary by the applied directory.
    pub primary: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// The next step of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run it here.
    Here,
    /// Send it there.
    Forward(NodeId),
    /// Wait until the directory has applied more, then look again.
    WaitApply,
    /// Ask the directory's leader, then look once more.
    LeaderRead,
    /// Give up: 503, it was not applied.
    GiveUp,
}

/// A call's history at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    /// Forwarded so often in all.
    pub hops: u8,
    /// The newest epoch at which somebody said "not here".
    pub refused_at: Option<Epoch>,
    /// Waited for the directory already.
    pub waited: bool,
    /// Read from the leader already.
    pub read: bool,
}

/// Decides. A node that is not primary forwards only towards a higher epoch than the one at which it was refused.
pub fn next(me: NodeId, known: Option<Known>, tried: Tried) -> Next {
    let newer = |k: &Known| tried.refused_at.is_none_or(|at| k.epoch > at);
    match known {
        Some(k) if k.primary == me && newer(&k) => Next::Here,
        Some(k) if newer(&k) && tried.hops < HOPS_MAX => Next::Forward(k.primary),
        Some(k) if newer(&k) => Next::GiveUp,
        _ if !tried.waited => Next::WaitApply,
        _ if !tried.read => Next::LeaderRead,
        _ => Next::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn known(primary: u64, epoch: u64) -> Option<Known> {
        Some(Known { primary: NodeId(primary), epoch: Epoch(epoch) })
    }

    #[test]
    fn rule_11_forwards_only_towards_a_higher_epoch() {
        let refused = Tried { hops: 1, refused_at: Some(Epoch(3)), ..Tried::default() };
        assert_eq!(next(ME, known(2, 3), refused), Next::WaitApply);
        assert_eq!(next(ME, known(2, 4), refused), Next::Forward(NodeId(2)));
        assert_eq!(next(ME, known(1, 4), refused), Next::Here);
    }

    #[test]
    fn rule_11_waits_then_reads_then_gives_up() {
        let t = Tried { refused_at: Some(Epoch(3)), waited: true, ..Tried::default() };
        assert_eq!(next(ME, known(2, 3), t), Next::LeaderRead);
        assert_eq!(next(ME, known(2, 3), Tried { read: true, ..t }), Next::GiveUp);
        assert_eq!(next(ME, None, Tried::default()), Next::WaitApply);
    }

    #[test]
    fn rule_11_three_hops_are_the_most() {
        assert_eq!(next(ME, known(2, 9), Tried { hops: HOPS_MAX, ..Tried::default() }), Next::GiveUp);
    }
}
