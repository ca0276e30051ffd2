//! Primitives in JSON and over HTTP: what is written is read again, and nothing panics.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions

use bytes::Bytes;
use onemec_onem2m::filter::{AttributeFilter, FilterCriteria, FilterOperation, FilterUsage};
use onemec_onem2m::http_binding::*;
use onemec_onem2m::limits::*;
use onemec_onem2m::*;
use proptest::prelude::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn over_http(request: &Request) -> Request {
    let (head, body) = request_to_http(request, "host:8080").unwrap().into_parts();
    request_from_http(&head, body).unwrap()
}

#[test]
fn ts0004_8_4_a_request_primitive() {
    let whole = bytes(
        r#"{"op":1,"to":"/cse/x","fr":"C1","rqi":"r","rvi":"2a","ty":4,"rt":{"rtv":2,"nu":[]},"rqet":5000,
        "rset":"20301231T000000","pc":{"m2m:cin":{"con": "1" }}}"#,
    );
    let r = Request::from_json(&whole).unwrap();
    assert_eq!((r.op, r.ty, r.rvi), (Operation::Create, Some(Ty::CONTENT_INSTANCE), Some(Release::R2a)));
    assert_eq!((r.rt, r.rtu.clone()), (Some(ResponseType::NonBlockingAsynch), Some(vec![])));
    let pc = r.pc.clone().unwrap();
    assert_eq!(pc, r#"{"m2m:cin":{"con": "1" }}"#);
    // No copy: the content lies in what was received.
    assert!(whole.as_ptr_range().contains(&pc.as_ptr()));
    assert_eq!(Request::from_json(&r.to_json().into()).unwrap(), r);
}

