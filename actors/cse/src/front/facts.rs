//! Fetching what a context needs to know before it can decide (see [`crate::op`]).

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
        for target in &needs.verify {
            if self.options.verify_subscriptions {
                self.verify(target, &needs.subscription, who).await?;
            }
            facts.verified.push(target.clone());
        }
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
            let view = View { tree: &tree, history: &*served.history, home: &self.me, below: &[] };
            return crate::read::facts(&view, &target);
        }
        match self.read_there(place, &ReadOp::Facts(target), call).await {
            Ok((Reply::Facts(facts), _)) => facts,
            _ => None,
        }
    }

    /// Asks a notification target whether it agrees (TS-0004 7.4.8.2.1).
    async fn verify(&self, target: &str, subscription: &[String], who: &Who) -> Result<(), Trouble> {
        let sur = format!("{}/{}/{}", self.me.cse_id, self.me.base_name, subscription.join("/"));
        match self.send_verification(target, &sur, &who.id).await {
            Ok(()) => Ok(()),
            Err(refusal)
                if [Rsc::SUBSCRIPTION_CREATOR_HAS_NO_PRIVILEGE, Rsc::SUBSCRIPTION_HOST_HAS_NO_PRIVILEGE]
                    .contains(&refusal.rsc) =>
            {
                Err(refusal.into())
            }
            Err(refusal) => Err(Refusal::new(
                Rsc::SUBSCRIPTION_VERIFICATION_INITIATION_FAILED,
                format!("{target} did not agree: {}", refusal.debug),
            )
            .into()),
        }
    }
}
