//! What must hold in a topology beyond its syntax.

use std::collections::BTreeMap;

use onemec_device::Endpoint;
use onemec_mobility::residency::Residency;

use super::load::{Lines, Problem};
use super::{Auth, Durability, Node, Role, Topology, UnmodifiedSteering};
use crate::steering::dns::label::LABEL_BYTES_MAX;
use crate::steering::dns::{AES, Zone};

/// Everything that is wrong.
pub(super) fn check(t: &Topology, lines: &Lines<'_>) -> Vec<Problem> {
    let mut c = Checker { lines, problems: Vec::new() };
    c.cluster(t);
    c.values(t);
    c.unique(t);
    for (i, node) in t.node.iter().enumerate() {
        c.node(i, node);
    }
    c.problems.sort_by_key(|p| p.line);
    c.problems
}

struct Checker<'a> {
    lines: &'a Lines<'a>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn at(&mut self, line: usize, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem { line, what: what.into(), fix: fix.into() });
    }

    fn cluster(&mut self, t: &Topology) {
        if !is_name(&t.cluster.name) {
            let line = self.lines.section("cluster", "name");
            self.at(line, format!("cluster name `{}` is not usable", t.cluster.name), NAME_RULE);
        }
        let domain = &t.cluster.domain;
        if domain.is_empty()
            || domain.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)))
        {
            let line = self.lines.section("cluster", "domain");
            self.at(line, format!("domain `{domain}` is not usable"), "use lower case letters, digits, `-` and `.`");
        }
        let voters = t.node.iter().filter(|n| n.is(Role::Voter)).count();
        if !matches!(voters, 1 | 3 | 5) {
            let line = self.lines.node(0, "roles");
            self.at(
                line,
                format!("{voters} nodes have the role `voter`"),
                "give it to 3 nodes (one may die) or 5 (two may die); 1 is for trials",
            );
        }
        let in_cses: Vec<usize> =
            t.node.iter().enumerate().filter(|(_, n)| n.is(Role::InCse)).map(|(i, _)| i).collect();
        match in_cses.as_slice() {
            [_] => {}
            [] => self.at(0, "no node has the role `in-cse`", "give it to the node in the cloud"),
            [_, second, ..] => {
                let line = self.lines.node(*second, "roles");
                self.at(line, "a second node has the role `in-cse`", "a cluster has one IN-CSE: use `mn-cse` here");
            }
        }
    }

    fn values(&mut self, t: &Topology) {
        let checks = [
            ("cluster", "certificate_s", t.cluster.certificate_s, 10, 10 * 365 * 24 * 3600),
            ("timing", "lease_ms", t.timing.lease_ms, 50, 10_000),
            ("timing", "freeze_ms_max", t.timing.freeze_ms_max, 5, 1000),
            ("timing", "move_ms_max", t.timing.move_ms_max, 100, 3_600_000),
            ("timing", "repeat_window_ms", t.timing.repeat_window_ms, 1000, 3_600_000),
            ("timing", "token_ms", t.timing.token_ms, 1000, 30 * 24 * 3_600_000),
            ("storage", "segment_bytes", t.storage.segment_bytes, 4096, 64 << 20),
            ("limits", "request_bytes_max", t.limits.request_bytes_max, 1024, 1 << 30),
            ("limits", "requests_bytes_max", t.limits.requests_bytes_max, t.limits.request_bytes_max, 1 << 40),
            ("limits", "connections_max", u64::from(t.limits.connections_max), 1, 1_000_000),
            ("limits", "connections_per_address_max", u64::from(t.limits.connections_per_address_max), 1, 1_000_000),
            ("limits", "header_ms_max", t.limits.header_ms_max, 100, 60_000),
            ("limits", "aes_max", u64::from(t.limits.aes_max), 1, 100_000_000),
            ("limits", "moves_max", u64::from(t.limits.moves_max), 1, 10_000),
            ("limits", "buffer_bytes_max", t.limits.buffer_bytes_max, 0, 1 << 40),
            ("limits", "requests_per_s_max", u64::from(t.limits.requests_per_s_max), 0, 1_000_000),
            ("notifications", "verify_ms_max", t.notifications.verify_ms_max, 10, 60_000),
            ("notifications", "keep_ms", t.notifications.keep_ms, 1000, 7 * 24 * 3_600_000),
            ("limits", "passive_after_ms", t.limits.passive_after_ms, 100, 365 * 24 * 3_600_000),
            ("limits", "resources_bytes_max", t.limits.resources_bytes_max, 1 << 12, 1 << 40),
        ];
        for (section, key, value, min, max) in checks {
            if value < min || value > max {
                let line = self.lines.section(section, key);
                self.at(line, format!("{key} = {value}"), format!("use a value from {min} to {max}"));
            }
        }
        let least = t.limits.request_bytes_max;
        if (1..least).contains(&t.limits.buffer_bytes_max) {
            let line = self.lines.section("limits", "buffer_bytes_max");
            let what = format!("buffer_bytes_max = {}", t.limits.buffer_bytes_max);
            self.at(line, what, format!("use 0 (no buffer) or at least request_bytes_max, {least}"));
        }
        if !(0.0..=1.0).contains(&t.limits.load_max) {
            let line = self.lines.section("limits", "load_max");
            self.at(line, format!("load_max = {}", t.limits.load_max), "use a value from 0 to 1".to_owned());
        }
        let nodes = u32::try_from(t.node.len()).unwrap_or(u32::MAX);
        let least = if t.storage.durability == Durability::Replicated { 2 } else { 1 };
        if t.storage.replicas < least || t.storage.replicas > nodes {
            let line = self.lines.section("storage", "replicas");
            let (what, fix) =
                (format!("replicas = {}", t.storage.replicas), format!("use {least} to {nodes} (the nodes)"));
            self.at(line, what, fix);
        }
        self.admins(t);
        self.dns(t);
        self.takeover(t);
        self.mobility(t);
        self.federation(t);
        if let Some(url) = &t.observability.otlp_endpoint
            && !url.parse::<Endpoint>().is_ok_and(|e| !e.tls)
        {
            let line = self.lines.section("observability", "otlp_endpoint");
            let fix = "write http://HOST:PORT of a collector that takes OTLP over HTTP (usually port 4318)";
            self.at(line, format!("`{url}` is no plain HTTP URL"), fix);
        }
    }

    fn admins(&mut self, t: &Topology) {
        let admins = &t.cse.admins;
        let line = self.lines.section("cse", "admins");
        if admins.len() > ADMINS_MAX {
            let fix = format!("name at most {ADMINS_MAX}: nothing is hidden from them");
            self.at(line, format!("{} administrators", admins.len()), fix);
        }
        for admin in admins {
            if !is_ae(admin) || admin.len() < 2 {
                let fix = "write an AE-ID: it begins with C or S, for example \"CAdmin\"";
                self.at(line, format!("administrator `{admin}`"), fix);
            }
        }
    }

    fn mobility(&mut self, t: &Topology) {
        let m = &t.mobility;
        let share = |x: f64| x > 0.0 && x <= 1.0;
        if !share(m.balance_hot) || !share(m.balance_calm) || m.balance_calm >= m.balance_hot {
            let line = self.lines.section("mobility", "balance_hot");
            let what = format!("balance_calm = {}, balance_hot = {}", m.balance_calm, m.balance_hot);
            self.at(line, what, "both lie between 0 and 1, calm below hot");
        }
        if !(0.0..=60.0).contains(&m.link_hysteresis_db) {
            let line = self.lines.section("mobility", "link_hysteresis_db");
            self.at(line, format!("link_hysteresis_db = {}", m.link_hysteresis_db), "use 0 to 60; 3 is usual");
        }
        if m.link_valid_ms == 0 || m.link_valid_ms <= m.link_trigger_ms {
            let line = self.lines.section("mobility", "link_valid_ms");
            let fix = "a measurement must hold for longer than link_trigger_ms";
            self.at(line, format!("link_valid_ms = {}", m.link_valid_ms), fix);
        }
        for rule in &t.residency {
            let line = self.lines.section("residency", "label");
            match Residency::parse(&rule.label) {
                Err(e) => self.at(line, e.to_string(), "write for example \"region:berlin;trust:operator\""),
                Ok(label) => {
                    if let Some(host) = label.hosts().find(|host| t.node(host).is_none()) {
                        let what = format!("residency label names `{host}`, which is no node of this file");
                        self.at(line, what, format!("its nodes are: {}", t.names()));
                    }
                }
            }
            if rule.aes.is_empty() || rule.aes.len() > 64 || rule.aes.matches('*').count() > 4 {
                let fix = "write an AE-ID, or one with up to four `*`";
                self.at(line, format!("residency rule for `{}`", rule.aes), fix);
            }
        }
    }

    fn federation(&mut self, t: &Topology) {
        let mut names = std::collections::BTreeSet::new();
        for rule in &t.federation_group {
            let line = self.lines.section("federation_group", "name");
            if !is_name(&rule.name) {
                self.at(line, format!("federation group `{}` is not usable", rule.name), NAME_RULE);
            }
            if !names.insert(&rule.name) {
                self.at(line, format!("two federation groups `{}`", rule.name), "give each its own name");
            }
            let place = |c: &super::Circle| c.lat.abs() <= 90.0 && c.lon.abs() <= 180.0 && c.km > 0.0;
            if rule.near.as_ref().is_some_and(|c| !place(c)) {
                let fix = "lat is -90 to 90, lon -180 to 180, km greater than 0";
                self.at(line, format!("no such circle in federation group `{}`", rule.name), fix);
            }
            if let Some(word) = rule.energy.iter().find(|w| crate::member::energy(w).is_none()) {
                self.at(line, format!("energy `{word}`"), "use mains, battery or solar");
            }
            if rule.cpu_load_max.is_some_and(|max| !(0.0..=1.0).contains(&max)) {
                self.at(line, "cpu_load_max", "use 0 to 1");
            }
        }
        for (i, n) in t.node.iter().enumerate() {
            if n.capabilities.energy.as_deref().is_some_and(|w| crate::member::energy(w).is_none()) {
                let what = format!("energy of node `{}`", n.name);
                self.at(self.lines.node(i, "energy"), what, "use mains, battery or solar");
            }
        }
    }

    fn takeover(&mut self, t: &Topology) {
        let on = t.steering.unmodified == UnmodifiedSteering::AddressTakeover;
        let first_port = t.node.first().map(|n| n.http_listen.port());
        for (i, n) in t.node.iter().enumerate() {
            let line = |key: &str| self.lines.node(i, key);
            let found: (usize, String, &str) = match &n.service_address {
                None if on => (
                    line("name"),
                    format!("node `{}` has no service address", n.name),
                    "add service_address = { interface = \"NAME\", address = \"ADDRESS/32\" }",
                ),
                Some(_) if !on => (
                    line("service_address"),
                    "a service address that nobody would take over".into(),
                    "set unmodified = \"address-takeover\" under [steering], or remove it",
                ),
                Some(s) if s.ip().is_none() => (
                    line("service_address"),
                    format!("`{}` is no address", s.address),
                    "write ADDRESS/PREFIX; /32 (IPv6: /128) unless the network needs another one",
                ),
                Some(s) if s.interface.is_empty() || s.interface.len() > 15 => (
                    line("service_address"),
                    format!("`{}` is no interface", s.interface),
                    "write the name of the network interface, for example eth0",
                ),
                Some(_) if Some(n.http_listen.port()) != first_port => (
                    line("http_listen"),
                    format!("clients of other nodes come to other ports than that of {}", n.http_listen),
                    "an address moves with its port: use the same port at all nodes",
                ),
                Some(s) if s.ip() == Some(n.http_listen.ip()) => (
                    line("http_listen"),
                    format!("{} belongs to the node and cannot move", n.http_listen.ip()),
                    "listen on another address of the node or on 0.0.0.0; a door is opened at each address that is held",
                ),
                _ => continue,
            };
            self.at(found.0, found.1, found.2);
        }
    }

    fn dns(&mut self, t: &Topology) {
        let s = &t.steering;
        let line = |key: &str| self.lines.section("steering", key);
        let by_name = s.unmodified == UnmodifiedSteering::Dns;
        let mut found: Vec<(usize, String, &str)> = Vec::new();
        let listens = |n: &Node| n.dns_listen.or(s.dns_listen).is_some();
        match &s.dns_zone {
            None if by_name => found.push((
                line("unmodified"),
                "steering by DNS needs a server".into(),
                "add dns_listen = \"ADDRESS:PORT\" and dns_zone = \"ZONE\"",
            )),
            None if s.dns_listen.is_some() || t.node.iter().any(|n| n.dns_listen.is_some()) => {
                found.push((line("dns_listen"), "a DNS server without a zone".into(), "add dns_zone = \"ZONE\""));
            }
            None => {}
            Some(zone) => {
                if let Err(e) = Zone::new(zone, s.dns_ttl_s) {
                    found.push((line("dns_zone"), e.to_string(), "correct the name"));
                }
            }
        }
        if s.dns_ttl_s > DNS_TTL_S_MAX {
            found.push((
                line("dns_ttl_s"),
                format!("dns_ttl_s = {}", s.dns_ttl_s),
                "use 0 to 300: clients ask a dead node for so long",
            ));
        }
        for (i, n) in t.node.iter().enumerate().filter(|_| s.dns_zone.is_some()) {
            let at = |key: &str| self.lines.node(i, key);
            let label = n.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !n.name.ends_with('-');
            if !label || n.name.eq_ignore_ascii_case(AES) || n.name.len() > LABEL_BYTES_MAX {
                let fix = "use letters, digits and inner hyphens, and not `ae`: it becomes NODE.ZONE";
                found.push((at("name"), format!("node name `{}` is no DNS label", n.name), fix));
            }
            if !listens(n) {
                let fix = "add dns_listen here or under [steering]: every node answers";
                found.push((at("name"), format!("node `{}` has no address for its DNS server", n.name), fix));
            }
            if n.addresses().is_empty() {
                let fix = "add dns_addresses = [\"ADDRESS\"]";
                found.push((at("http_listen"), format!("the addresses of node `{}` are not known", n.name), fix));
            }
        }
        let port = |n: &Node| n.poa().parse::<Endpoint>().ok().map(|e| (e.port, e.tls));
        if by_name && t.node.iter().any(|n| port(n) != t.node.first().and_then(port)) {
            let fix = "a name gives a client another address, never another port: use one port and scheme on all nodes";
            found.push((line("unmodified"), "nodes have their HTTP doors at different ports".into(), fix));
        }
        for (line, what, fix) in found {
            self.at(line, what, fix);
        }
    }

    fn unique(&mut self, t: &Topology) {
        let mut seen: BTreeMap<(&str, String), String> = BTreeMap::new();
        for (i, n) in t.node.iter().enumerate() {
            // Boxes that are reached under different names have addresses of their own.
            let machine = match (&n.cluster_address, &n.service_address) {
                (Some(a), _) => a.rsplit_once(':').map_or(String::new(), |(host, _)| host.to_owned()),
                (None, Some(_)) => n.cluster_listen.ip().to_string(),
                (None, None) => String::new(),
            };
            let on = |address: String| if machine.is_empty() { address } else { format!("{address} of {machine}") };
            let values = [
                ("name", "name", n.name.clone()),
                ("id", "id", n.id.to_string()),
                ("cse_id", "cse_id", n.cse_id.clone()),
                ("udp", "cluster_listen", on(n.cluster_listen.to_string())),
                ("tcp", "http_listen", on(n.http_listen.to_string())),
                ("tcp", "admin_listen", on(n.admin_listen.to_string())),
            ];
            let service = n.service_address.as_ref().map(|s| ("address", "service_address", s.address.clone()));
            let dns = t.dns_server(n).map(|a| ("udp", "dns_listen", on(a.to_string())));
            for (kind, key, value) in values.into_iter().chain(dns).chain(service) {
                if let Some(other) = seen.insert((kind, value.clone()), n.name.clone()) {
                    let line = self.lines.node(i, key);
                    let fix = format!("node `{other}` has it already: give each node its own");
                    self.at(line, format!("{key} = {value} of node `{}` is taken", n.name), fix);
                }
            }
        }
    }

    fn node(&mut self, i: usize, n: &Node) {
        let line = |key: &str| self.lines.node(i, key);
        let mut found: Vec<(usize, String, String)> = Vec::new();
        let mut at = |line: usize, what: String, fix: &str| found.push((line, what, fix.to_owned()));
        if !is_name(&n.name) {
            at(line("name"), format!("node name `{}` is not usable", n.name), NAME_RULE);
        }
        if n.id == 0 {
            at(line("id"), "id = 0".into(), "number the nodes from 1; the number must never change");
        }
        if !n.cse_id.strip_prefix('/').is_some_and(is_name) {
            at(line("cse_id"), format!("CSE-ID `{}`", n.cse_id), "write a slash and a name, for example /edge1");
        }
        if !is_name(&n.cse_base) {
            at(line("cse_base"), format!("CSEBase name `{}`", n.cse_base), NAME_RULE);
        }
        if !(n.is(Role::InCse) || n.is(Role::MnCse) || n.is(Role::Voter)) {
            at(line("roles"), format!("node `{}` has no role", n.name), "use in-cse, mn-cse or voter");
        }
        if n.is(Role::InCse) && n.is(Role::MnCse) {
            at(line("roles"), "a node is IN-CSE or MN-CSE".into(), "remove one of the two roles");
        }
        match &n.http_poa {
            None if n.http_listen.ip().is_unspecified() && n.service_address.is_none() => at(
                line("http_listen"),
                format!("devices cannot be told to come to {}", n.http_listen),
                "add http_poa = \"http://HOST:PORT\" with an address or name that devices reach",
            ),
            Some(poa) => match poa.parse::<Endpoint>() {
                Err(e) => at(line("http_poa"), e.to_string(), "correct the URL"),
                Ok(e) if e.tls != n.security.tls => at(
                    line("http_poa"),
                    format!("http_poa = {poa}, but security.tls = {}", n.security.tls),
                    "make the scheme fit: https with tls = true, http without",
                ),
                Ok(_) => {}
            },
            None => {}
        }
        if n.cluster_listen.ip().is_unspecified() && n.cluster_address.is_none() {
            at(
                line("cluster_listen"),
                format!("the other nodes cannot reach {}", n.cluster_listen),
                "add cluster_address = \"HOST:PORT\"",
            );
        }
        for second in &n.second_addresses {
            if second.parse::<Endpoint>().is_err() {
                at(line("second_addresses"), format!("`{second}` is no URL"), "write http://HOST:PORT");
            }
        }
        let s = &n.security;
        if s.client_ca.is_some() && (!s.tls || s.auth == Auth::None) {
            at(
                line("client_ca"),
                "client_ca, but no client is asked for a certificate".into(),
                "set tls = true and auth = \"optional\" or \"required\", or remove it",
            );
        }
        if s.certificate.is_some() != s.key.is_some() {
            at(line("security"), "certificate and key come together".into(), "give both files or none");
        }
        if s.auth == Auth::Required && s.tokens.is_empty() && !s.tls {
            at(
                line("security"),
                "auth = \"required\", but nobody could prove anything".into(),
                "set tls = true (client certificates) or list bearer tokens",
            );
        }
        if let Some((ae, _)) = s.tokens.iter().find(|(ae, token)| !is_ae(ae) || token.len() < 16) {
            at(
                line("tokens"),
                format!("token of `{ae}`"),
                "write AE-ID = \"TOKEN\": AE-IDs begin with C or S, tokens have 16 characters or more",
            );
        }
        if let Some(l) = n.capabilities.location
            && !((-90.0..=90.0).contains(&l.lat) && (-180.0..=180.0).contains(&l.lon))
        {
            at(line("location"), format!("no such place: {}, {}", l.lat, l.lon), "lat is -90 to 90, lon -180 to 180");
        }
        for (line, what, fix) in found {
            self.at(line, what, fix);
        }
    }
}

