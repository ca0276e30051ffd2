//! Fetching what a context needs to know before it can decide (see [`crate::op`]).

use std::time::Duration;

use onemec_core::context::{CallOptions, Place};
use onemec_onem2m::{Refusal, Rsc};

use super::Inner;
use super::exec::Trouble;
use super::locate::Located;
use crate::op::{Facts, Needs, Policy, ReadOp, Reply, ResourceFacts, Who};
use crate::tree::Target;
use crate::view::View;

/// Facts that one request may bring together.
const FACTS_MAX: usize = 1024;

impl Inner {
    pub(super) async fn fetch(
        &self,
        needs: &Needs,
        who: &Who,
        facts: &mut Facts,
        call: &CallOptions,
    ) -> Result<(), Trouble> {
        if facts.policies.len() + facts.groups.len() + facts.types.len() > FACTS_MAX {
            return Err(Refusal::bad_request("the request depends on too many other resources").into());
        }
        for address in &needs.policies {
            // What cannot be reached grants nothing: the safe side.
            let policy = self.policy(address, call).await;
            facts.policies.push((address.clone(), policy));
        }
        for group in &needs.groups {
            let members = self.resource_facts(group, call).await.map(|f| f.members).unwrap_or_default();
            let is_member =
                members.iter().any(|m| who.forms().any(|form| self.me.normal_id(m) == self.me.normal_id(form)));
            facts.groups.push((group.clone(), is_member));
        }
        for address in &needs.types {
            let ty = self.resource_facts(address, call).await.map(|f| f.ty);
            facts.types.push((address.clone(), ty));
        }
        if self.options.verify_subscriptions {
            self.verify(needs, who, call).await?;
        }
        facts.verified.extend(needs.verify.iter().cloned());
        Ok(())
    }

    async fn policy(&self, address: &str, call: &CallOptions) -> Option<Policy> {
        let Ok(Located::Context(place, target)) = self.locate(address).await else { return None };
        if let Some(served) = self.index.open(place.context) {
            let tree = served.tree.read();
            return crate::access::policy_at(&tree, tree.find(&target));
        }
        match self.read_there(&place, &ReadOp::Policy(target), call).await {
            Ok((Reply::Policy(policy), _)) => policy,
            _ => None,
        }
    }

    /// What is known of a resource anywhere in the cluster.
    pub(crate) async fn resource_facts(&self, address: &str, call: &CallOptions) -> Option<ResourceFacts> {
        let Ok(Located::Context(place, target)) = self.locate(address).await else { return None };
        self.facts_at(&place, target, call).await
    }

    pub(super) async fn facts_at(&self, place: &Place, target: Target, call: &CallOptions) -> Option<ResourceFacts> {
        if let Some(served) = self.index.open(place.context) {
            let tree = served.tree.read();
            let view = View { tree: &tree, history: &*served.history, home: &self.me };
            return crate::read::facts(&view, &target);
        }
        match self.read_there(place, &ReadOp::Facts(target), call).await {
            Ok((Reply::Facts(facts), _)) => facts,
            _ => None,
        }
    }

    /// Asks the notification targets, all at once, whether they agree (TS-0004 7.4.8.2.1). The first that does not decides.
    async fn verify(&self, needs: &Needs, who: &Who, call: &CallOptions) -> Result<(), Trouble> {
        let sur = format!("{}/{}/{}", self.me.cse_id, self.me.base_name, needs.subscription.join("/"));
        let wait = Duration::from_millis(self.options.verify_ms_max).min(call.deadline / 2);
        let asked = needs.verify.iter().map(|target| async {
            let answer = tokio::time::timeout(wait, self.send_verification(target, &sur, &who.id)).await;
            let silent = |_| Refusal::new(Rsc::TARGET_NOT_REACHABLE, format!("no answer in {} ms", wait.as_millis()));
            answer.map_err(silent).flatten().map_err(|refusal| not_verified(target, &refusal))
        });
        futures_util::future::try_join_all(asked).await?;
        Ok(())
    }
}

/// What the creator of a subscription is told of a target that did not agree: the target's own refusal where the standard
/// has one for this, else that the verification failed.
fn not_verified(target: &str, refusal: &Refusal) -> Refusal {
    let own = [Rsc::SUBSCRIPTION_CREATOR_HAS_NO_PRIVILEGE, Rsc::SUBSCRIPTION_HOST_HAS_NO_PRIVILEGE];
    let rsc = if own.contains(&refusal.rsc) { refusal.rsc } else { Rsc::SUBSCRIPTION_VERIFICATION_INITIATION_FAILED };
    Refusal::new(rsc, format!("{target} did not agree: {}", refusal.debug))
}
