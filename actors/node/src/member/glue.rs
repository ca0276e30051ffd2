//! What the runtime and the CSE ask of mobility: admission, and re-attachment of devices that come by themselves.

use std::time::Duration;

use onemec_core::context::{BoxFuture, CallError, ContextKind, Contexts};
use onemec_core::directory::Command;
use onemec_cse::front::{AttachError, Mobility, Tokens};
use onemec_mobility::token::{Bearer, Grant, KEY_BYTES, Keyring, TokenKey};
use onemec_runtime::exec::{Admission, Runtime};
use onemec_wire::{ContextId, NodeId};
use ring::rand::{SecureRandom, SystemRandom};

use crate::topology::Limits;

/// The cluster's token key lies in the directory: every node has it, nobody else (mutual TLS), and it outlives them all.
const KEY_FACT: &str = "secret/handover-token-key";
const FACT_MAX: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// Handover tokens: signed, bound to AE, epoch, expiry and credential (rows H06, G01).
pub(super) struct HandoverTokens {
    runtime: Runtime,
    keys: Keyring,
    lifetime_ms: u64,
}

impl HandoverTokens {
    /// Reads the cluster's key, or makes it; of several nodes that make one at once the first wins.
    pub(super) async fn new(runtime: Runtime, lifetime_ms: u64) -> Self {
        let secret = loop {
            let known = runtime.directory().read().fact(KEY_FACT).and_then(unhex);
            if let Some(secret) = known {
                break secret;
            }
            let mut fresh = [0; KEY_BYTES];
            if SystemRandom::new().fill(&mut fresh).is_ok() {
                let value: String = fresh.iter().map(|b| format!("{b:02x}")).collect();
                let command = Command::AddFact { name: KEY_FACT.into(), value };
                if let Err(e) = runtime.directory().propose_within(command, FACT_MAX).await {
                    tracing::debug!("token key: {e}");
                }
            }
            tokio::time::sleep(AGAIN).await;
        };
        Self { runtime, keys: Keyring::new(TokenKey::new(1, &secret)), lifetime_ms }
    }
}

fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut out = [0; KEY_BYTES];
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

impl Tokens for HandoverTokens {
    fn issue(&self, context: ContextId, ae: &str, credential: Option<&str>) -> Option<String> {
        let epoch = self.runtime.by_id(context)?.epoch;
        let expires_ms = self.runtime.now_ms() + self.lifetime_ms;
        self.keys.issue(Grant { context, ae, epoch, expires_ms, target: None, credential }).ok()
    }

    fn verify(&self, token: &str, ae: &str, credential: Option<&str>) -> Option<ContextId> {
        let bearer = Bearer { ae, credential, at: Some(self.runtime.node()) };
        match self.keys.verify(token, bearer, self.runtime.now_ms()) {
            Ok(claims) => Some(claims.context),
            Err(e) => {
                tracing::info!(ae, code = e.code(), "handover token refused");
                None
            }
        }
    }
}

/// Brings an AE's group to this node because its device has come here (rows H04, S04).
pub(super) struct Attach {
    runtime: Runtime,
    move_max: Duration,
}

impl Attach {
    pub(super) fn new(runtime: Runtime, move_ms_max: u64) -> Self {
        Self { runtime, move_max: Duration::from_millis(move_ms_max) }
    }
}

impl Mobility for Attach {
    fn attach(&self, context: ContextId, _token: &str, target: NodeId) -> BoxFuture<'_, Result<(), AttachError>> {
        Box::pin(async move {
            let place = self.runtime.by_id(context).ok_or(AttachError::Call(CallError::NotFound))?;
            match self.runtime.move_group(place.group, target, "device", self.move_max).await {
                Ok(_) => Ok(()),
                Err(e) if e.code == "already-there" => Ok(()),
                Err(e) if ["busy", "freeze-timeout", "catch-up-timeout", "unreachable"].contains(&e.code.as_str()) => {
                    Err(AttachError::Call(CallError::NotApplied { reason: e.reason, retry_after: AGAIN }))
                }
                Err(e) => Err(AttachError::NotAdmitted(e.reason)),
            }
        })
    }
}

/// Decides whether a group may come to this node.
pub(super) struct Admit {
    runtime: Runtime,
    limits: Limits,
}

impl Admit {
    pub(super) fn new(runtime: Runtime, limits: Limits) -> Self {
        Self { runtime, limits }
    }
}

impl Admission for Admit {
    fn admit(
        &self,
        contexts: &[(ContextId, ContextKind)],
        _history: u64,
        reason: &str,
    ) -> Result<(), (String, String)> {
        let me = self.runtime.node();
        let no = |code: &str, text: String| Err((code.to_owned(), text));
        if reason != "failback" && self.runtime.directory().read().fact(&draining_fact(me)).is_some() {
            return no("draining", "this node is being emptied".into());
        }
        let here = self.runtime.at_home(me, ContextKind::AE, None, usize::MAX).len() as u64;
        let coming = contexts.iter().filter(|(_, k)| *k == ContextKind::AE).count() as u64;
        let most = u64::from(self.limits.aes_max);
        if here + coming > most {
            return no("full", format!("{here} AEs are at home here, {most} may be"));
        }
        Ok(())
    }
}

/// Name of the fact that says that a node is being emptied.
pub(super) fn draining_fact(node: NodeId) -> String {
    format!("draining/{}", node.0)
}
