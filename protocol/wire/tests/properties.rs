//! Properties of encoder and decoders: what goes in comes out, however it is cut; garbage gives an error, never a panic,
//! and never more memory than was received.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use onemec_wire::decode::Decoder;
use onemec_wire::encode::Encoder;
use onemec_wire::greeting::{self, BODY_VERSION, Greeting};
use onemec_wire::limits::*;
use onemec_wire::{Channel, Cluster, Frame, Item, Kind, LaneNumber, Member, ProtocolError, Role, Rope, ServiceId};
use onemec_wire::{Record, codec, datagram};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn rope() -> impl Strategy<Value = Rope> {
    prop_oneof![
        vec(bytes(50), 0..4).prop_map(|pieces| pieces.into_iter().collect()),
        (INLINE_BYTES_MAX - 2..INLINE_BYTES_MAX + 3).prop_map(|n| Rope::from(Bytes::from(vec![7; n]))),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let kind = proptest::sample::select(Kind::ALL);
    (kind, any::<(u16, u32, u64, u64)>(), bytes(200), vec(rope(), 0..4)).prop_map(
        |(kind, (service, deadline_ms, correlation, target), body, attachments)| Frame {
            kind,
            service: ServiceId(service),
            deadline_ms,
            correlation,
            target,
            body,
            attachments,
        },
    )
}

fn encode(frames: &[Frame]) -> Vec<Bytes> {
    let mut encoder = Encoder::new();
    for frame in frames {
        let before = encoder.queued_bytes();
        assert_eq!(encoder.push(frame, LANE_FRAME_BYTES_MAX).unwrap(), frame.wire_len());
        assert_eq!(encoder.queued_bytes() - before, frame.wire_len());
    }
    let mut pieces = Vec::new();
    encoder.take(&mut pieces);
    assert_eq!(encoder.queued_bytes(), 0);
    pieces
}

fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Vec<Frame> {
    let mut decoder = Decoder::new(LANE_FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
    }
    decoder.end().unwrap();
    frames
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        frames in vec(frame(), 1..5), cuts in vec(1usize..3000, 1..20),
    ) {
        let pieces = encode(&frames);
        prop_assert!(pieces.iter().all(|p| !p.is_empty()));
        let mut all = Bytes::from(pieces.concat());
        prop_assert_eq!(&decode(pieces), &frames);
        let mut cut = Vec::new();
        for n in cuts.iter().cycle() {
            if all.is_empty() {
                break;
            }
            cut.push(all.split_to((*n).min(all.len())));
        }
        prop_assert_eq!(&decode(cut), &frames);
    }

    #[test]
    fn no_bytes_panic_or_make_a_channel_keep_more_than_it_got(
        pieces in vec(bytes(100), 0..20), role in 0usize..7, like_a_frame in any::<bool>(),
    ) {
        let role = [
            Role::ControlAcceptor, Role::ControlDialler, Role::Lane { message_lanes: 2 }, Role::Called, Role::Caller,
            Role::TransferReceiver, Role::TransferSender,
        ][role];
        let mut channel = Channel::new(role);
        if like_a_frame {
            channel.push(Bytes::from_static(b"oF\x01"));
        }
        let mut got = 3;
        for piece in pieces {
            got += piece.len();
            channel.push(piece);
            loop {
                match channel.next() {
                    Ok(None) => break,
                    Ok(Some(Item::Raw(rope))) => prop_assert!(rope.len() <= got),
                    Ok(Some(_)) => {}
                    Err(error) => {
                        prop_assert!(error.code().is_breach());
                        return Ok(());
                    }
                }
            }
        }
        let _either = channel.end();
    }

    #[test]
    fn a_damaged_frame_gives_an_error_or_another_frame(frame in frame(), at in any::<usize>(), with in 1u8..) {
        let mut all = encode(&[frame]).concat();
        let at = at % all.len().min(64);
        all[at] ^= with;
        let mut decoder = Decoder::new(LANE_FRAME_BYTES_MAX);
        decoder.push(Bytes::from(all));
        while let Ok(Some(_)) = decoder.next() {}
    }

    #[test]
    fn datagrams_come_out_as_they_went_in(service in any::<u16>(), body in bytes(2000)) {
        let whole = datagram::encode(ServiceId(service), &body).unwrap();
        prop_assert_eq!(datagram::decode(&whole).unwrap(), (ServiceId(service), body));
    }

    #[test]
    fn no_bytes_panic_the_other_decoders(bytes in bytes(300)) {
        let _ = datagram::decode(&bytes);
        let _ = codec::decode::<Greeting>(&bytes);
        let _ = codec::decode::<greeting::Fail>(&bytes);
        let _ = Record::parse(&bytes);
    }
}

