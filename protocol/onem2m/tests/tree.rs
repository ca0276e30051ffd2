//! Filters, discovery and result content over a small tree.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions

use onemec_onem2m::filter::{FilterCriteria, Found};
use onemec_onem2m::result::{self, Content, Reference, Wanted};
use onemec_onem2m::view::Detached;
use onemec_onem2m::*;
use std::borrow::Cow;

/// A resource with its place in the arena.
#[derive(Clone)]
struct Node<'t> {
    tree: &'t Arena,
    at: usize,
}

#[derive(Default)]
struct Arena(Vec<(Detached, Option<usize>, String)>);

impl Resource for Node<'_> {
    fn ty(&self) -> Ty {
        self.tree.0[self.at].0.ty
    }
    fn get(&self, id: AttrId) -> Option<Cow<'_, Value>> {
        self.tree.0[self.at].0.attributes.get(id).map(Cow::Borrowed)
    }
    fn visit(&self, each: &mut dyn FnMut(AttrId, &Value)) {
        self.tree.0[self.at].0.visit(each);
    }
    fn raw(&self, span: Span) -> Option<bytes::Bytes> {
        self.tree.0[self.at].0.raw(span)
    }
}

impl<'t> Tree for &'t Arena {
    type Node = Node<'t>;
    fn parent(&self, node: &Node<'t>) -> Option<Node<'t>> {
        self.0[node.at].1.map(|at| Node { tree: self, at })
    }
    fn children(&self, node: &Node<'t>, each: &mut dyn FnMut(Node<'t>) -> bool) {
        for at in 0..self.0.len() {
            if self.0[at].1 == Some(node.at) && !each(Node { tree: self, at }) {
                break;
            }
        }
    }
    fn address(&self, node: &Node<'t>, format: IdFormat) -> String {
        match format {
            IdFormat::Structured => self.0[node.at].2.clone(),
            IdFormat::Unstructured => format!("id{}", node.at),
        }
    }
}

impl Arena {
    fn add(&mut self, parent: usize, ty: Ty, name: &str, more: &[(AttrId, Value)]) -> usize {
        let at = self.0.len();
        let second = Timestamp::from_ms(at as u64 * 1000);
        let mut attributes: Attributes = more.iter().cloned().collect();
        attributes.set(AttrId::RN, Value::str(name));
        attributes.set(AttrId::CT, Value::Time(second));
        let path = if at == 0 { name.to_owned() } else { format!("{}/{name}", self.0[parent].2) };
        let body = bytes::Bytes::from_static(br#"{"con":"a \"b\""}"#);
        self.0.push((Detached { ty, attributes, body }, (at > 0).then_some(parent), path));
        at
    }
    fn node(&self, at: usize) -> Node<'_> {
        Node { tree: self, at }
    }
}

/// ```text
/// cb(0) - ae(1) - c1(2) - i1(3), i2(4)
///               - c2(5)
///       - grp(6)
/// ```
fn sample() -> Arena {
    let mut tree = Arena::default();
    tree.add(0, Ty::CSE_BASE, "cb", &[]);
    let labels = |l: &str| (AttrId::LBL, Value::list(l.split_whitespace()));
    let ae = tree.add(0, Ty::AE, "ae", &[labels("room:kitchen lamp"), (AttrId::RR, Value::Bool(true))]);
    let c1 =
        tree.add(ae, Ty::CONTAINER, "c1", &[labels("x"), (AttrId::ST, Value::Int(2)), (AttrId::MNI, Value::Int(7))]);
    let con = Value::Raw(Span { start: 7, len: 9 });
    let info = |cnf: &str| (AttrId::CNF, Value::str(cnf));
    tree.add(
        c1,
        Ty::CONTENT_INSTANCE,
        "i1",
        &[(AttrId::CS, Value::Int(5)), info("text/plain:0"), (AttrId::CON, con.clone())],
    );
    tree.add(
        c1,
        Ty::CONTENT_INSTANCE,
        "i2",
        &[(AttrId::CS, Value::Int(9)), info("application/json:0"), (AttrId::CON, con)],
    );
    tree.add(ae, Ty::CONTAINER, "c2", &[labels("x y")]);
    tree.add(0, Ty::GROUP, "grp", &[]);
    tree
}

fn query(text: &str) -> FilterCriteria {
    let mut fc = FilterCriteria::default();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap();
        assert!(fc.add_query(key, value).unwrap(), "{pair}");
    }
    fc
}

