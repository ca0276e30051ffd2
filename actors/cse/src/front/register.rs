//! Registration of AEs (TS-0001 10.2.2.2, TS-0004 7.4.5.2.1; rows G01, G05, S04): exactly one registrar (I5), since the
//! names are claimed in the directory before there is any data.

use std::borrow::Cow;

use onemec_core::context::{CallOptions, ContextKind, CreateError, Key, NewContext, Place};
use onemec_onem2m::address::{Address, Scope};
use onemec_onem2m::id::EntityId;
use onemec_onem2m::{AttrId, Attributes, CseIdentity, Refusal, Request, Rsc, Value};

use super::exec::{Done, Trouble};
use super::hooks::AttachError;
use super::locate::Located;
use super::{AuthMode, Caller, Handled, Inner, Job, Proof};
use crate::machine::check_ae;
use crate::op::{BeginAe, Home, Reply, TreeOp, Who};
use crate::tree::Target;

/// How often a stem or name of our own making may be taken before we give up.
const ATTEMPTS_MAX: usize = 8;

/// Makes stems and names that nobody else has: random, since that needs no state that a restart could lose.
pub(super) struct Stems;

impl Stems {
    /// A name with a prefix.
    pub(super) fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", random())
    }
    fn stem(&self, class: char) -> String {
        format!("{class}{}", random())
    }
}

/// 80 random bits in base 36.
fn random() -> String {
    let mut bytes = [0u8; 16];
    // Without randomness two names may clash; the directory then refuses the second one.
    let _ = getrandom::fill(&mut bytes[..10]);
    let mut out = String::with_capacity(16);
    let n = u128::from_le_bytes(bytes);
    crate::rid::push36(&mut out, (n & u128::from(u64::MAX)) as u64);
    crate::rid::push36(&mut out, (n >> 64) as u64);
    out
}

/// How the AE-ID of a registration is found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stem {
    /// The client (or its credential) says which.
    Given(String),
    /// We choose one of this class.
    Ours(char),
}