#[test]
fn chunking_at_every_boundary_gives_the_same_frames() {
    let mut ask = Frame::new(Kind::Ask, ServiceId(6), Bytes::from_static(b"body"));
    ask.attachments = vec![Bytes::from_static(b"one").into(), Rope::new(), Bytes::from_static(b"three").into()];
    let frames = [Frame::new(Kind::Tell, ServiceId(4), Bytes::new()), ask.clone(), ask];
    let all = Bytes::from(encode(&frames).concat());
    for first in 0..=all.len() {
        assert_eq!(decode([all.slice(..first), all.slice(first..)]), frames);
        for second in first..=all.len() {
            assert_eq!(decode([all.slice(..first), all.slice(first..second), all.slice(second..)]), frames);
        }
    }
    assert_eq!(decode((0..all.len()).map(|n| all.slice(n..=n))), frames);
    for cut in 1..all.len() {
        let mut decoder = Decoder::new(LANE_FRAME_BYTES_MAX);
        decoder.push(all.slice(..cut));
        let mut whole = 0;
        while let Some(frame) = decoder.next().unwrap() {
            whole += frame.wire_len();
        }
        assert_eq!(decoder.end().is_ok(), whole == cut, "cut at {cut}");
    }
}

#[test]
fn payload_is_not_copied_by_encoder_and_decoder() {
    let payload = Bytes::from(vec![9; 1 << 20]);
    let mut frame = Frame::new(Kind::Tell, ServiceId(4), Bytes::from_static(b"b"));
    frame.attachments.push(payload.clone().into());
    let pieces = encode(&[frame]);
    assert!(pieces.iter().any(|p| p.as_ptr() == payload.as_ptr()));
    let frame = decode(pieces).pop().unwrap();
    assert_eq!(frame.attachments[0].chunks().next().unwrap().as_ptr(), payload.as_ptr());
}

#[test]
fn small_frames_share_a_buffer() {
    let frames = vec![Frame::new(Kind::Tell, ServiceId(4), Bytes::from(vec![1; 256])); 50];
    let pieces = encode(&frames);
    assert_eq!(pieces.len(), (50 * 288usize).div_ceil(COALESCE_BYTES));
}

