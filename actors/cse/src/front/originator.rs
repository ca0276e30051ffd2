//! Who asks (TS-0004 7.3.2.1): the originator against the client's credential, and against who is registered.

use onemec_core::context::{Key, Place};
use onemec_onem2m::id::EntityId;
use onemec_onem2m::{Operation, Refusal, Request, Rsc, Ty};

use super::{AuthMode, Caller, Inner, Proof};
use crate::op::Who;

/// A known originator.
pub(super) struct Originator {
    pub(super) who: Who,
    /// Where its AE is served.
    pub(super) place: Option<Place>,
}

impl Inner {
    /// Checks the originator of a request that is not a registration.
    pub(super) fn originator(&self, request: &Request, caller: &Caller) -> Result<Originator, Refusal> {
        let fr = request.fr.as_deref().filter(|f| !f.is_empty());
        let fr = fr.ok_or_else(|| Refusal::bad_request("fr is missing"))?;
        self.check_proof(fr, caller)?;
        let mut who = Who {
            id: self.me.normal_id(fr).into_owned(),
            authenticated: caller.proof.is_some(),
            ip: caller.ip.map(|ip| ip.to_string()),
            ..Who::default()
        };
        if self.options.is_admin(fr) {
            // A name alone would open at this door what another door of the cluster keeps closed.
            if self.options.admins_proved && caller.proof.is_none() {
                return Err(Refusal::new(
                    Rsc::SECURITY_ASSOCIATION_REQUIRED,
                    format!("{fr} is an administrator of this cluster: it needs a credential at every door"),
                ));
            }
            (who.trusted, who.registered) = (true, true);
            return Ok(Originator { who, place: None });
        }
        let place = match EntityId::parse(&who.id) {
            // Forwarded by the CSE where it is registered: what it may do here is said by policies alone.
            Some(EntityId::AeC { cse: Some(cse), .. }) if self.is_foreign(cse) && self.knows(cse) => {
                return Ok(Originator { who, place: None });
            }
            Some(EntityId::AeC { cse, stem }) => {
                let node = match cse {
                    Some(cse) if *cse != *self.me.cse_id => {
                        self.contexts.by_key(&Key::global(format!("csi:{cse}"))).map(|p| p.home)
                    }
                    _ => Some(self.contexts.node()),
                };
                node.and_then(|n| self.ae(n, stem))
            }
            Some(EntityId::AeS { stem }) => self.contexts.by_key(&Key::global(format!("aei:{stem}"))),
            Some(EntityId::Cse(csi)) => {
                who.registered = self.check_cse(csi, request, caller)?;
                return Ok(Originator { who, place: None });
            }
            Some(EntityId::Absolute { .. }) => return Ok(Originator { who, place: None }),
            None => None,
        };
        let Some(place) = place else {
            return Err(Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, format!("{fr} is not registered")));
        };
        who.registered = true;
        who.context = Some(place.context);
        if let Some(EntityId::AeC { stem, .. }) = EntityId::parse(&who.id)
            && place.home != self.contexts.node()
            && let Some(peer) = self.peers.get(&place.home)
        {
            // Its identifier is relative to the CSE where it is now; the one that it used is a former one.
            let now = format!("{}/{stem}", peer.identity.cse_id);
            if now != who.id {
                who.also.push(std::mem::replace(&mut who.id, now));
            }
        }
        Ok(Originator { who, place: Some(place) })
    }

    /// A CSE as originator: whether it is registered here; one that is not may do nothing but register. Where the listener
    /// asks for credentials it has one; where it takes clients at their word it does so for the CSEs of others only: those
    /// of this cluster do not come through this door.
    fn check_cse(&self, csi: &str, request: &Request, caller: &Caller) -> Result<bool, Refusal> {
        if *csi == *self.me.cse_id {
            return Err(Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, "this is the CSE's own identifier"));
        }
        let proved = matches!(caller.proof, Some(Proof::Cse(_)));
        if !proved && (caller.auth != AuthMode::None || !self.is_foreign(csi)) {
            return Err(Refusal::new(Rsc::SECURITY_ASSOCIATION_REQUIRED, "a CSE needs a credential"));
        }
        let registers = request.op == Operation::Create && request.ty == Some(Ty::REMOTE_CSE);
        match self.knows(csi) || !self.is_foreign(csi) {
            false if !registers => {
                Err(Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, format!("{csi} is not registered")))
            }
            registered => Ok(registered),
        }
    }

    /// Whether `fr` is the SP-relative identifier of an AE with this stem at a CSE of the cluster.
    fn is_stem_of(&self, stem: &str, fr: &str) -> bool {
        match EntityId::parse(fr) {
            Some(EntityId::AeC { cse: Some(cse), stem: asked }) => asked == stem && !self.is_foreign(cse),
            _ => false,
        }
    }

    /// A CSE outside the cluster.
    fn is_foreign(&self, csi: &str) -> bool {
        self.contexts.by_key(&Key::global(format!("csi:{csi}"))).is_none()
    }

    /// A CSE that is registered here, or behind one that is.
    fn knows(&self, csi: &str) -> bool {
        self.remote_cse(csi, |_| ()).is_some()
    }

    /// The originator must be the one that the client's credential names, or registered with the CSE that it names.
    pub(super) fn check_proof(&self, fr: &str, caller: &Caller) -> Result<(), Refusal> {
        match (&caller.proof, caller.auth) {
            (None, AuthMode::Required) => {
                Err(Refusal::new(Rsc::SECURITY_ASSOCIATION_REQUIRED, "this listener needs a credential"))
            }
            (None, _) => Ok(()),
            (Some(proof), _) if self.me.normal_id(proof.id()) == self.me.normal_id(fr) => Ok(()),
            // A credential for a stem is its AE's wherever in the cluster it is, or was, registered.
            (Some(Proof::Ae(stem)), _) if self.is_stem_of(stem, fr) => Ok(()),
            (Some(Proof::Cse(csi)), _) if fr.strip_prefix(&**csi).is_some_and(|rest| rest.starts_with('/')) => Ok(()),
            (Some(proof), _) => Err(Refusal::new(
                Rsc::ORIGINATOR_NOT_AUTHENTICATED,
                format!("the credential is for {}, not for {fr}", proof.id()),
            )),
        }
    }
}
