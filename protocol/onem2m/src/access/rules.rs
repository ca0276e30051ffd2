//! Evaluation of access control rules (TS-0001 9.6.2, TS-0003 7.1).

use super::ip::IpRange;
use super::{Attempt, Groups, Operations};
use crate::filter::like;
use crate::id::{CseIdentity, EntityId};
use crate::operation::Operation;
use crate::schedule::ScheduleEntry;
use crate::tables::Ty;

/// A set of access control rules (`pv`, `pvs`): m2m:setOfAcrs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules(pub(super) Vec<Rule>);

/// One access control rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) originators: Vec<Box<str>>,
    pub(super) operations: Operations,
    /// Empty: always and everywhere. Else one of them must hold.
    pub(super) contexts: Vec<Context>,
    /// Empty: everything. Else one of them must hold.
    pub(super) objects: Vec<ObjectDetails>,
    /// Only authenticated originators.
    pub(super) authenticated: bool,
}

/// `acco`: all that is given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Context {
    pub(super) windows: Vec<ScheduleEntry>,
    pub(super) ranges: Option<Vec<IpRange>>,
    /// `aclr`: where the originator is. Nothing tells us, so such a context never holds.
    pub(super) location: bool,
}

/// `acod`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ObjectDetails {
    /// Type of the target.
    pub(super) target: Option<Ty>,
    /// Types that may be created.
    pub(super) children: Vec<Ty>,
    /// `spty`: specialisations are not told apart yet, so such an entry never holds.
    pub(super) specialised: bool,
}

impl Rules {
    /// Whether there is none: `pvs` must have one (TS-0004 7.4.2.2).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any rule grants the attempt.
    pub fn grant(&self, attempt: &Attempt<'_>, me: &CseIdentity, groups: &dyn Groups) -> bool {
        let originator = Originator::new(attempt, me);
        // The cheap conditions first: a group may have to be asked for over the network.
        self.0.iter().any(|rule| {
            rule.operations.contains(attempt.operation)
                && (!rule.authenticated || attempt.authenticated)
                && (rule.contexts.is_empty() || rule.contexts.iter().any(|c| c.holds(attempt)))
                && (rule.objects.is_empty() || rule.objects.iter().any(|o| o.holds(attempt)))
                && rule.originators.iter().any(|acor| originator.is(acor, attempt, me, groups))
        })
    }
}

impl Context {
    fn holds(&self, attempt: &Attempt<'_>) -> bool {
        let in_range = |ranges: &Vec<IpRange>| attempt.ip.is_some_and(|ip| ranges.iter().any(|r| r.contains(ip)));
        !self.location
            && (self.windows.is_empty() || self.windows.iter().any(|w| w.contains(attempt.now_ms)))
            && self.ranges.as_ref().is_none_or(in_range)
    }
}

impl ObjectDetails {
    fn holds(&self, attempt: &Attempt<'_>) -> bool {
        let creates = attempt.operation.contains(Operation::Create.into());
        !self.specialised
            && self.target.is_none_or(|ty| ty == attempt.target)
            && (!creates || attempt.child.is_some_and(|ty| self.children.contains(&ty)))
    }
}

/// The originator in every form that an `acor` may name.
struct Originator {
    normal: String,
    /// SP-relative form with our domain in front, unless it is from another one.
    absolute: String,
    /// Stem, if it is registered here or unique in the domain.
    stem: Option<String>,
    domain: String,
}

impl Originator {
    fn new(attempt: &Attempt<'_>, me: &CseIdentity) -> Self {
        let normal = me.normal_id(attempt.originator).into_owned();
        let (absolute, stem, domain) = match EntityId::parse(&normal) {
            Some(EntityId::Absolute { sp_id, .. }) => (normal.clone(), None, sp_id),
            Some(EntityId::AeC { cse, stem }) => {
                let local = cse == Some(&*me.cse_id);
                (format!("//{}{normal}", me.sp_id), local.then_some(stem), &*me.sp_id)
            }
            Some(EntityId::AeS { stem }) => (format!("//{}{normal}", me.sp_id), Some(stem), &*me.sp_id),
            Some(EntityId::Cse(_)) => (format!("//{}{normal}", me.sp_id), None, &*me.sp_id),
            None => (normal.clone(), None, ""),
        };
        let (stem, domain) = (stem.map(str::to_owned), domain.to_owned());
        Self { normal, absolute, stem, domain }
    }

