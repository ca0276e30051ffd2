//! The golden frames: what stands in golden/*.hex is what this crate writes and reads, byte by byte, for ever. Set
//! `ONEMEC_GOLDEN=write` to write the files anew after a change of the protocol version.
//!
//! Their bodies are read by `wincode` as well, the maintained crate of bincode's format.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]

use std::path::PathBuf;

use bytes::Bytes;
use onemec_wire::encode::Encoder;
use onemec_wire::greeting::{self, BODY_VERSION, Greeting};
use onemec_wire::limits::LANE_FRAME_BYTES_MAX;
use onemec_wire::record::RecordMeta;
use onemec_wire::*;
use wincode::SchemaRead;

fn greeting() -> Greeting {
    Greeting {
        body_version: BODY_VERSION,
        protocol_min: 1,
        protocol_max: 1,
        purpose: 1,
        message_lanes: 2,
        features: 3,
        required: 1,
        member: Member::new(7, 2),
        domain: "edge.example".into(),
        cluster: Cluster { id: *b"0123456789abcdef", generation: 4 },
        credit_bytes: 32 << 20,
    }
}

fn frames() -> Vec<(&'static str, Frame)> {
    let mut tell = Frame::new(Kind::Tell, ServiceId::REPLICA, Bytes::from_static(b"body"));
    tell.target = 0x0102_0304_0506_0708;
    tell.attachments = vec![Bytes::from_static(b"first").into(), Rope::new(), Bytes::from_static(b"third!").into()];
    let mut ask = Frame::new(Kind::Ask, ServiceId::CALL, Bytes::from_static(b"question"));
    (ask.deadline_ms, ask.correlation, ask.target) = (1500, 0x1103, 42);
    let mut reply = Frame::new(Kind::Reply, ServiceId::CALL, Bytes::from_static(b"answer"));
    (reply.correlation, reply.target) = (0x1103, 42);
    let mut call = Frame::new(Kind::Call, ServiceId::CALL, Bytes::from_static(b"large"));
    call.deadline_ms = 60_000;
    vec![
        ("hello", greeting::hello(&greeting())),
        ("welcome", greeting::welcome(&Greeting { member: Member::new(9, 5), purpose: 2, ..greeting() })),
        ("credit", greeting::credit(4 << 20)),
        ("go_away", greeting::go_away(CloseCode::Shutdown, "the node stops")),
        ("ping", greeting::ping(11)),
        ("pong", greeting::pong(11)),
        ("lane_open", greeting::lane_open(3)),
        ("tell", tell),
        ("ask", ask),
        ("reply", reply),
        ("fail", greeting::fail(ServiceId::CALL, 0x1103, 42, FailCode::NoAnswer.number(), "dropped")),
        ("call", call),
        ("transfer", Frame::new(Kind::Transfer, ServiceId::MOVE, Bytes::from_static(b"segment 3"))),
        ("transfer_end", greeting::transfer_end(ServiceId::MOVE, 0, 1 << 30, "")),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"))
}

/// Sixteen bytes a line; `#` begins a remark.
fn to_hex(bytes: &[u8]) -> String {
    bytes.chunks(16).map(|l| l.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap());
    lines.flat_map(str::split_whitespace).map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

fn golden(name: &str, ours: &[u8]) -> Bytes {
    if std::env::var_os("ONEMEC_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(path(name), to_hex(ours)).unwrap();
    }
    let kept = from_hex(&std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}")));
    assert_eq!(kept, ours, "{name} is no longer written as it was");
    kept.into()
}

fn golden_frame(name: &str, frame: &Frame) -> Frame {
    let mut encoder = Encoder::new();
    encoder.push(frame, LANE_FRAME_BYTES_MAX).unwrap();
    let mut pieces = Vec::new();
    encoder.take(&mut pieces);
    let kept = golden(name, &pieces.concat());
    let mut decoder = onemec_wire::decode::Decoder::new(LANE_FRAME_BYTES_MAX);
    decoder.push(kept);
    let read = decoder.next().unwrap().unwrap();
    decoder.end().unwrap();
    read
}

#[test]
fn golden_frames_are_written_and_read_as_ever() {
    for (name, frame) in frames() {
        assert_eq!(golden_frame(name, &frame), frame, "{name}");
    }
    for kind in Kind::ALL {
        assert!(frames().iter().any(|(_, f)| f.kind == *kind), "{kind:?} has a golden frame");
    }
}

#[test]
fn the_golden_datagram_and_record_are_written_and_read_as_ever() {
    let ours = datagram::encode(ServiceId::GOSSIP, b"beat").unwrap();
    let kept = golden("datagram", &ours);
    assert_eq!(datagram::decode(&kept).unwrap(), (ServiceId::GOSSIP, Bytes::from_static(b"beat")));
    let meta = RecordMeta {
        kind: RecordKind::Operation,
        group: GroupId::made(1, 7, 0),
        context: ContextId::made(1, 7, 1),
        epoch: Epoch(3),
        seq: Seq(9),
        time_ms: 1_700_000_000_000,
    };
    let record = Record::build(meta, b"head", b"body!").unwrap();
    let kept = golden("record", record.bytes());
    assert_eq!(Record::parse(&kept).unwrap(), (record, kept.len()));
}

mod mirror {
    use super::SchemaRead;

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Member {
        pub node: u64,
        pub incarnation: u64,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Cluster {
        pub id: [u8; 16],
        pub generation: u32,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Greeting {
        pub body_version: u8,
        pub protocol_min: u8,
        pub protocol_max: u8,
        pub purpose: u8,
        pub message_lanes: u8,
        pub features: u64,
        pub required: u64,
        pub member: Member,
        pub domain: String,
        pub cluster: Cluster,
        pub credit_bytes: u64,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Credit {
        pub body_version: u8,
        pub bytes: u64,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct GoAway {
        pub body_version: u8,
        pub code: u32,
        pub text: String,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Fail {
        pub body_version: u8,
        pub code: u16,
        pub text: String,
    }
    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct TransferEnd {
        pub body_version: u8,
        pub code: u16,
        pub bytes: u64,
        pub text: String,
    }
}

#[test]
fn golden_bodies_are_read_by_wincode_as_by_bincode() {
    let body = |name: &str| {
        let frame = frames().into_iter().find(|(n, _)| *n == name).unwrap().1;
        golden_frame(name, &frame).body
    };
    let ours = greeting();
    let theirs: mirror::Greeting = wincode::deserialize(&body("hello")).unwrap();
    let expected = mirror::Greeting {
        body_version: ours.body_version,
        protocol_min: ours.protocol_min,
        protocol_max: ours.protocol_max,
        purpose: ours.purpose,
        message_lanes: ours.message_lanes,
        features: ours.features,
        required: ours.required,
        member: mirror::Member { node: 7, incarnation: 2 },
        domain: ours.domain.clone(),
        cluster: mirror::Cluster { id: ours.cluster.id, generation: 4 },
        credit_bytes: ours.credit_bytes,
    };
    assert_eq!(theirs, expected);
    let credit: mirror::Credit = wincode::deserialize(&body("credit")).unwrap();
    assert_eq!(credit, mirror::Credit { body_version: 1, bytes: 4 << 20 });
    let away: mirror::GoAway = wincode::deserialize(&body("go_away")).unwrap();
    assert_eq!(away, mirror::GoAway { body_version: 1, code: 0, text: "the node stops".into() });
    let fail: mirror::Fail = wincode::deserialize(&body("fail")).unwrap();
    assert_eq!(fail, mirror::Fail { body_version: 1, code: 1, text: "dropped".into() });
    let end: mirror::TransferEnd = wincode::deserialize(&body("transfer_end")).unwrap();
    assert_eq!(end, mirror::TransferEnd { body_version: 1, code: 0, bytes: 1 << 30, text: String::new() });
}

#[test]
fn every_code_stands_in_the_specification() {
    let spec = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("SPEC.md")).unwrap();
    for code in CloseCode::ALL {
        assert!(spec.contains(&format!("| {:#04x} | {code:?} |", code.number())), "close code {code:?}");
    }
    for code in FailCode::ALL {
        assert!(spec.contains(&format!("| {:#04x} | {code:?} |", code.number())), "fail code {code:?}");
    }
    for kind in Kind::ALL {
        assert!(spec.contains(&format!("| {} | {kind:?} |", *kind as u8)), "kind {kind:?}");
    }
}