impl Inner {
    pub(super) async fn register(
        &self,
        request: &Request,
        caller: &Caller,
        call: CallOptions,
    ) -> Result<Handled, Trouble> {
        let stem = self.stem_of(request.fr.as_deref().unwrap_or_default(), caller)?;
        if let Stem::Given(stem) = &stem
            && self.options.is_admin(stem)
        {
            // The registrar's own rule about AE-IDs (TS-0004 7.3.2.7).
            return Err(Refusal::new(
                Rsc::APP_RULE_VALIDATION_FAILED,
                format!("{stem} is an administrator of this cluster: no AE registers under this AE-ID"),
            )
            .into());
        }
        self.check_registrar(&request.to).await?;
        let now_ms = self.contexts.now_ms();
        let body = request.pc.clone().ok_or_else(|| Refusal::bad_request("there is no content"))?;
        let representation = check_ae(&body, now_ms)?;
        if let (Some(token), Stem::Given(stem)) = (&caller.handover, &stem) {
            return self.reattach(request, caller, call, stem, token).await;
        }
        if let Some(others) = self.mobility.as_ref().and_then(|m| m.closed()) {
            return Ok(self.sent_away(request, &others));
        }
        let given = representation.attributes.get(AttrId::RN).and_then(Value::as_str).map(str::to_owned);
        let attributes = &representation.attributes;
        for _ in 0..ATTEMPTS_MAX {
            let chosen = match &stem {
                Stem::Given(stem) => stem.clone(),
                Stem::Ours(class) => self.stems.stem(*class),
            };
            let name = given.clone().unwrap_or_else(|| chosen.clone());
            let begin = BeginAe {
                stem: chosen.clone(),
                name: name.clone(),
                home: Home::from(&self.me),
                rcn: request.result_content() as u8,
            };
            let op = TreeOp::BeginAe(begin).op(body.clone());
            let error = match self.create_ae(&chosen, &name, op, attributes, &call).await {
                Ok((place, answer)) => return self.registered(request, caller, &place, &chosen, &answer),
                Err(full @ CreateError::GroupFull { .. }) => {
                    return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, full.to_string()).into());
                }
                Err(CreateError::Call(error)) => return Err(error.into()),
                Err(CreateError::KeyTaken { key, holder }) => (key, holder),
            };
            let (key, holder) = error;
            if self.free_stale_name(&key, holder).await? {
                continue;
            }
            let ours = if key.name.starts_with("rn:") { given.is_none() } else { stem != Stem::Given(chosen) };
            if !ours {
                return Ok(self.taken(request, &key, self.contexts.by_id(holder)));
            }
        }
        Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "no free AE-ID was found").into())
    }

    /// Claims the names and makes the context.
    async fn create_ae(
        &self,
        stem: &str,
        name: &str,
        first: onemec_core::context::Op,
        attributes: &Attributes,
        call: &CallOptions,
    ) -> Result<(Place, onemec_core::context::Answer), CreateError> {
        let node = self.contexts.node();
        let mut keys = vec![self.ae_key(node, stem), Key::at(node, format!("rn:{name}"))];
        let unique = Key::global(format!("stem:{stem}"));
        if stem.starts_with('C') {
            keys.push(unique.clone());
        }
        // AEs of one node (device) move together (row G13).
        let bundle = attributes.get(AttrId::NL).and_then(Value::as_str).map(|nl| bundle_of(nl, &self.me));
        let new = NewContext { kind: ContextKind::AE, keys, bundle, first, pinned: false };
        match self.contexts.create(new.clone(), call.clone()).await {
            // A C-stem is unique only at its registrar: elsewhere another AE may have it. Then it is not found by the
            // stem alone from third CSEs.
            Err(CreateError::KeyTaken { key, .. }) if key == unique => {
                let keys = new.keys.iter().filter(|k| **k != unique).cloned().collect();
                self.contexts.create(NewContext { keys, ..new }, call.clone()).await
            }
            other => other,
        }
    }

    fn registered(
        &self,
        request: &Request,
        caller: &Caller,
        place: &Place,
        stem: &str,
        answer: &onemec_core::context::Answer,
    ) -> Result<Handled, Trouble> {
        let Reply::Done { rsc, created, next_offset } = Reply::read(answer) else {
            return match Reply::read(answer) {
                Reply::Refused { rsc, debug } => Err(Refusal::new(Rsc(rsc), debug).into()),
                _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "unexpected answer").into()),
            };
        };
        let done = Done { rsc, created, next_offset, missing: 0, body: answer.body.clone() };
        let mut handled = self.finish(request, done);
        self.welcome(&mut handled, caller, place, stem);
        Ok(handled)
    }

    /// A handover token for the AE itself, by its AE-ID or stem: with its registration, and whenever it retrieves its AE
    /// (its token has expired, or was used and the answer was lost).
    pub(super) fn fresh_token(&self, caller: &Caller, place: &Place, ae_id: &str) -> Option<String> {
        let credential = caller.proof.as_ref().map(Proof::id);
        let stem = ae_id.rsplit_once('/').map_or(ae_id, |(_, stem)| stem);
        self.tokens.as_ref().and_then(|t| t.issue(place.context, stem, credential))
    }

    /// What a registered device is told beside the standard: its token, and where else it could turn to.
    fn welcome(&self, handled: &mut Handled, caller: &Caller, place: &Place, stem: &str) {
        handled.token = self.fresh_token(caller, place, stem);
        handled.peers = self.peers.iter().filter_map(|p| p.poa.first().cloned()).take(16).collect();
        handled.peers.sort_unstable();
    }

    /// This CSE is being emptied: a new AE is not acceptable here (TS-0004 6.6.3.5), and is told where it is.
    fn sent_away(&self, request: &Request, others: &[onemec_wire::NodeId]) -> Handled {
        let refusal = Refusal::new(Rsc::NOT_ACCEPTABLE, "this CSE is being emptied: register at another one");
        let mut handled = Handled::from(onemec_onem2m::Response::refusing(request, &refusal));
        let poa = |node: &onemec_wire::NodeId| self.peers.get(node).and_then(|p| p.poa.first().cloned());
        handled.peers = others.iter().filter_map(poa).take(16).collect();
        handled.home = handled.peers.first().map(|poa| (poa.clone(), 0));
        handled
    }

    /// Names the winner (row G05).
    fn taken(&self, request: &Request, key: &Key, winner: Option<Place>) -> Handled {
        let at = winner.as_ref().map(|p| p.home).map_or_else(String::new, |node| {
            if node == self.contexts.node() {
                format!(" at {}", self.me.cse_id)
            } else {
                self.peers
                    .get(&node)
                    .map_or_else(|| format!(" at node {node}"), |p| format!(" at {}", p.identity.cse_id))
            }
        });
        let (kind, name) = key.name.split_once(':').unwrap_or(("", &key.name));
        let refusal = if kind == "rn" {
            Refusal::new(Rsc::CONFLICT, format!("the name {name} is taken{at}"))
        } else {
            Refusal::new(Rsc::ORIGINATOR_HAS_ALREADY_REGISTERED, format!("{name} is registered already{at}"))
        };
        let mut handled = Handled::from(onemec_onem2m::Response::refusing(request, &refusal));
        self.name_home(&mut handled, winner);
        handled
    }

    /// Tells a device where its AE is, if that is another CSE.
    fn name_home(&self, handled: &mut Handled, place: Option<Place>) {
        if let Some(place) = place
            && let Some(peer) = self.peers.get(&place.home)
            && let Some(poa) = peer.poa.first()
        {
            handled.home = Some((poa.clone(), place.epoch.0));
        }
    }

    /// A device comes here from another CSE of the cluster with a handover token (rows H04, S04): its context is moved,
    /// not made anew.
    async fn reattach(
        &self,
        request: &Request,
        caller: &Caller,
        call: CallOptions,
        stem: &str,
        token: &str,
    ) -> Result<Handled, Trouble> {
        let refused = |text: &str| Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, text.to_owned());
        let (Some(tokens), Some(mobility)) = (&self.tokens, &self.mobility) else {
            return Err(refused("this CSE takes no handover tokens").into());
        };
        let credential = caller.proof.as_ref().map(Proof::id);
        let attachment = tokens.verify(token, stem, credential).map_err(|text| refused(&text))?;
        let context = attachment.context;
        match mobility.attach(attachment, self.contexts.node()).await {
            Ok(()) => {}
            Err(used @ AttachError::Used) => {
                let refusal = Refusal::new(Rsc::ORIGINATOR_HAS_ALREADY_REGISTERED, used.to_string());
                let mut handled = Handled::from(onemec_onem2m::Response::refusing(request, &refusal));
                self.name_home(&mut handled, self.contexts.by_id(context));
                return Ok(handled);
            }
            Err(AttachError::NotAdmitted(text)) => return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, text).into()),
            Err(AttachError::Call(error)) => return Err(error.into()),
        }
        let place = self.contexts.by_id(context).ok_or_else(|| refused("the AE is gone"))?;
        let who = Who {
            id: self.me.normal_id(stem).into_owned(),
            context: Some(context),
            registered: true,
            authenticated: caller.proof.is_some(),
            trusted: true,
            ..Who::default()
        };
        // The answer shows the AE as it is now, with the identity that it had.
        let retrieve = Request { rcn: None, fc: None, ..request.clone() };
        let job = Job { request: &retrieve, caller, who, origin: None, call, depth: 0 };
        let mut read = self.read_of(&job, &place, &Target::root()).await?;
        read.rcn = 1;
        let mut done = self.read(&place, read, &job.call).await?;
        done.rsc = Rsc::CREATED.0;
        let mut handled = self.finish(request, done);
        self.welcome(&mut handled, caller, &place, stem);
        Ok(handled)
    }

    /// An AE registers below the CSEBase of the very CSE that it asks: registrations are not forwarded (TS-0004 7.3.2.8).
    async fn check_registrar(&self, to: &str) -> Result<(), Trouble> {
        let node = self.contexts.node();
        match self.locate(to).await? {
            Located::Context(place, target) if place.kind == ContextKind::CSE_BASE && target == Target::root() => {
                if place.home == node {
                    Ok(())
                } else {
                    Err(Refusal::bad_request("an AE registers at the CSE that it asks, not through it").into())
                }
            }
            Located::Context(..) => {
                Err(Refusal::new(Rsc::INVALID_CHILD_RESOURCE_TYPE, "an AE is created below a CSEBase").into())
            }
            Located::Foreign { .. } => Err(Refusal::bad_request("registrations are not forwarded").into()),
        }
    }

    /// The AE-ID that `fr` asks for, held against the client's credential.
    fn stem_of(&self, fr: &str, caller: &Caller) -> Result<Stem, Refusal> {
        let proved = match &caller.proof {
            Some(Proof::Ae(id)) => Some(
                stem_in(id)
                    .ok_or_else(|| Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, "the credential names no AE-ID"))?,
            ),
            Some(Proof::Cse(_)) => {
                return Err(Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, "the credential is that of a CSE"));
            }
            None if caller.auth == AuthMode::Required => {
                return Err(Refusal::new(Rsc::SECURITY_ASSOCIATION_REQUIRED, "this listener needs a credential"));
            }
            None => None,
        };
        let asked = match fr {
            "" => None,
            "C" => Some(Stem::Ours('C')),
            "S" => Some(Stem::Ours('S')),
            id => {
                let stem = stem_in(id).filter(|s| *s == id);
                let stem = stem.ok_or_else(|| Refusal::bad_request("fr is no AE-ID stem"))?;
                Some(Stem::Given(stem.to_owned()))
            }
        };
        match (asked, proved) {
            (asked, None) => Ok(asked.unwrap_or(Stem::Ours('C'))),
            (None, Some(proved)) => Ok(Stem::Given(proved.to_owned())),
            (Some(Stem::Ours(class)), Some(proved)) if proved.starts_with(class) => Ok(Stem::Given(proved.to_owned())),
            (Some(Stem::Given(stem)), Some(proved)) if stem == proved => Ok(Stem::Given(stem)),
            (Some(_), Some(proved)) => Err(Refusal::new(
                Rsc::ORIGINATOR_NOT_AUTHENTICATED,
                format!("the credential is for {proved}, not for {fr}"),
            )),
        }
    }
}

