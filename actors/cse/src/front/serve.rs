//! From a located target to the answer.

use onemec_core::context::{ContextKind, Place};
use onemec_onem2m::{IdFormat, Operation, Refusal, Request, Rsc, Ty};

use super::exec::{Done, Trouble};
use super::locate::Located;
use super::{Cse, Handled, Inner, Job};
use crate::op::{Action, Facts, Read, Write};
use crate::tree::Target;

impl Inner {
    pub(super) async fn serve(&self, cse: &Cse, job: &Job<'_>) -> Result<Handled, Trouble> {
        let located = self.locate(&job.request.to).await?;
        match self.serve_at(cse, job, &located).await {
            // Perhaps an AE came here a moment ago and our view of the directory is old (rule 11).
            Err(Trouble::Refused(r)) if r.rsc == Rsc::NOT_FOUND => match self.look_again(&job.request.to).await? {
                Some(now) if now != located => self.serve_at(cse, job, &now).await,
                _ => Err(r.into()),
            },
            other => other,
        }
    }

    async fn serve_at(&self, cse: &Cse, job: &Job<'_>, located: &Located) -> Result<Handled, Trouble> {
        let (place, target) = match located {
            Located::Context(place, target) => (place, target),
            Located::Foreign { cse_id } => return self.forward(job, cse_id).await,
        };
        if let Some(at) = target.path.iter().position(|n| n == "fopt") {
            let (group, rest) = target.path.split_at(at + 1);
            let group = Target { start: target.start, path: group.to_vec() };
            return self.fan_out(cse, job, place, group, rest).await;
        }
        let request = job.request;
        let done = match request.op {
            Operation::Retrieve if request.is_discovery() => self.discover(job, place, target).await?,
            Operation::Retrieve => {
                let read = self.read_of(job, place, target).await?;
                let of_base = place.kind == ContextKind::CSE_BASE && target.path.is_empty();
                if of_base && Self::shows_children(&read) {
                    self.gather(place, read, &job.call).await?
                } else {
                    self.read(place, read, &job.call).await?
                }
            }
            Operation::Notify => return self.notify(job, place, target).await,
            Operation::Create | Operation::Update | Operation::Delete => {
                self.check_registrar_of_cse(job, place)?;
                let write = self.write_of(job, place, target).await?;
                if let Some(accepted) = self.accept(job, place, &write).await? {
                    return Ok(accepted);
                }
                let body = request.pc.clone().unwrap_or_default();
                if request.op == Operation::Create && place.kind == ContextKind::CSE_BASE && target.path.is_empty() {
                    self.create_base_child(place, write, given_name(request), body, &job.call).await?
                } else {
                    self.write(place, write, body, &job.call).await?
                }
            }
        };
        let mut handled = self.finish(request, done);
        let itself = job.origin.as_ref().is_some_and(|origin| origin.context == place.context);
        if request.op == Operation::Retrieve && itself && job.depth == 0 && *target == Target::root() {
            handled.token = self.fresh_token(job.caller, place, &job.who.id);
        }
        Ok(handled)
    }

    pub(super) fn finish(&self, request: &Request, done: Done) -> Handled {
        let mut handled = Handled::from(self.done(request, done.rsc, done.body));
        handled.location = done.created;
        if let Some(next) = done.next_offset {
            handled.response.cnst = Some(onemec_onem2m::ContentStatus::Partial);
            handled.response.cnot = Some(next);
        }
        if done.missing > 0 {
            handled.response.cnst = Some(onemec_onem2m::ContentStatus::Partial);
            handled.incomplete = done.missing;
        }
        handled
    }

    pub(super) async fn read_of(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Read, Trouble> {
        let request = job.request;
        Ok(Read {
            target: target.clone(),
            who: job.who.clone(),
            home: self.home_of(place).await?,
            rcn: request.result_content() as u8,
            filter: request.fc.as_ref().map(|f| f.to_json()),
            unstructured: request.drt == Some(IdFormat::Unstructured),
            attributes: attributes(request),
            facts: Facts::default(),
        })
    }

    async fn write_of(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Write, Trouble> {
        let request = job.request;
        let action = match (request.op, request.ty) {
            (Operation::Create, Some(ty)) => Action::Create(ty.0),
            (Operation::Create, None) => return Err(Refusal::bad_request("ty is missing").into()),
            (Operation::Update, _) => Action::Update,
            _ => Action::Delete,
        };
        Ok(Write {
            action,
            target: target.clone(),
            who: job.who.clone(),
            home: self.home_of(place).await?,
            rcn: request.result_content() as u8,
            filter: request.fc.as_ref().map(|f| f.to_json()),
            unstructured: request.drt == Some(IdFormat::Unstructured),
            // A subscription is verified under its name, so it needs one before it exists.
            name: (action == Action::Create(Ty::SUBSCRIPTION.0)).then(|| self.stems.name("sub")),
            facts: Facts::default(),
        })
    }

    /// Registrations are not forwarded (TS-0004 7.3.2.8).
    fn check_registrar_of_cse(&self, job: &Job<'_>, place: &Place) -> Result<(), Refusal> {
        let registers = job.request.op == Operation::Create && job.request.ty == Some(Ty::REMOTE_CSE);
        if registers && place.home != self.contexts.node() {
            return Err(Refusal::bad_request("a CSE registers at the CSE that it asks, not through it"));
        }
        Ok(())
    }
}

/// `rn` in the content of a CREATE; malformed content is refused where it is read in earnest.
pub(super) fn given_name(request: &Request) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(request.pc.as_ref()?).ok()?;
    Some(body.as_object()?.values().next()?.get("rn")?.as_str()?.to_owned())
}

/// Attributes of a partial retrieve: `atrl`, or `#attr` behind the address.
fn attributes(request: &Request) -> Vec<String> {
    let fragment = request.to.split_once('#').map(|(_, a)| a.to_owned());
    request.atrl.iter().cloned().chain(fragment).collect()
}
