//! Who asks (TS-0004 7.3.2.1): the originator against the client's credential, and against who is registered.

use onemec_core::context::{Key, Place};
use onemec_onem2m::id::EntityId;
use onemec_onem2m::{Refusal, Request, Rsc};

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
        if self.options.admins.iter().any(|a| a == fr) {
            (who.trusted, who.registered) = (true, true);
            return Ok(Originator { who, place: None });
        }
        let place = match EntityId::parse(&who.id) {
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
                // Nobody speaks for a CSE without a credential; our own CSEs do not come through this door.
                if !matches!(caller.proof, Some(Proof::Cse(_))) && caller.auth != AuthMode::None {
                    return Err(Refusal::new(Rsc::SECURITY_ASSOCIATION_REQUIRED, "a CSE needs a credential"));
                }
                if csi == &*self.me.cse_id {
                    return Err(Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, "this is the CSE's own identifier"));
                }
                who.registered = true;
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

    /// The originator must be the one that the client's credential names.
    pub(super) fn check_proof(&self, fr: &str, caller: &Caller) -> Result<(), Refusal> {
        match (&caller.proof, caller.auth) {
            (None, AuthMode::Required) => {
                Err(Refusal::new(Rsc::SECURITY_ASSOCIATION_REQUIRED, "this listener needs a credential"))
            }
            (None, _) => Ok(()),
            (Some(proof), _) if self.me.normal_id(proof.id()) == self.me.normal_id(fr) => Ok(()),
            (Some(proof), _) => Err(Refusal::new(
                Rsc::ORIGINATOR_NOT_AUTHENTICATED,
                format!("the credential is for {}, not for {fr}", proof.id()),
            )),
        }
    }
}
