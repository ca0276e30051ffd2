use std::collections::{BTreeMap, BTreeSet};

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::{Command, CommandOutcome, ContextSpec, Durability, Entry, Nonce, StoreId};
use onemec_wire::{Incarnation, Member, NodeId, Seq};

use super::*;

const UDP: Transport = Transport::Udp { full: true };

struct World {
    directory: Directory,
    index: u64,
}

fn member(node: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(1) }
}

impl World {
    fn run(&mut self, command: Command) -> CommandOutcome {
        self.index += 1;
        let entry = Entry { time_ms: 1, commands: vec![command] };
        self.directory.apply(self.index, &entry).outcomes.remove(0)
    }

    /// Three nodes; the AE `Cmeter_7` is served by node 2 with a replica at node 3.
    fn new() -> Self {
        let mut world = Self { directory: Directory::new(1), index: 0 };
        for node in 1..=3u64 {
            let info = BTreeMap::from([
                ("name".to_owned(), format!("Edge{node}")),
                ("poa".to_owned(), format!("http{}://10.0.0.{node}:8080", if node == 3 { "s" } else { "" })),
                (names::ADDRESSES.to_owned(), format!("10.0.0.{node},2001:db8::{node}")),
            ]);
            world.run(Command::NodeUp { member: member(node), store: StoreId(node), info });
        }
        let spec = ContextSpec {
            kind: ContextKind::AE,
            keys: vec![Key::at(NodeId(2), "aei:Cmeter_7")],
            pinned: false,
            bundle: None,
        };
        let created = world.run(Command::CreateGroup {
            nonce: Nonce(7),
            primary: member(2),
            in_sync: BTreeSet::from([member(2), member(3)]),
            durability: Durability::Memory,
            replicas_wanted: 2,
            contexts: vec![spec],
        });
        assert!(matches!(created, CommandOutcome::Created { .. }), "{created:?}");
        world
    }

    fn zone() -> Zone {
        Zone::new("IoT.example", 1).unwrap()
    }

    fn raw(&self, question: &[u8], transport: Transport, serves: bool) -> Option<Message> {
        let bytes = answer(question, &Self::zone(), &self.directory, transport, serves)?;
        Some(Message::from_vec(&bytes).expect("what is sent can be read"))
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.raw(&question(name, kind).to_vec().unwrap(), UDP, true).unwrap()
    }

    fn a(&self, name: &str) -> Vec<String> {
        let answer = self.ask(name, RecordType::A);
        assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
        let mut all: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
        all.sort();
        all
    }

