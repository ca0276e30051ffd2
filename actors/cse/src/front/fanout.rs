//! The fan-out point of a group (TS-0004 7.4.14): one request to every member, answers gathered until the deadline.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use onemec_core::context::Place;
use onemec_onem2m::notification::aggregated_response;
use onemec_onem2m::{Refusal, Request, Response, Rsc};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::exec::Trouble;
use super::{Cse, Handled, Inner, Job};
use crate::tree::Target;

/// Groups in groups: deeper ones are refused.
const DEPTH_MAX: u8 = 3;
/// Group request identifiers that are remembered.
const SEEN_MAX: usize = 4096;
/// How long one is remembered.
const SEEN_MS: u64 = 60_000;
/// Part of the deadline that is kept back for gathering the answers.
const MARGIN_PER_CENT: u32 = 10;

/// Group request identifiers that passed here lately, with their targets (TS-0004 7.3.3.2).
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<(String, String), u64>>);

impl Seen {
    /// True if this pair is new.
    fn enter(&self, gid: &str, target: &str, now_ms: u64) -> bool {
        let mut seen = self.0.lock();
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, at| *at + SEEN_MS > now_ms);
            if seen.len() >= SEEN_MAX {
                seen.clear();
            }
        }
        let last = seen.insert((gid.to_owned(), target.to_owned()), now_ms);
        last.is_none_or(|at| at + SEEN_MS <= now_ms)
    }
}

impl Inner {
    pub(super) async fn fan_out(
        &self,
        cse: &Cse,
        job: &Job<'_>,
        place: &Place,
        group: Target,
        rest: &[String],
    ) -> Result<Handled, Trouble> {
        let request = job.request;
        let started = Instant::now();
        let way = self.way(job, place, group).await?;
        if way.to.is_empty() {
            return Err(Refusal::new(Rsc::NO_MEMBERS, "the group has no members").into());
        }
        if job.depth >= DEPTH_MAX {
            return Err(Refusal::bad_request("groups are nested too deeply").into());
        }
        let gid = request.gid.clone().unwrap_or_else(|| self.stems.name("gid"));
        if !self.fan_outs.enter(&gid, &way.rid, self.contexts.now_ms()) {
            return Err(Refusal::new(Rsc::GROUP_REQUEST_IDENTIFIER_EXISTS, "the group was reached twice").into());
        }
        let mut members = way.to;
        if let Some(wanted) = &request.grtm {
            if let Some(stranger) = wanted.iter().find(|w| !members.contains(w)) {
                return Err(Refusal::bad_request(format!("{stranger} is no member of the group")).into());
            }
            members.retain(|m| wanted.contains(m));
        }
        if members.len() > self.options.fan_out_members_max {
            return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, "the group has too many members for a fan-out").into());
        }
        let until = started + job.call.deadline * (100 - MARGIN_PER_CENT) / 100;
        let responses = self.ask_members(cse, job, &gid, members, rest, until).await;
        if responses.is_empty() {
            return Err(Refusal::new(Rsc::GROUP_MEMBERS_NOT_RESPONDED, "no member answered in time").into());
        }
        let body = Bytes::from(aggregated_response(&responses));
        Ok(Handled::from(self.done(request, Rsc::OK.0, body)))
    }

    /// Answers in the order of the members; late ones are dropped.
    async fn ask_members(
        &self,
        cse: &Cse,
        job: &Job<'_>,
        gid: &str,
        members: Vec<String>,
        rest: &[String],
        until: Instant,
    ) -> Vec<Response> {
        let permits = Arc::new(Semaphore::new(self.options.fan_out_parallel_max.max(1)));
        let mut asked = JoinSet::new();
        for (i, member) in members.into_iter().enumerate() {
            let mut request = Request {
                to: rest.iter().fold(member.clone(), |to, name| to + "/" + name),
                rqi: format!("{}-{i}", job.request.rqi),
                gid: Some(gid.to_owned()),
                grtm: None,
                ..job.request.clone()
            };
            request.rqet = None;
            let mut caller = job.caller.clone();
            caller.repeat_until_ms = None;
            caller.handover = None;
            let (cse, permits, depth) = (cse.clone(), permits.clone(), job.depth + 1);
            asked.spawn(async move {
                let _permit = permits.acquire_owned().await;
                let handled = cse.clone().handle_member(request, caller, depth).await;
                let mut response = handled.response;
                response.fr = Some(member);
                (i, response)
            });
        }
        let mut responses = Vec::new();
        while let Ok(Some(done)) = tokio::time::timeout_at(until, asked.join_next()).await {
            responses.extend(done.ok());
        }
        responses.sort_by_key(|(i, _)| *i);
        responses.into_iter().map(|(_, r)| r).collect()
    }
}