/// Administrators of a cluster.
const ADMINS_MAX: usize = 16;

/// Longest time to live in our DNS, seconds.
const DNS_TTL_S_MAX: u32 = 300;

const NAME_RULE: &str = "begin with a letter or digit, then letters, digits, `-`, `.` and `_`, 64 at most";

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

fn is_ae(text: &str) -> bool {
    text.starts_with(['C', 'S']) && is_name(text)
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn each_rule_is_kept() {
        let good = include_str!("../../../../cluster-configs/local-3.toml");
        let cases = [
            ("name = \"edge1\"", "name = \"edge 1\"", "node name"),
            ("name = \"edge2\"", "name = \"edge1\"", "is taken"),
            ("cse_id = \"/edge1\"", "cse_id = \"edge1\"", "CSE-ID"),
            ("admin_listen = \"127.0.0.1:8093\"", "admin_listen = \"127.0.0.1:8082\"", "is taken"),
            ("roles = [\"mn-cse\", \"voter\"]", "roles = [\"mn-cse\"]", "voter"),
            ("roles = [\"mn-cse\", \"voter\"]", "roles = [\"in-cse\", \"voter\"]", "second node"),
            ("replicas = 2", "replicas = 7", "replicas"),
            ("buffer_bytes_max = 0", "buffer_bytes_max = 4096", "buffer_bytes_max"),
            ("admins = [\"CAdmin\"]", "admins = [\"Admin\"]", "administrator"),
            ("admins = [\"CAdmin\"]", "admins = [\"C\"]", "administrator"),
            ("header_ms_max = 10000", "header_ms_max = 60001", "header_ms_max"),
            ("connections_per_address_max = 1024", "connections_per_address_max = 0", "connections_per_address_max"),
            ("freeze_ms_max = 50", "freeze_ms_max = 0", "freeze_ms_max"),
            ("balance_calm = 0.65", "balance_calm = 0.85", "balance_calm"),
            ("link_hysteresis_db = 3.0", "link_hysteresis_db = -3.0", "link_hysteresis_db"),
            (
                "# --- the cloud node",
                "[[residency]]\naes = \"*\"\nlabel = \"planet:earth\"\n# --- the cloud node",
                "residency label",
            ),
            (
                "# --- the cloud node",
                "[[residency]]\naes = \"*\"\nlabel = \"hosts:edge1,edge9\"\n# --- the cloud node",
                "names `edge9`",
            ),
            ("http_listen = \"127.0.0.1:8082\"", "http_listen = \"0.0.0.0:8082\"", "cannot be told"),
            ("unmodified = \"second-address\"", "unmodified = \"dns\"", "needs a server"),
            ("dns_ttl_s = 0", "dns_ttl_s = 301", "dns_ttl_s"),
            ("unmodified = \"second-address\"", "unmodified = \"address-takeover\"", "no service address"),
            (
                "# second_addresses = [\"http://192.0.2.7:8080\"]",
                "service_address = { interface = \"eth0\", address = \"192.0.2.1/32\" }",
                "nobody would take over",
            ),
            ("dns_ttl_s = 0", "dns_listen = \"127.0.0.1:53\"", "without a zone"),
            ("dns_ttl_s = 0", "dns_listen = \"127.0.0.1:53\"\ndns_zone = \"-.example\"", "is no zone"),
            ("dns_ttl_s = 0", "dns_zone = \"iot.example\"", "no address for its DNS"),
            ("lat = 52.5163", "lat = 152.5163", "no such place"),
            ("name = \"berlin\"", "name = \"west\"", "two federation groups"),
            ("km = 25", "km = 0", "no such circle"),
            ("energy = \"mains\"", "energy = \"coal\"", "energy of node"),
            ("auth = \"none\"", "auth = \"required\"", "nobody could prove"),
        ];
        for (from, to, what) in cases {
            assert!(good.contains(from), "{from}");
            let problems = parse(&good.replacen(from, to, 1)).expect_err(to);
            assert!(problems.iter().any(|p| p.what.contains(what) && p.line > 0), "{to}: {problems:?}");
            assert!(problems.iter().all(|p| !p.fix.is_empty()));
        }
    }
}