    fn is(&self, acor: &str, attempt: &Attempt<'_>, me: &CseIdentity, groups: &dyn Groups) -> bool {
        if acor == "all" {
            return true;
        }
        if acor.contains('*') {
            return like(&self.normal, acor)
                || like(&self.absolute, acor)
                || self.stem.as_ref().is_some_and(|stem| like(stem, acor));
        }
        if me.normal_id(acor) == self.normal || attempt.roles.iter().any(|role| role == acor) {
            return true;
        }
        // A domain covers its sub-domains.
        let domain = acor.strip_prefix("//").unwrap_or(acor);
        if !self.domain.is_empty() && !domain.contains('/') {
            let above = self.domain.strip_suffix(domain);
            if above.is_some_and(|sub| sub.is_empty() || sub.ends_with('.')) && !domain.is_empty() {
                return true;
            }
        }
        // An unreachable group grants nothing.
        groups.contains(acor, &self.normal) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn me() -> CseIdentity {
        CseIdentity { base_name: "cse-in".into(), cse_id: "/cse-1".into(), sp_id: "edge.sp.example".into() }
    }

    fn attempt(originator: &str) -> Attempt<'_> {
        Attempt {
            originator,
            operation: Operation::Retrieve.into(),
            target: Ty::CONTAINER,
            child: None,
            authenticated: false,
            ip: None,
            roles: &[],
            now_ms: Timestamp::parse("20261121T090136").unwrap().ms(),
        }
    }

