//! QUIC settings: the socket, the profiles, the two sides' configurations.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use onemec_wire::LaneNumber;
use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::error::StartError;
use super::options::{Options, Profile, Tuning};
use crate::pki::Pki;

/// Packet size on loopback; GSO is off there, since GSO times MTU over 64 KiB loses packets silently.
const LOOPBACK_MTU: u16 = 65_000;
/// First congestion window on loopback, in bytes.
const LOOPBACK_WINDOW: u64 = 16 << 20;
/// Packet size on jumbo paths.
const LAN_MTU: u16 = 6_550;
/// First congestion window on one site: a hundred jumbo packets.
const LAN_WINDOW: u64 = 640 << 10;
/// Round-trip time assumed on one site before the first is measured: a lost first packet costs three times this.
const FIRST_RTT: Duration = Duration::from_millis(20);
/// Greatest packet size on other networks.
const WAN_MTU: u16 = 1_452;

pub(super) fn open(options: &Options, pki: &Pki) -> Result<quinn::Endpoint, StartError> {
    let tuning = &options.tuning;
    let listen = |source| StartError::Listen { address: options.listen, source };
    let socket = socket(options.listen, tuning).map_err(listen)?;
    let mut config = match options.reset_key {
        Some(key) => EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key))),
        None => EndpointConfig::default(),
    };
    config.rng_seed(options.seed);
    if tuning.profile != Profile::Wan {
        config.max_udp_payload_size(LOOPBACK_MTU).map_err(setting)?;
    }
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(pki.quic_server()?));
    server.transport_config(Arc::new(transport(tuning)?));
    server.max_incoming(tuning.handshakes_max);
    // quinn spawns its tasks on the runtime that is current here.
    let _here = options.runtime.enter();
    quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime)).map_err(listen)
}

pub(super) fn client(tuning: &Tuning, pki: &Pki) -> Result<quinn::ClientConfig, StartError> {
    let mut client = quinn::ClientConfig::new(Arc::new(pki.quic_client()?));
    client.transport_config(Arc::new(transport(tuning)?));
    Ok(client)
}

fn socket(address: SocketAddr, tuning: &Tuning) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    // The system may grant less; then it is slower under bursts, nothing else.
    let _less = socket.set_recv_buffer_size(tuning.socket_buffer_bytes as usize);
    let _less = socket.set_send_buffer_size(tuning.socket_buffer_bytes as usize);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn transport(tuning: &Tuning) -> Result<TransportConfig, StartError> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(Duration::from_millis(tuning.idle_timeout_ms.into())).map_err(setting)?;
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(Duration::from_millis(tuning.keep_alive_ms.into())))
        .stream_receive_window(tuning.stream_window_bytes.into())
        // Set to the purpose's own window after the handshake; until then the greater one.
        .receive_window(tuning.transfers_window_bytes.max(tuning.lanes_window_bytes).into())
        .send_window(tuning.send_window_bytes.into())
        .max_concurrent_uni_streams(VarInt::from_u32(LaneNumber::COUNT as u32))
        // The control stream, and the greater of the two purposes' limits.
        .max_concurrent_bidi_streams((1 + tuning.calls_concurrent_max.max(tuning.transfers_concurrent_max)).into());
    match tuning.profile {
        Profile::Loopback => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(LOOPBACK_WINDOW);
            config
                .initial_mtu(LOOPBACK_MTU)
                .mtu_discovery_config(None)
                .enable_segmentation_offload(false)
                .initial_rtt(FIRST_RTT)
                .congestion_controller_factory(Arc::new(cubic));
        }
        Profile::Lan => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(LAN_WINDOW);
            config
                .initial_mtu(LAN_MTU)
                .mtu_discovery_config(None)
                .initial_rtt(FIRST_RTT)
                .congestion_controller_factory(Arc::new(cubic));
        }
        Profile::Wan => {
            let mut probe = MtuDiscoveryConfig::default();
            probe.upper_bound(WAN_MTU);
            config.mtu_discovery_config(Some(probe));
        }
    }
    Ok(config)
}

fn setting(error: impl std::fmt::Display) -> StartError {
    StartError::Setting(error.to_string())
}
