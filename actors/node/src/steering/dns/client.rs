//! A stub resolver that asks given servers: what the system's resolver is to an ordinary program, for the demo and for
//! tests on machines whose own resolver cannot be changed.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use onemec_device::http1::{BoxFuture, Resolve};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

/// The next server is asked after this time.
const ANSWER_MAX: Duration = Duration::from_millis(150);
const ANSWER_BYTES_MAX: usize = 1500;
/// Names that are remembered until their time to live is over.
const NAMES_MAX: usize = 1024;

/// See the module. Answers are kept for their time to live, as every resolver does.
#[derive(Debug)]
pub struct StubResolver {
    servers: Vec<SocketAddr>,
    known: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl StubResolver {
    /// Asks these, in this order, until one answers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, known: Mutex::default() }
    }

    /// Addresses of a name: IPv4, or IPv6 where it has no others.
    ///
    /// # Errors
    /// `NotFound`: the name has none. `TimedOut`: no server gave an answer.
    pub async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        if let Some((until, known)) = self.known.lock().get(name)
            && Instant::now() < *until
        {
            return Ok(known.clone());
        }
        let mut answer = self.ask(name, RecordType::A).await?;
        if answer.answers.is_empty() && answer.metadata.response_code == ResponseCode::NoError {
            answer = self.ask(name, RecordType::AAAA).await?;
        }
        let records = answer.answers.iter();
        let found: Vec<(u32, IpAddr)> = records
            .filter_map(|r| match r.data {
                RData::A(a) => Some((r.ttl, IpAddr::V4(a.0))),
                RData::AAAA(a) => Some((r.ttl, IpAddr::V6(a.0))),
                _ => None,
            })
            .collect();
        let Some(ttl) = found.iter().map(|(ttl, _)| *ttl).min() else {
            return Err(Error::new(ErrorKind::NotFound, format!("{name}: {}", answer.metadata.response_code)));
        };
        let addresses: Vec<IpAddr> = found.into_iter().map(|(_, a)| a).collect();
        if ttl == 0 {
            // For this connection only (RFC 1035 3.2.1).
            return Ok(addresses);
        }
        let mut known = self.known.lock();
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), (Instant::now() + Duration::from_secs(ttl.into()), addresses.clone()));
        Ok(addresses)
    }

    /// The first answer other than "I cannot say".
    ///
    /// # Errors
    /// If no server gives one.
    pub async fn ask(&self, name: &str, kind: RecordType) -> std::io::Result<Message> {
        let mut question = Message::query();
        let fqdn = Name::from_ascii(name).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
        question.add_query(Query::query(fqdn, kind));
        let bytes = question.to_vec().map_err(Error::other)?;
        for server in &self.servers {
            let asked = tokio::time::timeout(ANSWER_MAX, exchange(*server, &bytes)).await;
            if let Ok(Ok(answer)) = asked
                && answer.metadata.id == question.metadata.id
                && answer.metadata.response_code != ResponseCode::ServFail
            {
                return Ok(answer);
            }
        }
        Err(Error::new(ErrorKind::TimedOut, format!("no DNS server answers for {name}")))
    }
}

impl Resolve for StubResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        Box::pin(self.addresses(host))
    }
}

async fn exchange(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: datagrams of others do not get through, and a closed port is heard of at once.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let length = socket.recv(&mut buffer).await?;
    Message::from_vec(buffer.get(..length).unwrap_or_default()).map_err(Error::other)
}