    fn code(&self, name: &str, kind: RecordType) -> ResponseCode {
        self.ask(name, kind).metadata.response_code
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

#[test]
fn names_follow_the_directory() {
    let mut world = World::new();
    let ae = "CmeterX17.ae.iot.example.";
    assert_eq!(world.a("iot.example."), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(world.a("edge2.IOT.example."), ["10.0.0.2"]);
    assert_eq!(world.a(ae), ["10.0.0.2"]);
    let six = world.ask(ae, RecordType::AAAA);
    assert_eq!(six.answers[0].data.to_string(), "2001:db8::2");
    // A move: the very next answer is the new one.
    let (group, base) = world.directory.groups().map(|(id, p)| (id, p.base(id))).next().unwrap();
    let transfer = Command::Transfer { base, sealed: Seq(0), target: member(3), attachment: None };
    assert_eq!(world.run(transfer), CommandOutcome::Done);
    assert_eq!(world.a(ae), ["10.0.0.3"]);
    // Death of its host: the replica that was promoted, and the dead node's own name leads to the living.
    world.run(Command::NodeDead { member: member(3), forced: false });
    assert_eq!(world.directory.group(group).unwrap().primary, member(2));
    assert_eq!(world.a(ae), ["10.0.0.2"]);
    assert_eq!(world.a("edge3.iot.example."), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(world.a("iot.example."), ["10.0.0.1", "10.0.0.2"]);
    world.run(Command::NodeDead { member: member(2), forced: true });
    assert_eq!(world.a(ae), ["10.0.0.1"], "nobody serves it: the living say so");
}

#[test]
fn services_carry_ports() {
    let world = World::new();
    let all = world.ask("_http._tcp.iot.example.", RecordType::SRV);
    let shown: Vec<String> = all.answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(shown, ["0 0 8080 edge1.iot.example.", "0 0 8080 edge2.iot.example."]);
    assert_eq!(all.additionals.len(), 4, "with their addresses");
    let tls = world.ask("_https._tcp.edge3.iot.example.", RecordType::SRV);
    assert_eq!(tls.answers[0].data.to_string(), "0 0 8080 edge3.iot.example.");
    let ae = world.ask("_http._tcp.cmeterx17.ae.iot.example.", RecordType::SRV);
    assert_eq!(ae.answers[0].data.to_string(), "0 0 8080 edge2.iot.example.");
    assert_eq!(all.answers[0].ttl, 1);
}

#[test]
fn what_is_not_there_is_said_so() {
    let world = World::new();
    for name in ["nobody", "cnobody.ae", "meter.ae", "a.edge1", "_http._tcp.nobody", "_tcp._tcp", "_http._tcp.ae"] {
        let answer = world.ask(&format!("{name}.iot.example."), RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "negative answers can be kept (RFC 2308)");
    }
    for (name, kind) in [
        ("ae.iot.example.", RecordType::A),
        ("_tcp.iot.example.", RecordType::A),
        ("_http._tcp.edge3.iot.example.", RecordType::SRV),
        ("edge1.iot.example.", RecordType::MX),
    ] {
        let answer = world.ask(name, kind);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{name}");
        assert_eq!(answer.authorities.len(), 1, "{name}");
    }
    let soa = world.ask("iot.example.", RecordType::SOA);
    assert_eq!(soa.answers.len(), 1);
    assert_eq!(world.ask("iot.example.", RecordType::NS).answers.len(), 3);
}

#[test]
fn others_business_is_refused() {
    let world = World::new();
    assert_eq!(world.code("www.example.com.", RecordType::A), ResponseCode::Refused);
    assert_eq!(world.code("example.", RecordType::A), ResponseCode::Refused);
    assert_eq!(world.code("xiot.example.", RecordType::A), ResponseCode::Refused);
    assert_eq!(world.code("iot.example.", RecordType::AXFR), ResponseCode::Refused);
    let mut chaos = question("iot.example.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut update = question("iot.example.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let mut two = question("iot.example.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("iot.example.").unwrap(), RecordType::A));
    let mut newer = question("iot.example.", RecordType::A);
    newer.set_edns({
        let mut edns = Edns::new();
        edns.set_version(1);
        edns
    });
    for (message, code) in [
        (chaos, ResponseCode::Refused),
        (update, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (newer, ResponseCode::BADVERS),
    ] {
        let answer = world.raw(&message.to_vec().unwrap(), UDP, true).unwrap();
        // By number: BADVERS and BADSIG share one.
        assert_eq!(u16::from(answer.metadata.response_code), u16::from(code));
        assert!(answer.answers.is_empty());
    }
    // No lease: the directory may be old.
    let stale = world.raw(&question("iot.example.", RecordType::A).to_vec().unwrap(), UDP, false).unwrap();
    assert_eq!((stale.metadata.response_code, stale.answers.len()), (ResponseCode::ServFail, 0));
}

#[test]
fn nothing_hostile_gets_more_than_it_brought_or_any_panic() {
    let world = World::new();
    let good = question("edge1.iot.example.", RecordType::A).to_vec().unwrap();
    let mut answered = 0;
    for cut in 0..good.len() {
        let Some(answer) = world.raw(&good[..cut], UDP, true) else { continue };
        assert!(cut >= HEADER_BYTES);
        assert_eq!(
            (answer.metadata.response_code, answer.metadata.id),
            (ResponseCode::FormErr, u16::from_be_bytes([good[0], good[1]]))
        );
        answered += 1;
    }
    assert_eq!(answered, good.len() - HEADER_BYTES);
    for at in 0..good.len() {
        for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            drop(world.raw(&bad, UDP, true));
        }
    }
    // A name that points at itself.
    let mut looped = good[..HEADER_BYTES].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(world.raw(&looped, UDP, true).unwrap().metadata.response_code, ResponseCode::FormErr);
    // An answer is not answered.
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert!(world.raw(&reply, UDP, true).is_none());
    // Who asks for everything gets little (RFC 8482), and who asked too often an empty answer that says "by TCP".
    let any = world.ask("iot.example.", RecordType::ANY);
    assert_eq!(any.answers.len(), 1);
    let cut = world.raw(&good, Transport::Udp { full: false }, true).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert!(!world.raw(&good, Transport::Tcp, true).unwrap().metadata.truncation);
}

#[test]
fn large_clusters_fit_a_datagram() {
    let mut world = World::new();
    for node in 4..200u64 {
        let info = BTreeMap::from([
            ("name".to_owned(), format!("{}{node}", "n".repeat(50))),
            ("poa".to_owned(), "http://10.1.0.1:80".to_owned()),
            (names::ADDRESSES.to_owned(), format!("10.1.0.{node},2001:db8::{node}")),
        ]);
        world.run(Command::NodeUp { member: member(node), store: StoreId(node), info });
    }
    let mut seen = BTreeSet::new();
    for id in 0..200 {
        let mut asked = question("iot.example.", RecordType::A);
        asked.metadata.id = id;
        let bytes = answer(&asked.to_vec().unwrap(), &World::zone(), &world.directory, UDP, true).unwrap();
        assert!(bytes.len() <= 512);
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.answers.len(), RECORDS_MAX);
        seen.insert(answer.answers[0].data.to_string());
    }
    assert_eq!(seen.len(), 199, "the nodes take turns");
    let services = world.ask("_http._tcp.iot.example.", RecordType::SRV);
    assert!(services.metadata.truncation, "long answers say that there is more over TCP");
    let tcp = world.raw(&question("_http._tcp.iot.example.", RecordType::SRV).to_vec().unwrap(), Transport::Tcp, true);
    assert_eq!(tcp.unwrap().answers.len(), RECORDS_MAX);
}

#[test]
fn zones_are_domain_names() {
    for bad in ["", ".", "a..b", "-a.b", "a_b", "ä.example", &"a.".repeat(60)] {
        assert!(Zone::new(bad, 1).is_err(), "{bad}");
    }
    assert!(Zone::new("iot.example.", 0).is_ok());
}