/// The bundle of the AEs of a node (device) by their `nodeLink`, which is relative to the CSE `at` where it says no other
/// (TS-0001 7.2). All spellings of an unstructured address are one bundle; of a structured one those that differ in more
/// than domain, CSE and the CSEBase's name here are not compared.
pub(crate) fn bundle_of(node_link: &str, at: &CseIdentity) -> String {
    let Ok(address) = Address::parse(node_link) else { return format!("nl:{}/{node_link}", at.cse_id) };
    let host = match address.scope {
        Scope::Cse => Cow::Borrowed(&*at.cse_id),
        Scope::Absolute { sp_id, cse_id } if sp_id != &*at.sp_id => Cow::Owned(format!("//{sp_id}{cse_id}")),
        Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } => Cow::Borrowed(cse_id),
    };
    match address.segments.split_first() {
        // Ours are unique in the cluster, whichever CSE they are asked of.
        Some((id, [])) if !host.starts_with("//") && crate::rid::parse(id).is_some() => format!("nl:{id}"),
        Some((base, rest)) if host == *at.cse_id && *base == &*at.base_name => {
            format!("nl:{host}/{}", std::iter::once(&"-").chain(rest).copied().collect::<Vec<_>>().join("/"))
        }
        _ => format!("nl:{host}/{}", address.segments.join("/")),
    }
}

fn stem_in(id: &str) -> Option<&str> {
    match EntityId::parse(id)? {
        EntityId::AeC { stem, .. } | EntityId::AeS { stem } => Some(stem),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_node_are_one_bundle_and_different_nodes_are_not() {
        let of = |csi: &str| CseIdentity { base_name: "base".into(), cse_id: csi.into(), sp_id: "local.onemec".into() };
        let (edge1, edge2) = (of("/edge1"), of("/edge2"));
        let same = |links: &[&str]| links.iter().all(|l| bundle_of(l, &edge1) == bundle_of(links[0], &edge1));
        assert!(same(&["1-8-1-o", "/edge2/1-8-1-o", "//local.onemec/cloud/1-8-1-o"]));
        assert!(same(&["base/nod", "-/nod", "/edge1/-/nod", "//local.onemec/edge1/base/nod"]));
        assert_ne!(bundle_of("base/nod", &edge1), bundle_of("base/nod", &edge2));
        assert_ne!(bundle_of("1-8-1-o", &edge1), bundle_of("//other.example/edge1/1-8-1-o", &edge1));
        assert_ne!(bundle_of("no address", &edge1), bundle_of("no address", &edge2));
    }
}
