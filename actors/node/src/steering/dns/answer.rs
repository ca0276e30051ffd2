//! From a question to its answer: pure. Whatever comes in, what goes out is small, and nothing is asked of others.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use onemec_core::directory::Directory;

use super::names::{self, Host, Meaning};

/// Records of one kind in an answer, at most: an answer fits a datagram.
pub(super) const RECORDS_MAX: usize = 8;
/// What is said over UDP to those who do not say what they take (RFC 1035 4.2.1), octets.
const UDP_BYTES: u16 = 512;
/// The most that is sent in one datagram whatever they say: what passes every network in one piece, octets.
const UDP_BYTES_MAX: u16 = 1232;
/// Length of a message's header, octets.
pub(super) const HEADER_BYTES: usize = 12;
/// Times of the start of authority that secondary servers would use, seconds; there are none.
const SOA_REFRESH_S: i32 = 60;
const SOA_EXPIRE_S: i32 = 3600;

/// By which way a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram. Not `full`: no more than an empty answer may go there now.
    Udp {
        /// See [`super::limit`].
        full: bool,
    },
    /// A connection.
    Tcp,
}

/// The zone that is answered for.
#[derive(Debug, Clone)]
pub struct Zone {
    origin: Name,
    ttl_s: u32,
}

/// A text that is no name of a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no zone; write a domain name such as iot.example")]
pub struct ZoneError(String);

impl Zone {
    /// A zone by its name, for example `iot.example`; its records live for `ttl_s` seconds.
    ///
    /// # Errors
    /// If it is no domain name of host labels.
    pub fn new(name: &str, ttl_s: u32) -> Result<Self, ZoneError> {
        let bad = || ZoneError(name.to_owned());
        let is_label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let labels = name.trim_end_matches('.');
        // Names of AEs take up to 150 octets of the 255.
        if labels.len() > 90 || !labels.split('.').all(is_label) {
            return Err(bad());
        }
        let mut origin = Name::from_ascii(labels).map_err(|_| bad())?.to_lowercase();
        origin.set_fqdn(true);
        Ok(Self { origin, ttl_s })
    }

    fn below(&self, label: &str) -> Option<Name> {
        self.origin.prepend_label(label).ok()
    }

    fn record(&self, owner: Name, data: RData) -> Record {
        Record::from_rdata(owner, self.ttl_s, data)
    }
}

/// The answer to `question`; `None` if it deserves none. `serves`: this node has a lease, so that its directory is fresh.
pub fn answer(
    question: &[u8],
    zone: &Zone,
    directory: &Directory,
    transport: Transport,
    serves: bool,
) -> Option<Vec<u8>> {
    let reply = reply(question, zone, directory, serves)?;
    let limit = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp { .. } => reply.edns.as_ref().map_or(UDP_BYTES, |_| reply.takes).min(UDP_BYTES_MAX),
    };
    let mut message = reply.message;
    message.edns = reply.edns;
    if transport == (Transport::Udp { full: false }) {
        message = message.truncate();
    }
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) { Some(bytes) } else { message.truncate().to_vec().ok() }
}

struct Reply {
    message: Message,
    edns: Option<Edns>,
    /// What the other side takes in a datagram, octets.
    takes: u16,
}

fn plain(message: Message) -> Reply {
    Reply { message, edns: None, takes: UDP_BYTES }
}

/// The answer before it is cut to a datagram's size.
fn reply(question: &[u8], zone: &Zone, directory: &Directory, serves: bool) -> Option<Reply> {
    let head: [u8; HEADER_BYTES] = question.get(..HEADER_BYTES)?.try_into().ok()?;
    // An answer is never answered: two servers would talk for ever.
    if head[2] & 0x80 != 0 {
        return None;
    }
    let asked = match Message::from_vec(question) {
        Ok(asked) => asked,
        Err(_) => {
            let operation = OpCode::from_u8((head[2] >> 3) & 0x0f);
            let id = u16::from_be_bytes([head[0], head[1]]);
            return Some(plain(Message::error_msg(id, operation, ResponseCode::FormErr)));
        }
    };
    let mut message = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    message.metadata = Metadata::response_from_request(&asked.metadata);
    message.metadata.checking_disabled = false;
    let takes = asked.edns.as_ref().map_or(UDP_BYTES, |e| e.max_payload().max(UDP_BYTES));
    let edns = asked.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
        edns
    });
    let with = |mut message: Message, edns: Option<Edns>, code: ResponseCode| {
        message.metadata.response_code = code;
        let edns = edns.map(|mut e| {
            e.set_rcode_high(code.high());
            e
        });
        Some(Reply { message, edns, takes })
    };
    if asked.metadata.op_code != OpCode::Query {
        return with(message, edns, ResponseCode::NotImp);
    }
    if asked.edns.as_ref().is_some_and(|e| e.version() != 0) {
        return with(message, edns, ResponseCode::BADVERS);
    }
    let [query] = asked.queries.as_slice() else { return with(message, edns, ResponseCode::FormErr) };
    message.queries = vec![query.clone()];
    let transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    if query.query_class != DNSClass::IN || transfer || !zone.origin.zone_of(&query.name) {
        // Other zones, other classes, transfers: not here, and nobody else is asked.
        return with(message, edns, ResponseCode::Refused);
    }
    if !serves {
        return with(message, edns, ResponseCode::ServFail);
    }
    message.metadata.authoritative = true;
    let code = fill(&mut message, query, zone, directory);
    with(message, edns, code)
}