#[test]
fn lengths_are_refused_before_anything_is_kept() {
    let mut header = encode(&[Frame::new(Kind::Tell, ServiceId(1), Bytes::new())]).concat();
    header[8..12].copy_from_slice(&(BODY_BYTES_MAX as u32 + 1).to_le_bytes());
    let mut decoder = Decoder::new(LANE_FRAME_BYTES_MAX);
    decoder.push(header.into());
    assert!(matches!(decoder.next(), Err(ProtocolError::TooLong { what: "body", .. })));

    let mut one = Frame::new(Kind::Tell, ServiceId(1), Bytes::new());
    one.attachments.push(Rope::new());
    let mut lengths = encode(&[one]).concat();
    lengths[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut decoder = Decoder::new(LANE_FRAME_BYTES_MAX);
    decoder.push(lengths.into());
    assert!(matches!(decoder.next(), Err(ProtocolError::TooLong { what: "frame", .. })));

    let many = Frame {
        attachments: vec![Rope::new(); ATTACHMENTS_MAX + 1],
        ..Frame::new(Kind::Tell, ServiceId(1), Bytes::new())
    };
    assert!(Encoder::new().push(&many, LANE_FRAME_BYTES_MAX).is_err());
}

fn greeting(id: u64) -> Greeting {
    Greeting {
        body_version: BODY_VERSION,
        protocol_min: 1,
        protocol_max: 3,
        purpose: 1,
        message_lanes: 2,
        features: 0b111,
        required: 0b001,
        member: Member::new(id, 1),
        domain: "edge.example".into(),
        cluster: Cluster::default(),
        credit_bytes: 32 << 20,
    }
}

#[test]
fn the_newest_common_version_and_the_common_features_are_agreed() {
    let (mut a, mut b) = (greeting(1), greeting(2));
    b.protocol_max = 2;
    b.features = 0b101;
    let agreed = a.agree(&b).unwrap();
    assert_eq!(agreed, b.agree(&a).unwrap());
    assert_eq!((agreed.protocol, agreed.features), (2, 0b101));
    a.required = 0b010;
    assert!(a.agree(&b).is_err() && b.agree(&a).is_err());
    a.required = 0;
    a.protocol_min = 3;
    assert!(a.agree(&b).is_err() && b.agree(&a).is_err());
    a.protocol_min = 1;
    a.cluster.generation = 9;
    assert!(a.agree(&b).is_err());
    a.domain = "other.example".into();
    assert!(a.agree(&b).is_ok(), "another domain is another cluster");
}

#[test]
fn channels_take_their_frames_in_their_order_only() {
    let item = |role, frames: &[Frame]| {
        let mut channel = Channel::new(role);
        encode(frames).into_iter().for_each(|p| channel.push(p));
        let mut last = Ok(None);
        for _ in frames {
            last = channel.next();
            if last.is_err() {
                break;
            }
        }
        (last, channel.end())
    };
    let hello = greeting::hello(&greeting(1));
    assert!(matches!(item(Role::ControlAcceptor, std::slice::from_ref(&hello)).0, Ok(Some(Item::Hello(..)))));
    assert!(item(Role::ControlDialler, std::slice::from_ref(&hello)).0.is_err());
    assert!(item(Role::ControlAcceptor, &[hello.clone(), hello.clone()]).0.is_err());
    assert_eq!(item(Role::ControlAcceptor, &[hello.clone(), greeting::credit(5)]).0, Ok(Some(Item::Credit(5))));
    assert!(item(Role::ControlAcceptor, &[hello]).1.is_err(), "a control stream does not end");
    let lane = Role::Lane { message_lanes: 1 };
    let tell = Frame::new(Kind::Tell, ServiceId(4), Bytes::new());
    assert_eq!(item(lane, &[greeting::lane_open(3), tell.clone()]).0, Ok(Some(Item::Tell(tell.clone()))));
    assert!(item(lane, std::slice::from_ref(&tell)).0.is_err());
    assert!(item(lane, &[greeting::lane_open(4)]).0.is_err());
    let call = Frame::new(Kind::Call, ServiceId(4), Bytes::new());
    assert_eq!(item(Role::Called, std::slice::from_ref(&call)), (Ok(Some(Item::Call(call.clone()))), Ok(())));
    assert!(item(Role::Called, &[call.clone(), call]).0.is_err());
    let mut raw = Channel::new(Role::TransferReceiver);
    raw.push(encode(&[Frame::new(Kind::Transfer, ServiceId(4), Bytes::from_static(b"h"))]).concat().into());
    raw.push(Bytes::from_static(b"oF not a frame"));
    assert!(matches!(raw.next(), Ok(Some(Item::Transfer(_)))));
    assert_eq!(raw.next(), Ok(Some(Item::Raw(Bytes::from_static(b"oF not a frame").into()))));
    assert!(raw.end().is_ok());
    for target in 0..1000 {
        assert!((3..5).contains(&LaneNumber::message(target, 2).0));
    }
}
