//! The simulator is shown to find bugs by putting known ones back in. `DeadWithoutWaiting` is found by the property test of
//! leases, not here.

use onemec_core::group::{Flaw, plant};

use super::run;

/// Within so many seeds each must be found.
const SEEDS: u64 = 400;

fn caught(flaw: Flaw) -> Option<(u64, String)> {
    let next = std::sync::atomic::AtomicU64::new(0);
    let found = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                plant(Some(flaw));
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= SEEDS || found.lock().unwrap().is_some() {
                        return;
                    }
                    if let Some(violation) = run(seed, false).violation {
                        found.lock().unwrap().get_or_insert((seed, violation));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

macro_rules! planted {
    ($($name:ident => $flaw:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let (seed, violation) = caught(Flaw::$flaw).expect("the simulation must find this bug");
            println!("{:?}: seed {seed}: {violation}", Flaw::$flaw);
        }
    )*};
}

planted! {
    acknowledging_before_the_replicas_hold_it => AckBeforeHeld,
    no_look_at_the_lease => NoLeaseCheck,
    leases_without_a_round => GrantWithoutRound,
    a_transfer_before_all_hold_it => TransferUnheld,
    a_thaw_with_an_unknown_transfer => ThawUnknown,
    an_executor_made_anew_that_opens_at_once => OpenUnsettled,
    open_before_all_hold_the_inherited_log => OpenEarly,
    obeying_a_stale_epoch => StaleEpoch,
    a_shrink_that_counts_when_proposed => ShrinkEarly,
    an_addition_that_does_not_count => AddEarly,
    a_sync_that_is_not_awaited => IgnoreSynced,
    commands_for_another_state => IgnoreBase,
    a_regroup_before_all_hold_it => RegroupUnheld,
    a_sealed_group_that_thaws => ThawSealed,
    a_parked_operation_twice => ParkedRunsTwice,
    a_nonce_twice => NonceReplayed,
}