fn fill(message: &mut Message, query: &Query, zone: &Zone, directory: &Directory) -> ResponseCode {
    let name = query.name.to_lowercase();
    let inside = usize::from(name.num_labels().saturating_sub(zone.origin.num_labels()));
    let labels: Vec<&[u8]> = name.iter().take(inside).collect();
    let owner = &query.name;
    let meaning = names::look_up(directory, &labels);
    let is = |kind: RecordType| query.query_type == kind || query.query_type == RecordType::ANY;
    match &meaning {
        Meaning::Nothing => {
            message.authorities.extend(start_of_authority(zone, directory));
            return ResponseCode::NXDomain;
        }
        Meaning::Branch => {}
        // RFC 8482: who asks for everything gets little.
        _ if query.query_type == RecordType::ANY => {
            let little = HINFO::new("RFC8482".into(), String::new());
            message.answers.push(zone.record(owner.clone(), RData::HINFO(little)));
        }
        Meaning::Zone(hosts) | Meaning::Hosts(hosts) => {
            let turn = usize::from(message.metadata.id);
            message.answers.extend(addresses(zone, owner, hosts, turn).filter(|r| is(r.record_type())));
            if matches!(meaning, Meaning::Zone(_)) {
                if is(RecordType::SOA) {
                    message.answers.extend(start_of_authority(zone, directory));
                }
                if is(RecordType::NS) {
                    let shown = hosts.iter().take(RECORDS_MAX);
                    let servers = shown.filter_map(|h| Some(RData::NS(NS(zone.below(&h.name)?))));
                    message.answers.extend(servers.map(|d| zone.record(owner.clone(), d)));
                    message.additionals.extend(glue(zone, hosts));
                }
            }
        }
        Meaning::Service(_, hosts) if is(RecordType::SRV) => {
            let shown = hosts.iter().take(RECORDS_MAX);
            let doors = shown.filter_map(|h| Some(RData::SRV(SRV::new(0, 0, h.port, zone.below(&h.name)?))));
            message.answers.extend(doors.map(|d| zone.record(owner.clone(), d)));
            message.additionals.extend(glue(zone, hosts));
        }
        Meaning::Service(..) => {}
    }
    if message.answers.is_empty() {
        message.authorities.extend(start_of_authority(zone, directory));
    }
    ResponseCode::NoError
}

/// Address records; clients take the first one, so the nodes take turns.
fn addresses<'a>(zone: &'a Zone, owner: &'a Name, hosts: &'a [Host], turn: usize) -> impl Iterator<Item = Record> + 'a {
    let first = turn % hosts.len().max(1);
    let turned = hosts.iter().skip(first).chain(hosts.iter().take(first));
    turned.take(RECORDS_MAX).flat_map(|h| h.addresses.iter()).map(|address| zone.record(owner.clone(), data(*address)))
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(a) => RData::A(A(a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(a)),
    }
}

/// Addresses of the nodes that were named.
fn glue(zone: &Zone, hosts: &[Host]) -> Vec<Record> {
    let mut all = Vec::new();
    for host in hosts.iter().take(RECORDS_MAX) {
        let Some(owner) = zone.below(&host.name) else { continue };
        all.extend(host.addresses.iter().map(|a| zone.record(owner.clone(), data(*a))));
    }
    all
}

/// The serial number is the directory's index: it grows with every change.
fn start_of_authority(zone: &Zone, directory: &Directory) -> Option<Record> {
    #[allow(clippy::cast_possible_truncation)] // serial numbers wrap (RFC 1982)
    let serial = directory.index() as u32;
    let server =
        names::any_server(directory).and_then(|label| zone.below(&label)).unwrap_or_else(|| zone.origin.clone());
    let keeper = zone.below("hostmaster")?;
    let soa = SOA::new(server, keeper, serial, SOA_REFRESH_S, SOA_REFRESH_S, SOA_EXPIRE_S, zone.ttl_s);
    Some(zone.record(zone.origin.clone(), RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