#[test]
fn the_deepest_content_that_is_let_in_survives_every_wrapping() {
    let depth = CONTENT_DEPTH_MAX - 2;
    let body = format!(r#"{{"m2m:cin":{{"con":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(representation::create(Ty::CONTENT_INSTANCE, &bytes(&body)).is_ok());
    let mut response = Response::new(Rsc::OK, "r", None);
    // As much as nested children, a fan-out and a stored notification can add.
    response.pc = Some(bytes(&format!("{}{body}{}", "[".repeat(90), "]".repeat(90))));
    assert_eq!(Response::from_json(&response.to_json().into()).unwrap(), response);
}

#[test]
fn ts0004_7_3_3_6_atrl_is_taken_out_of_the_content() {
    let r = Request::from_json(&bytes(r#"{"op":2,"to":"x","rqi":"r","pc":{"m2m:atrl":["ri","lbl"]}}"#)).unwrap();
    assert_eq!((r.atrl.len(), &r.pc, r.rvi), (2, &None, None));
    assert_eq!(Request::from_json(&r.to_json().into()).unwrap(), r);
}

#[test]
fn ts0001_8_1_2_bad_primitives_say_whose_they_are() {
    for (text, rsc) in [
        (r#"{"op":9,"to":"x","rqi":"r7","rvi":"3"}"#, Rsc::BAD_REQUEST),
        (r#"{"op":2,"rqi":"r7","rvi":"3"}"#, Rsc::BAD_REQUEST),
        (r#"{"op":2,"to":"x","rqi":"r7","rvi":"3","zzz":1}"#, Rsc::NOT_IMPLEMENTED),
        (r#"{"op":2,"to":5,"rqi":"r7","rvi":"3"}"#, Rsc::BAD_REQUEST),
        (r#"{"op":2,"to":"x","rqi":"r7","rvi":"3","fc":{"lbl":"a"}}"#, Rsc::BAD_REQUEST),
        (r#"{"op":2,"to":"x","rqi":"r7","rvi":"3","ec":70000}"#, Rsc::BAD_REQUEST),
        (r#"{"op":2,"to":"x","rqi":"r7","rvi":"3","vsi":"a\u0000"}"#, Rsc::BAD_REQUEST),
    ] {
        let bad = Request::from_json(&bytes(text)).unwrap_err();
        assert_eq!((bad.refusal.rsc, bad.rqi.as_deref(), bad.rvi), (rsc, Some("r7"), Some(Release::R3)), "{text}");
    }
    let bad = Request::from_json(&bytes(r#"{"op":2,"to":"x","rqi":"r","rvi":"7"}"#)).unwrap_err();
    assert_eq!(bad.refusal.rsc, Rsc::RELEASE_VERSION_NOT_SUPPORTED);
    for text in ["", "[]", "{", "\u{0}", &"[".repeat(100_000), r#"{"op":1"#] {
        assert_eq!(Request::from_json(&bytes(text)).unwrap_err().rqi, None);
    }
    assert!(Request::from_json(&Bytes::from(vec![b' '; BODY_BYTES_MAX + 1])).is_err());
}

#[test]
fn ts0004_8_4_a_response_primitive() {
    let mut r = Response::new(Rsc::OK, "r", Some(Release::R3));
    r.pc = Some(bytes(r#"{"m2m:cnt":{}}"#));
    (r.cnst, r.cnot) = (Some(ContentStatus::Partial), Some(5));
    r.ati = vec![("l".into(), "t".into())];
    r.rset = Some(AbsRelTimestamp::RelativeMs(-5));
    assert_eq!(Response::from_json(&r.to_json().into()).unwrap(), r);
    // Release 1 entities do not know rvi.
    r.rvi = Some(Release::R1);
    assert_eq!(Response::from_json(&r.to_json().into()).unwrap().rvi, None);
    assert!(Response::from_json(&bytes(r#"{"rqi":"r"}"#)).is_err());
    assert!(Response::from_json(&bytes(r#"{"rqi":"r","rsc":99999}"#)).is_err());
    assert_eq!(Response::from_json(&bytes(r#"{"rqi":"r","rsc":2999,"new":1}"#)).unwrap().rsc, Rsc(2999));
}

#[test]
fn ts0009_6_a_create_over_http() {
    let http = http::Request::post("/cse-in/ae?rcn=3&rt=2&da=true")
        .header("X-M2M-Origin", "C1")
        .header("X-M2M-RI", "r1")
        .header("X-M2M-RVI", "3")
        .header("X-M2M-RTU", "")
        .header("X-M2M-RET", "5000")
        .header("Content-Type", "application/json; ty=3")
        .body(())
        .unwrap();
    let r = request_from_http(&http.into_parts().0, bytes("{}")).unwrap();
    assert_eq!(
        (r.op, r.ty, r.to.as_str(), r.fr.as_deref()),
        (Operation::Create, Some(Ty::CONTAINER), "cse-in/ae", Some("C1"))
    );
    assert_eq!((r.rcn, r.da, r.rtu.as_deref()), (Some(ResultContent::AddressAndAttributes), Some(true), Some(&[][..])));
    assert_eq!(r.rqet, Some(AbsRelTimestamp::RelativeMs(5000)));
    assert_eq!(over_http(&r), r);
}

#[test]
fn ts0009_6_2_methods() {
    let read = |method: &str, content_type: &str| {
        let http = http::Request::builder().method(method).uri("/~/cse/x").header("X-M2M-RI", "r");
        let http = http.header("Content-Type", content_type).body(()).unwrap();
        request_from_http(&http.into_parts().0, bytes("{}")).map(|r| r.op).map_err(|b| b.refusal.rsc)
    };
    assert_eq!(read("POST", "application/vnd.onem2m-res+json;ty=4"), Ok(Operation::Create));
    assert_eq!(read("POST", "application/vnd.onem2m-ntfy+json"), Ok(Operation::Notify));
    assert_eq!(read("GET", "application/json"), Ok(Operation::Retrieve));
    assert_eq!(read("PUT", "application/json"), Ok(Operation::Update));
    assert_eq!(read("DELETE", "application/json"), Ok(Operation::Delete));
    assert_eq!(read("PATCH", "application/json"), Err(Rsc::OPERATION_NOT_ALLOWED));
    assert_eq!(read("PUT", "application/xml"), Err(Rsc::UNSUPPORTED_MEDIA_TYPE));
    assert_eq!(read("PUT", "application/json;ty=x"), Err(Rsc::BAD_REQUEST));
}

#[test]
fn ts0009_6_2_2_2_query() {
    let read = |query: &str| {
        let http = http::Request::get(format!("/cse-in?{query}")).header("X-M2M-RI", "r").body(()).unwrap();
        request_from_http(&http.into_parts().0, Bytes::new())
    };
    let r = read("fu=1&ty=3+4&lbl=a%2Bb+c&rn=x*&c.mni=5&p.rn=y&lim=10&lvl=2&ofst=3&fo=2&drt=2&cra=20200101T000000")
        .unwrap();
    let fc = r.fc.clone().unwrap();
    assert_eq!((fc.fu, fc.fo, fc.lim), (Some(FilterUsage::Discovery), Some(FilterOperation::Or), Some(10)));
    assert_eq!((fc.ty.clone(), fc.lbl.clone()), (vec![Ty(3), Ty(4)], vec!["a+b".to_owned(), "c".to_owned()]));
    assert_eq!(fc.atr, vec![AttributeFilter { name: AttrId::RN, value: "x*".into() }]);
    assert_eq!((fc.catr.len(), fc.patr.len(), r.drt), (1, 1, Some(IdFormat::Unstructured)));
    assert_eq!(over_http(&r), r);
    assert_eq!(FilterCriteria::from_json(&fc.to_json()).unwrap(), *fc);
    assert_eq!(read("atrl=ri+lbl").unwrap().atrl, ["ri", "lbl"]);
    // The same tag repeated is a list.
    assert_eq!(read("lbl=a&lbl=b").unwrap().fc.unwrap().lbl, ["a", "b"]);
    for bad in [
        "zzz=1",
        "rcn=99",
        "rcn=1&rcn=1",
        "lim=x",
        "lim=1&lim=2",
        "lvl=0",
        "ofst=0",
        "ty=x",
        "cra=5",
        "fo=3",
        "lbl=%zz",
        "st=1",
        "cnf=text/plain",
        "lbq=a%20XX%20b",
        "da=maybe",
    ] {
        assert_eq!(read(bad).unwrap_err().refusal.rsc, Rsc::BAD_REQUEST, "{bad}");
    }
    assert_eq!(read("gmty=1").unwrap_err().refusal.rsc, Rsc::NOT_IMPLEMENTED);
    assert!(read(&"lbl=a&".repeat(QUERY_PARAMS_MAX + 1)).is_err());
}

#[test]
fn ts0009_6_4_headers_are_bounded_and_single() {
    let head = |name: &str, values: &[&str]| {
        let mut http = http::Request::get("/cse-in").header("X-M2M-RI", "r");
        for value in values {
            http = http.header(name, *value);
        }
        request_from_http(&http.body(()).unwrap().into_parts().0, Bytes::new())
    };
    assert!(head("X-M2M-Origin", &["C1", "C2"]).is_err());
    assert!(head("X-M2M-Origin", &[&"C".repeat(PARAM_BYTES_MAX + 1)]).is_err());
    assert!(head("X-M2M-OT", &["now"]).is_err());
    assert_eq!(head("X-M2M-RVI", &["9"]).unwrap_err().refusal.rsc, Rsc::RELEASE_VERSION_NOT_SUPPORTED);
    assert_eq!(head("Authorization", &["t1+t2"]).unwrap().tkns, ["t1", "t2"]);
    assert!(head("Authorization", &["Bearer abc"]).unwrap().tkns.is_empty());
    let no_rqi = http::Request::get("/cse-in").body(()).unwrap();
    assert_eq!(request_from_http(&no_rqi.into_parts().0, Bytes::new()).unwrap_err().rqi, None);
}

#[test]
fn ts0009_6_3_2_responses_over_http() {
    let request = Request::new(Operation::Create, "x", "C1", "r1");
    let mut r = Response::to(&request, Rsc::CREATED);
    r.pc = Some(bytes("{}"));
    let http = response_to_http(r.clone(), Some("/cse/cse-in/ae"));
    assert_eq!(http.status(), 201);
    assert_eq!(http.headers()["x-m2m-rsc"], "2001");
    assert_eq!(http.headers()["content-location"], "/~/cse/cse-in/ae");
    let (head, body) = http.into_parts();
    assert_eq!(response_from_http(&head, body).unwrap(), r);

    let refusing = Response::refusing(&request, &Refusal::new(Rsc::NOT_FOUND, "no \"x\""));
    let http = response_to_http(refusing, None);
    assert_eq!((http.status().as_u16(), &http.body()[..]), (404, &br#"{"m2m:dbg":"no \"x\""}"#[..]));

    // A plain web server as notification target.
    let plain = http::Response::builder().status(204).body(()).unwrap().into_parts().0;
    assert_eq!(response_from_http(&plain, Bytes::new()).unwrap().rsc, Rsc::OK);
}

#[test]
fn ts0004_7_5_1_2_notification_to_a_url() {
    let mut r = Request::new(Operation::Notify, "http://h:9/p/q?a=1&ct=json#x", "/cse", "r");
    r.pc = Some(bytes("{}"));
    let http = request_to_http(&r, "h:9").unwrap();
    assert_eq!((http.uri().to_string().as_str(), http.method().as_str()), ("/p/q?a=1", "POST"));
    r.to = "http://h:9".into();
    assert_eq!(request_to_http(&r, "h:9").unwrap().uri(), "/");
    r.rqi = "a\nb".into();
    assert!(request_to_http(&r, "h:9").is_err());
}

prop_compose! {
    fn any_filter()(
        times in proptest::collection::vec(proptest::option::of(0_u64..4_000_000_000_000), 6),
        numbers in proptest::collection::vec(proptest::option::of(0_u64..u64::MAX), 4),
        lists in proptest::collection::vec(proptest::collection::vec("[ -~é]{1,6}", 0..3), 5),
        types in proptest::collection::vec(0_u16..9999, 0..3),
        lim in proptest::option::of(0_u32..), lvl in proptest::option::of(1_u32..), or: bool,
    ) -> FilterCriteria {
        let t = |i: usize| times[i].map(Timestamp::from_ms);
        let filters = |list: &[String]| list.iter().map(|v| AttributeFilter { name: AttrId::RN, value: v.clone() }).collect();
        FilterCriteria {
            crb: t(0), cra: t(1), ms: t(2), us: t(3), exb: t(4), exa: t(5),
            sts: numbers[0], stb: numbers[1], sza: numbers[2], szb: numbers[3],
            lbl: lists[0].clone(), clbl: lists[1].clone(), cty: lists[2].clone(),
            atr: filters(&lists[3]), patr: filters(&lists[4]),
            ty: types.iter().copied().map(Ty).collect(), pty: types.into_iter().map(Ty).collect(),
            lim, lvl, ofst: lvl,
            fo: or.then_some(FilterOperation::Or), fu: (!or).then_some(FilterUsage::Discovery),
            lbq: or.then(|| "a EQ b".to_owned()), arp: or.then(|| "x/la".to_owned()),
            ..FilterCriteria::default()
        }
    }
}

prop_compose! {
    fn any_request()(
        op in 1_u8..=5, to in "/{0,2}[a-z]{1,8}(/[a-zA-Z0-9._-]{1,5}){0,3}", fr in proptest::option::of("[CS/][!-~]{0,8}"),
        rqi in "[!-~]{1,12}", ty in 1_u16..30, times in proptest::collection::vec(proptest::option::of(any::<i64>()), 4),
        when in proptest::option::of(0_u64..4_000_000_000_000), rcn in proptest::option::of(0_u8..=12),
        ec in proptest::option::of(any::<u16>()), flags in proptest::collection::vec(proptest::option::of(any::<bool>()), 5),
        texts in proptest::collection::vec("[ -~é]{1,6}", 1..4), tokens in proptest::collection::vec("[a-z]{1,5}", 0..3),
        fc in proptest::option::of(any_filter()), rvi in 0_usize..6, rt in proptest::option::of(1_u8..=5),
    ) -> Request {
        let mut r = Request::new(Operation::from_u8(op).unwrap(), to, "", rqi);
        r.fr = fr;
        r.rvi = [None, Some(Release::R1), Some(Release::R2), Some(Release::R2a), Some(Release::R3), Some(Release::R4)][rvi];
        if r.op == Operation::Create { r.ty = Some(Ty(ty)); }
        if r.op != Operation::Retrieve { r.pc = Some(Bytes::from_static(b"{\"a\":1}")); }
        r.ot = when.map(Timestamp::from_ms);
        let t = |i: usize| times[i].map(AbsRelTimestamp::RelativeMs);
        (r.rqet, r.rset, r.oet, r.rp) = (t(0), t(1), t(2), t(3));
        r.rcn = rcn.and_then(ResultContent::from_u8);
        r.ec = ec;
        (r.da, r.tqi, r.asi, r.auri, r.sqi) = (flags[0], flags[1], flags[2], flags[3], flags[4]);
        r.rt = rt.and_then(ResponseType::from_u8);
        if r.rt.is_some() { r.rtu = Some(tokens.clone()); }
        r.tids = texts.clone();
        r.rids = texts;
        r.tkns = tokens.clone();
        r.aus = tokens;
        // Empty criteria leave no trace in a query.
        r.fc = fc.filter(|fc| *fc != FilterCriteria::default()).map(Box::new);
        r
    }
}

proptest! {
    #[test]
    fn requests_survive_json(r in any_request()) {
        prop_assert_eq!(Request::from_json(&r.to_json().into()).unwrap(), r);
    }

    #[test]
    fn requests_survive_http(r in any_request()) {
        prop_assert_eq!(over_http(&r), r);
    }

    #[test]
    fn filters_survive(fc in any_filter()) {
        prop_assert_eq!(FilterCriteria::from_json(&fc.to_json()).unwrap(), fc.clone());
        let mut again = FilterCriteria::default();
        for pair in fc.to_query().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap();
            prop_assert!(again.add_query(key, value).unwrap());
        }
        prop_assert_eq!(again, fc);
    }

    #[test]
    fn nothing_panics(junk: Vec<u8>, text in r#"[\[\]{}",:a-z1-9.\\ ]{0,60}"#, query in "[ -~]{0,40}", member in "[a-z]{2,4}") {
        let wrapped = format!(r#"{{"op":2,"to":"x","rqi":"r","{member}":{text}}}"#);
        for input in [junk.clone(), text.clone().into_bytes(), wrapped.into_bytes()] {
            let input = Bytes::from(input);
            let _ = Request::from_json(&input).map(|r| r.check(0));
            let _ = Response::from_json(&input);
        }
        let _ = FilterCriteria::from_json(&format!(r#"{{"{member}":{text}}}"#));
        let _ = FilterCriteria::default().add_query(&member, &query);
        if let Ok(uri) = format!("/x?{query}").parse::<http::Uri>() {
            let mut http = http::Request::get(uri).header("X-M2M-RI", "r");
            for name in ["X-M2M-RVI", "X-M2M-OT", "X-M2M-RTU", "X-M2M-EC", "Content-Type", "Authorization"] {
                http = http.header(name, &junk.iter().map(|b| b & 0x7f | 0x20).filter(|b| *b != 0x7f).collect::<Vec<_>>()[..]);
            }
            let _ = request_from_http(&http.body(()).unwrap().into_parts().0, Bytes::new());
        }
    }

    #[test]
    fn http_responses_never_panic(junk: Vec<u8>, code in 100_u16..1000) {
        let value: Vec<u8> = junk.iter().map(|b| b & 0x7f | 0x20).filter(|b| *b != 0x7f).collect();
        let mut http = http::Response::builder().status(code);
        for name in ["X-M2M-RSC", "X-M2M-ATI", "X-M2M-CTS"] {
            http = http.header(name, &value[..]);
        }
        let _ = response_from_http(&http.body(()).unwrap().into_parts().0, Bytes::from(junk));
    }
}