fn names(found: &Found<Node<'_>>) -> String {
    found.nodes.iter().map(|n| n.get(AttrId::RN).unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

fn search(text: &str) -> String {
    let tree = sample();
    names(&query(text).search(&&tree, &tree.node(0), &mut |_| true))
}

#[test]
fn ts0004_7_3_3_17_each_condition() {
    for (filter, expected) in [
        ("", "ae c1 i1 i2 c2 grp"),
        ("ty=3", "c1 c2"),
        ("ty=3+9", "c1 c2 grp"),
        ("ty=3&ty=9", "c1 c2 grp"),
        ("lbl=x", "c1 c2"),
        ("lbl=y+lamp", "ae c2"),
        ("clbl=y", "ae"),
        ("palb=lamp", "c1 c2"),
        ("chty=4", "c1"),
        ("pty=3", "i1 i2"),
        ("lbq=room%20EQ%20kitchen", "ae"),
        ("lbq=NT%20x", "ae i1 i2 grp"),
        // Lower bounds inclusive, upper exclusive; ct is the place in the arena in seconds.
        ("cra=19700101T000003", "i1 i2 c2 grp"),
        ("crb=19700101T000003", "ae c1"),
        ("sza=5", "i1 i2"),
        ("szb=5", ""),
        ("sza=6", "i2"),
        ("szb=9", "i1"),
        ("stb=2", "c1"),
        ("sts=2", ""),
        ("sts=3", "c1"),
        ("stb=18446744073709551615", ""),
        // No lt, no et: no match.
        ("ms=19700101T000000", ""),
        ("us=99991231T000000", ""),
        ("exa=19700101T000000", ""),
        ("exb=99991231T000000", ""),
        ("cty=text/plain", "i1"),
        ("mni=7", "c1"),
        ("mni=8", ""),
        ("rr=true", "ae"),
        ("c.rn=i2", "c1"),
        ("p.rn=c1", "i1 i2"),
        ("rn=c1+c2", "c1 c2"),
        // A wildcard only counts in a discovery.
        ("rn=c*", ""),
        ("fu=1&rn=c*", "c1 c2"),
    ] {
        assert_eq!(search(filter), expected, "{filter}");
    }
}

#[test]
fn ts0004_6_3_5_8_filter_operation() {
    assert_eq!(search("ty=3&lbl=y"), "c2");
    assert_eq!(search("ty=3&lbl=lamp"), "");
    assert_eq!(search("ty=9&lbl=y&fo=2"), "c2 grp");
    assert_eq!(search("rn=c1&mni=8&fo=2"), "c1");
    assert_eq!(search("rn=c1&mni=8"), "");
}

#[test]
fn ts0001_8_1_2_level_limit_offset() {
    assert_eq!(search("lvl=1"), "ae grp");
    assert_eq!(search("lvl=2"), "ae c1 c2 grp");
    let tree = sample();
    let find = |text: &str| {
        let found = query(text).search(&&tree, &tree.node(0), &mut |_| true);
        (names(&found), found.next_offset)
    };
    assert_eq!(find("lim=2"), ("ae c1".into(), Some(3)));
    assert_eq!(find("lim=2&ofst=3"), ("i1 i2".into(), Some(5)));
    assert_eq!(find("lim=2&ofst=5"), ("c2 grp".into(), None));
    assert_eq!(find("lim=9&ofst=9"), (String::new(), None));
    assert_eq!(find("lim=0"), (String::new(), Some(1)));
}

#[test]
fn ts0001_10_2_6_1_hidden_results_drop_out_but_are_searched_below() {
    let tree = sample();
    let found = query("fu=1").search(&&tree, &tree.node(0), &mut |n| n.ty() != Ty::CONTAINER);
    assert_eq!(names(&found), "ae i1 i2 grp");
}

#[test]
fn not_implemented_criteria_are_refused_and_match_nothing() {
    for text in ["smf=x", "cfq=x", "cfs=1", "fu=3"] {
        assert_eq!(query(text).check().unwrap_err().rsc, Rsc::NOT_IMPLEMENTED, "{text}");
    }
    assert_eq!(search("smf=x"), "");
    assert!(query("lim=1&ty=3").check().is_ok());
    assert!(query("ty=3").has_conditions() && !query("lim=1&fo=2&arp=la").has_conditions());
}

fn retrieve(at: usize, rcn: ResultContent, filter: &str) -> (String, Option<u32>) {
    let tree = sample();
    let fc = query(filter);
    let wanted = Wanted { rcn, format: IdFormat::Structured, filter: Some(&fc), attributes: &[] };
    let content = result::retrieved(&&tree, &tree.node(at), &wanted, &mut |n| n.at != 6).unwrap();
    (content.body.map(|b| String::from_utf8(b).unwrap()).unwrap_or_default(), content.next_offset)
}

/// Without creation times, which every resource has.
fn short(text: &str) -> String {
    let mut out = text.to_owned();
    for at in 0..10 {
        out = out
            .replace(&format!("\"ct\":\"19700101T00000{at}\","), "")
            .replace(&format!(",\"ct\":\"19700101T00000{at}\""), "");
    }
    out
}

#[test]
fn ts0001_8_1_2_rcn_1_attributes_and_content_as_it_came() {
    let (body, _) = retrieve(3, ResultContent::Attributes, "");
    assert_eq!(short(&body), r#"{"m2m:cin":{"cnf":"text/plain:0","con":"a \"b\"","cs":5,"rn":"i1"}}"#);
    let tree = sample();
    let wanted = Wanted {
        rcn: ResultContent::Attributes,
        format: IdFormat::Structured,
        filter: None,
        attributes: &[AttrId::CS],
    };
    let body = result::retrieved(&&tree, &tree.node(3), &wanted, &mut |_| true).unwrap().body.unwrap();
    assert_eq!(body, br#"{"m2m:cin":{"cs":5}}"#);
}

#[test]
fn ts0001_8_1_2_rcn_4_and_8_nested_children() {
    let cin = |n: u8, cnf: &str, cs: u8| format!(r#"{{"cnf":"{cnf}:0","con":"a \"b\"","cs":{cs},"rn":"i{n}"}}"#);
    let (i1, i2) = (cin(1, "text/plain", 5), cin(2, "application/json", 9));
    let own = r#""lbl":["room:kitchen","lamp"],"rn":"ae","rr":true"#;
    let nested = format!(
        r#""m2m:cnt":[{{"lbl":["x"],"mni":7,"rn":"c1","st":2,"m2m:cin":[{i1},{i2}]}},{{"lbl":["x","y"],"rn":"c2"}}]"#
    );
    assert_eq!(
        short(&retrieve(1, ResultContent::AttributesAndChildren, "").0),
        format!(r#"{{"m2m:ae":{{{own},{nested}}}}}"#)
    );
    assert_eq!(short(&retrieve(1, ResultContent::Children, "").0), format!(r#"{{"m2m:ae":{{{nested}}}}}"#));
    assert_eq!(
        short(&retrieve(1, ResultContent::Children, "lvl=1&ofst=2").0),
        r#"{"m2m:ae":{"m2m:cnt":[{"lbl":["x","y"],"rn":"c2"}]}}"#
    );
    // What is hidden stays out, and nothing is no array at all.
    assert_eq!(retrieve(0, ResultContent::Children, "ty=9").0, r#"{"m2m:cb":{}}"#);
}

#[test]
fn ts0001_8_1_2_nested_children_are_cut_so_that_parents_stay() {
    // c1 with both instances takes three places.
    let (body, next) = retrieve(1, ResultContent::Children, "lim=3");
    assert!(body.contains("i2") && !body.contains("c2"));
    assert_eq!(next, Some(2));
    // The first direct child is never left out whole, or a reader would not get on.
    let (body, next) = retrieve(1, ResultContent::Children, "lim=2");
    assert!(body.contains("c1") && body.contains("i1") && !body.contains("i2"));
    assert_eq!(next, Some(2));
    assert_eq!(retrieve(1, ResultContent::Children, "lim=4").1, None);
}

#[test]
fn ts0001_8_1_2_rcn_5_and_6_references() {
    let refs = r#""ch":[{"nm":"c1","typ":3,"val":"cb/ae/c1"},{"nm":"c2","typ":3,"val":"cb/ae/c2"}]"#;
    assert_eq!(retrieve(1, ResultContent::ChildReferences, "lvl=1").0, format!(r#"{{"m2m:ae":{{{refs}}}}}"#));
    assert!(
        retrieve(1, ResultContent::AttributesAndChildReferences, "lvl=1")
            .0
            .ends_with(&format!("\"rr\":true,{refs}}}}}"))
    );
    assert_eq!(retrieve(1, ResultContent::ChildReferences, "lim=1").1, Some(2));
}

#[test]
fn nesting_is_bounded() {
    let mut tree = Arena::default();
    tree.add(0, Ty::CSE_BASE, "cb", &[]);
    for at in 0..100 {
        tree.add(at, Ty::CONTAINER, "c", &[]);
    }
    let wanted = Wanted { rcn: ResultContent::Children, format: IdFormat::Structured, filter: None, attributes: &[] };
    let content = result::retrieved(&&tree, &tree.node(0), &wanted, &mut |_| true).unwrap();
    let body = content.body.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    assert_eq!(content.next_offset, Some(2));
    let depth = body.iter().scan(0_i32, |d, b| {
        *d += i32::from(b"[{".contains(b)) - i32::from(b"]}".contains(b));
        Some(*d)
    });
    assert!(depth.max().unwrap() <= onemec_onem2m::limits::CONTENT_DEPTH_MAX as i32);
}

#[test]
fn ts0004_7_3_3_12_created() {
    let tree = sample();
    let node = tree.node(5);
    let given: Attributes =
        [(AttrId::LBL, Value::list(["x", "y"])), (AttrId::RN, Value::str("c2"))].into_iter().collect();
    let created =
        |rcn| result::created(&node, rcn, "cb/ae/c2", &given).map(|c| c.body.map(|b| String::from_utf8(b).unwrap()));
    assert_eq!(created(ResultContent::Nothing), Ok(None));
    assert_eq!(created(ResultContent::Address).unwrap().unwrap(), r#"{"m2m:uri":"cb/ae/c2"}"#);
    assert_eq!(
        short(&created(ResultContent::AddressAndAttributes).unwrap().unwrap()),
        r#"{"m2m:rce":{"uri":"cb/ae/c2","m2m:cnt":{"lbl":["x","y"],"rn":"c2"}}}"#
    );
    assert_eq!(created(ResultContent::ModifiedAttributes).unwrap().unwrap(), r#"{"m2m:cnt":{"ct":"19700101T000005"}}"#);
    assert_eq!(created(ResultContent::Children).unwrap_err().rsc, Rsc::BAD_REQUEST);
    let all = tree.0[5].0.attributes.clone();
    assert_eq!(result::created(&node, ResultContent::ModifiedAttributes, "", &all).unwrap(), Content::default());
}

#[test]
fn ts0004_7_3_3_12_updated() {
    let tree = sample();
    let node = tree.node(2);
    let updated = |changed: &[AttrId], deleted: &[AttrId]| {
        let content = result::updated(&node, ResultContent::ModifiedAttributes, changed, deleted).unwrap();
        content.body.map(|b| String::from_utf8(b).unwrap())
    };
    assert_eq!(updated(&[AttrId::ST], &[AttrId::MBS]).unwrap(), r#"{"m2m:cnt":{"st":2,"mbs":null}}"#);
    assert_eq!(updated(&[], &[]), None);
    assert!(result::updated(&node, ResultContent::Address, &[], &[]).is_err());
    assert_eq!(result::updated(&node, ResultContent::Nothing, &[], &[]).unwrap(), Content::default());
}

#[test]
fn ts0004_7_5_2_discovery() {
    let references = [Reference { name: "c1".into(), ty: Ty::CONTAINER, address: "cb/ae/c1".into() }];
    let text = |rcn| result::discovered(&references, rcn).map(|b| String::from_utf8(b).unwrap());
    assert_eq!(text(ResultContent::DiscoveryReferences).unwrap(), r#"{"m2m:uril":["cb/ae/c1"]}"#);
    assert_eq!(
        text(ResultContent::ChildReferences).unwrap(),
        r#"{"m2m:rrl":{"rrf":[{"nm":"c1","typ":3,"val":"cb/ae/c1"}]}}"#
    );
    assert!(text(ResultContent::Attributes).is_err());
    assert_eq!(result::discovered(&[], ResultContent::DiscoveryReferences).unwrap(), br#"{"m2m:uril":[]}"#);
}

#[test]
fn ts0001_table_8_1_2_1_validity() {
    use Operation::*;
    let valid = |op, discovery| -> Vec<u8> {
        (0..=12).filter(|n| result::check(op, discovery, ResultContent::from_u8(*n).unwrap()).is_ok()).collect()
    };
    assert_eq!(valid(Create, false), [0, 1, 2, 3, 9]);
    assert_eq!(valid(Retrieve, false), [1, 4, 5, 6, 7, 8, 10, 12]);
    assert_eq!(valid(Update, false), [0, 1, 9]);
    assert_eq!(valid(Delete, false), [0, 1, 4, 5, 6, 8]);
    assert_eq!(valid(Retrieve, true), [6, 11]);
    assert_eq!(valid(Notify, false), [0_u8; 0]);
}
