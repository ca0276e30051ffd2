//! Known bugs that can be switched on in tests (feature `planted`), to show that the simulation finds them. Without the
//! feature every question is the constant `false`.

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// An operation is committed before the replicas hold it (rule 5).
    AckBeforeHeld,
    /// Answers leave without a look at the lease (rule 2).
    NoLeaseCheck,
    /// Leases are granted without a round of voters (rule 1).
    GrantWithoutRound,
    /// A silent boot is declared dead at once (rule 3).
    DeadWithoutWaiting,
    /// A transfer is proposed before everybody holds the sealed log (rule 8).
    TransferUnheld,
    /// The freeze ends although the transfer's outcome is unknown (rule 9).
    ThawUnknown,
    /// A new primary opens before its inherited log is held by all (rule 10).
    OpenEarly,
    /// A replica obeys a primary of an older epoch (rule 5).
    StaleEpoch,
    /// A member that is to be removed stops counting when that is proposed, not when it is applied (rule 5).
    ShrinkEarly,
    /// A member is added that does not count and hold everything yet (rule 5).
    AddEarly,
    /// A `disk` acknowledgement does not wait for the synced members (rule 6).
    IgnoreSynced,
    /// The directory takes commands that were made for another state (rule 4).
    IgnoreBase,
    /// A regroup is proposed before both groups' sets hold the sealed logs (rule 16).
    RegroupUnheld,
    /// A group that is sealed for a regroup thaws although that may still be applied (rules 9 and 16).
    ThawSealed,
    /// An executor that was made anew opens although what the one before it proposed may still be applied (rule 9).
    OpenUnsettled,
    /// A parked operation is forwarded and run here as well.
    ParkedRunsTwice,
    /// A command repeated under the same nonce is executed again.
    NonceReplayed,
}

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Flaw;

    thread_local! {
        static PLANTED: Cell<Option<Flaw>> = const { Cell::new(None) };
    }

    /// Breaks one rule, or none, on this thread.
    pub fn plant(flaw: Option<Flaw>) {
        PLANTED.set(flaw);
    }

    /// Is this rule broken on purpose?
    pub fn planted(flaw: Flaw) -> bool {
        PLANTED.get() == Some(flaw)
    }
}

#[cfg(not(feature = "planted"))]
mod switch {
    /// Is this rule broken on purpose? Never without the feature.
    #[inline(always)]
    pub const fn planted(_: super::Flaw) -> bool {
        false
    }
}

pub use self::switch::*;