    fn rules(rule: &str) -> Rules {
        Rules::from_json(&format!(r#"{{"acr":[{{"acor":["nobody"],"acop":63}},{{{rule}}}]}}"#)).unwrap()
    }

    fn grants(rule: &str, attempt: &Attempt<'_>) -> bool {
        rules(rule).grant(attempt, &me(), &())
    }

    fn originator_passes(acor: &str, originator: &str) -> bool {
        grants(&format!(r#""acor":["{acor}"],"acop":63"#), &attempt(originator))
    }

    #[test]
    fn ts0001_9_6_2_1_originators() {
        for (acor, originator, expected) in [
            ("all", "anybody", true),
            ("ALL", "C1", false),
            ("C1", "C1", true),
            ("/cse-1/C1", "C1", true),
            ("C1", "/cse-1/C1", true),
            ("//edge.sp.example/cse-1/C1", "C1", true),
            ("C1", "/cse-2/C1", false),
            ("C1", "C12", false),
            ("S1", "/S1", true),
            ("/cse-2", "/cse-2", true),
            ("/cse-2", "/cse-22", false),
            ("C1*", "C12", true),
            ("C1*", "/cse-2/C12", false),
            ("/cse-2/C*", "/cse-2/C12", true),
            ("*", "whoever", true),
            ("/cse-*/C*9", "/cse-7/C119", true),
            ("S*", "/S77", true),
            ("//other/*", "//other/cse-9/C1", true),
            ("//other/*", "C1", false),
            ("//edge.sp.example", "C1", true),
            ("sp.example", "/cse-9/C1", true),
            ("p.example", "/cse-9/C1", false),
            ("//other.example", "C1", false),
            ("//other.example", "//other.example/cse/C1", true),
            ("", "C1", false),
            ("//", "C1", false),
        ] {
            assert_eq!(originator_passes(acor, originator), expected, "{acor} {originator}");
        }
    }

    #[test]
    fn ts0001_9_6_2_1_roles_and_groups() {
        let roles = ["role-1@sp".to_owned()];
        assert!(grants(r#""acor":["role-1@sp"],"acop":2"#, &Attempt { roles: &roles, ..attempt("C1") }));
        assert!(!grants(r#""acor":["role-2@sp"],"acop":2"#, &Attempt { roles: &roles, ..attempt("C1") }));

        struct One(Option<bool>);
        impl Groups for One {
            fn contains(&self, group: &str, originator: &str) -> Option<bool> {
                assert_eq!((group, originator), ("cse-in/grp", "/cse-1/C1"));
                self.0
            }
        }
        let rule = r#"{"acr":[{"acor":["cse-in/grp"],"acop":2}]}"#;
        for (member, expected) in [(Some(true), true), (Some(false), false), (None, false)] {
            assert_eq!(Rules::from_json(rule).unwrap().grant(&attempt("C1"), &me(), &One(member)), expected);
        }
    }

    #[test]
    fn ts0001_9_6_2_2_operations() {
        for bit in [1, 2, 4, 8, 16, 32] {
            let a = Attempt { operation: Operations(bit), ..attempt("C1") };
            assert!(grants(&format!(r#""acor":["C1"],"acop":{bit}"#), &a));
            assert!(!grants(&format!(r#""acor":["C1"],"acop":{}"#, 63 - bit), &a));
        }
    }

    #[test]
    fn ts0001_9_6_2_3_contexts() {
        let with = |acco: &str, ip: Option<&str>| {
            let rule = format!(r#""acor":["all"],"acop":63,"acco":{acco}"#);
            grants(&rule, &Attempt { ip: ip.map(|ip| ip.parse().unwrap()), ..attempt("C1") })
        };
        assert!(with(r#"[{"actw":["* * 8-10 * * * *"]}]"#, None));
        assert!(!with(r#"[{"actw":["* * 10-12 * * * *"]}]"#, None));
        assert!(with(r#"[{"actw":["* * 10-12 * * * *","* * 9 * * * *"]}]"#, None));
        assert!(with(r#"[{"acip":{"ipv4":["10.0.0.0/8"]}}]"#, Some("10.1.1.1")));
        assert!(!with(r#"[{"acip":{"ipv4":["10.0.0.0/8"]}}]"#, Some("11.1.1.1")));
        // An unknown address is in no range.
        assert!(!with(r#"[{"acip":{"ipv4":["10.0.0.0/8"]}}]"#, None));
        assert!(with(r#"[{"acip":{"ipv6":["2001:db8::/32"]}}]"#, Some("2001:db8::1")));
        // All parts of one context, any of several contexts.
        assert!(!with(r#"[{"actw":["* * 10-12 * * * *"],"acip":{"ipv4":["10.0.0.0/8"]}}]"#, Some("10.1.1.1")));
        assert!(with(r#"[{"actw":["* * 10-12 * * * *"]},{"acip":{"ipv4":["10.0.0.0/8"]}}]"#, Some("10.1.1.1")));
        // Nothing tells us where an originator is.
        assert!(!with(r#"[{"aclr":{"accc":["DE"]}}]"#, None));
        assert!(with("[]", None));
    }

    #[test]
    fn ts0001_9_6_2_4_object_details() {
        let create = |rule: &str, child| {
            let a = Attempt { operation: Operation::Create.into(), child: Some(child), ..attempt("C1") };
            grants(&format!(r#""acor":["all"],"acop":63,"acod":{rule}"#), &a)
        };
        assert!(create(r#"[{"chty":[3,4]}]"#, Ty::CONTENT_INSTANCE));
        assert!(!create(r#"[{"chty":[3]}]"#, Ty::CONTENT_INSTANCE));
        assert!(create(r#"[{"chty":[23]},{"ty":3,"chty":[4]}]"#, Ty::CONTENT_INSTANCE));
        assert!(!create(r#"[{"ty":2,"chty":[4]}]"#, Ty::CONTENT_INSTANCE));
        assert!(!create(r#"[{"spty":1001,"chty":[4]}]"#, Ty::CONTENT_INSTANCE));
        assert!(grants(r#""acor":["all"],"acop":2,"acod":[{"chty":[4]}]"#, &attempt("C1")));
    }

    #[test]
    fn ts0001_9_6_2_5_authentication_flag() {
        let rule = r#""acor":["all"],"acop":2,"acaf":true"#;
        assert!(!grants(rule, &attempt("C1")));
        assert!(grants(rule, &Attempt { authenticated: true, ..attempt("C1") }));
        assert!(grants(r#""acor":["all"],"acop":2,"acaf":false"#, &attempt("C1")));
    }

    #[test]
    fn nothing_is_granted_by_no_rules() {
        for none in ["{}", r#"{"acr":[]}"#] {
            let rules = Rules::from_json(none).unwrap();
            assert!(rules.is_empty());
            assert!(!rules.grant(&attempt("C1"), &me(), &()));
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        use crate::Rsc;
        for (bad, rsc) in [
            (r#"{"acr":[{"acor":["all"],"acop":1,"aca":["x"]}]}"#, Rsc::NOT_IMPLEMENTED),
            (r#"{"acr":[{"acor":["all"],"acop":1,"acco":[{"acec":{}}]}]}"#, Rsc::NOT_IMPLEMENTED),
            (r#"{"acr":[{"acor":["all"]}]}"#, Rsc::BAD_REQUEST),
            (r#"{"acr":[{"acop":1}]}"#, Rsc::BAD_REQUEST),
            (r#"{"acr":[{"acor":["all"],"acop":64}]}"#, Rsc::BAD_REQUEST),
            (r#"{"acr":[{"acor":["all"],"acop":1,"acco":[{"acip":{"ipv4":["x"]}}]}]}"#, Rsc::BAD_REQUEST),
            (r#"{"acr":[{"acor":["all"],"acop":1,"acco":[{"actw":["x"]}]}]}"#, Rsc::BAD_REQUEST),
            ("[]", Rsc::BAD_REQUEST),
            ("", Rsc::BAD_REQUEST),
        ] {
            assert_eq!(Rules::from_json(bad).unwrap_err().rsc, rsc, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}",:a-z1-9.* ]{0,60}"#, acor in "[/CS*.a-]{0,10}", originator in ".{0,12}") {
            let _ = Rules::from_json(&text);
            let _ = Rules::from_json(&format!(r#"{{"acr":[{{"acor":["all"],"acop":1,"acco":{text}}}]}}"#));
            originator_passes(&acor, &originator);
        }
    }
}
