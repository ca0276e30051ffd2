use super::*;

fn no_words() -> &'static BTreeSet<String> {
    static NONE: BTreeSet<String> = BTreeSet::new();
    &NONE
}

fn host() -> HostState<'static> {
    HostState {
        name: "edge1",
        domain: "local",
        region: "",
        trust: no_words(),
        ready: true,
        draining: false,
        aes: 10,
        moves: 0,
        load: 0.5,
        free_bytes: 1_000,
    }
}

fn ae(n: u64) -> [(ContextId, ContextKind); 1] {
    [(ContextId::made(1, n, 0), ContextKind::AE)]
}

fn incoming(contexts: &[(ContextId, ContextKind)]) -> Incoming<'_> {
    Incoming {
        contexts,
        history_bytes: 0,
        reason: MoveReason::LoadBalance,
        residency: &[],
        trust: no_words(),
        is_home: false,
        name_taken: None,
        credentials: None,
    }
}

fn code(d: &Decision) -> &'static str {
    match d {
        Decision::Accept => "accept",
        Decision::Defer { code, retry_ms, .. } => {
            assert!(code.passes() && *retry_ms > 0);
            code.as_str()
        }
        Decision::Refuse { code, .. } => {
            assert!(!code.passes());
            code.as_str()
        }
    }
}

/// A CSEBase whose node had come back stayed elsewhere for as long as the machine was busy.
#[test]
fn load_keeps_nothing_away_from_its_home() {
    let limits = AdmissionLimits::default();
    let base = [(ContextId::made(1, 1, 0), ContextKind::CSE_BASE)];
    let (busy, home) = (HostState { load: 1.0, ..host() }, Incoming { is_home: true, ..incoming(&base) });
    assert_eq!(code(&decide(&limits, &busy, &Incoming { reason: MoveReason::Failback, ..home })), "accept");
    assert_eq!(code(&decide(&limits, &busy, &incoming(&ae(1)))), "overloaded");
}

#[test]
fn each_answer_has_its_code() {
    let limits = AdmissionLimits {
        aes_max: 11,
        history_bytes_max: 2_000,
        load_pressing_max: 0.95,
        ..AdmissionLimits::default()
    };
    let one = ae(1);
    let with = |host: HostState<'_>, group: Incoming<'_>| code(&decide(&limits, &host, &group));
    let group = incoming(&one);
    assert_eq!(with(host(), group), "accept");
    assert_eq!(with(HostState { ready: false, ..host() }, group), "not-ready");
    assert_eq!(with(HostState { moves: 32, ..host() }, group), "too-many-moves");
    assert_eq!(with(HostState { load: 0.9, ..host() }, group), "overloaded");
    assert_eq!(with(HostState { load: f64::NAN, ..host() }, group), "overloaded");
    assert_eq!(with(HostState { load: 0.9, ..host() }, Incoming { reason: MoveReason::Device, ..group }), "accept");
    assert_eq!(
        with(HostState { load: 0.96, ..host() }, Incoming { reason: MoveReason::Device, ..group }),
        "overloaded"
    );
    assert_eq!(with(HostState { draining: true, ready: false, ..host() }, group), "draining");
    assert_eq!(with(host(), Incoming { credentials: Some("no token"), ..group }), "credentials");
    assert_eq!(with(host(), Incoming { name_taken: Some("meter"), ..group }), "name-taken");
    let base = [(ContextId::made(1, 9, 0), ContextKind::CSE_BASE)];
    let home = Incoming { contexts: &base, is_home: true, ..group };
    assert_eq!(with(HostState { draining: true, ..host() }, home), "accept");
    assert_eq!(with(HostState { aes: 11, ..host() }, group), "full");
    assert_eq!(with(host(), Incoming { history_bytes: 1_001, ..group }), "no-space");
    assert_eq!(with(host(), Incoming { history_bytes: 2_001, ..group }), "too-large");
    let label = [Residency::parse("hosts:edge2").unwrap()];
    assert_eq!(with(host(), Incoming { residency: &label, ..group }), "residency");
    let trust = ["iso".to_owned()].into();
    assert_eq!(with(host(), Incoming { trust: &trust, ..group }), "trust");
    assert_eq!(with(host(), incoming(&[])), "no-context");
    let base = [one[0], (ContextId::made(1, 2, 0), ContextKind::CSE_BASE)];
    assert_eq!(with(host(), incoming(&base)), "pinned");
}

#[test]
fn the_ledger_counts_what_is_on_its_way() {
    let limits = AdmissionLimits { aes_max: 12, moves_max: 3, hold_ms: 100, ..AdmissionLimits::default() };
    let mut ledger = Ledger::default();
    let ask =
        |ledger: &mut Ledger, now, n, host: &HostState<'_>| code(&ledger.admit(now, &limits, host, &incoming(&ae(n))));
    assert_eq!(ask(&mut ledger, 0, 1, &host()), "accept");
    assert_eq!(ask(&mut ledger, 0, 1, &host()), "accept", "the same group again counts once");
    assert_eq!(ask(&mut ledger, 10, 2, &host()), "accept");
    assert_eq!(ask(&mut ledger, 20, 3, &host()), "full");
    let empty = HostState { aes: 0, ..host() };
    assert_eq!(ask(&mut ledger, 20, 3, &empty), "accept");
    assert_eq!(ask(&mut ledger, 20, 4, &empty), "too-many-moves");
    ledger.settled([ContextId::made(1, 3, 0)]);
    assert_eq!(ask(&mut ledger, 30, 4, &empty), "accept");
    assert_eq!(ledger.len(), 3);
    assert_eq!(ask(&mut ledger, 105, 5, &empty), "accept", "the first one's time is over");
    assert_eq!(ledger.len(), 3);
}

#[test]
fn the_runtime_gets_code_and_sentence() {
    let (code, text) = decide(&AdmissionLimits::default(), &HostState { ready: false, ..host() }, &incoming(&ae(1)))
        .into_result()
        .unwrap_err();
    assert_eq!(code, "not-ready");
    assert!(text.contains("200 ms"), "{text}");
}
