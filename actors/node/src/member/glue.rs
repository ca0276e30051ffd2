//! What the CSE asks of mobility: handover tokens, and re-attachment of devices that come by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_core::context::{BoxFuture, CallError, Contexts};
use onemec_core::directory::{Attachment, Command, CommandOutcome, Standing};
use onemec_cse::front::{AttachError, Mobility, Tokens};
use onemec_mobility::attempts::Failure;
use onemec_mobility::strategy::MoveRequest;
use onemec_mobility::token::{Bearer, Grant, KEY_BYTES, Keyring, TokenKey};
use onemec_runtime::exec::{Runtime, TOKEN_USED};
use onemec_wire::{ContextId, GroupId, NodeId};
use ring::rand::{SecureRandom, SystemRandom};

use super::drains;
use super::journal::Journal;
use super::mover::Mover;

/// The cluster's token key lies in the directory: every node has it, nobody else (mutual TLS), and it outlives them all.
const KEY_FACT: &str = "secret/handover-token-key";
const FACT_MAX: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// Handover tokens: signed, bound to AE, expiry and credential, each good for one re-attachment (rows H06, G01).
pub(super) struct HandoverTokens {
    runtime: Runtime,
    keys: Keyring,
    lifetime_ms: u64,
    journal: Arc<Journal>,
}

impl HandoverTokens {
    /// Reads the cluster's key, or makes it; of several nodes that make one at once the first wins.
    pub(super) async fn new(runtime: Runtime, lifetime_ms: u64, journal: Arc<Journal>) -> Self {
        let secret = loop {
            let known = runtime.directory().read().fact(KEY_FACT).and_then(unhex);
            if let Some(secret) = known {
                break secret;
            }
            let mut fresh = [0; KEY_BYTES];
            if SystemRandom::new().fill(&mut fresh).is_ok() {
                let value: String = fresh.iter().map(|b| format!("{b:02x}")).collect();
                let command = Command::AddFact { name: KEY_FACT.into(), value: value.into() };
                if let Err(e) = runtime.directory().propose_within(command, FACT_MAX).await {
                    tracing::debug!("token key: {e}");
                }
            }
            tokio::time::sleep(AGAIN).await;
        };
        Self { runtime, keys: Keyring::new(TokenKey::new(1, &secret)), lifetime_ms, journal }
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
        let number = self.runtime.directory().read().context(context)?.attached.count;
        let expires_ms = self.runtime.now_ms() + self.lifetime_ms;
        let attachment = Attachment { context, number };
        self.keys.issue(Grant { attachment, ae, expires_ms, credential }).ok()
    }

    fn verify(&self, token: &str, ae: &str, credential: Option<&str>) -> Result<Attachment, String> {
        let began = Instant::now();
        let bearer = Bearer { ae, credential };
        match self.keys.verify(token, bearer, self.runtime.now_ms()) {
            Ok(claims) => {
                let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.journal.authenticated(claims.attachment.context, us);
                Ok(claims.attachment)
            }
            Err(e) => {
                tracing::info!(ae, code = e.code(), "handover token refused");
                Err(format!("{}: {e}", e.code()))
            }
        }
    }
}

/// Brings an AE's group to this node because its device has come here (rows H04, S04).
pub(super) struct Attach {
    pub(super) mover: Mover,
    pub(super) journal: Arc<Journal>,
}

impl Attach {
    /// What a permission is worth here. Where this node's directory does not say, or what it says would turn a device away,
    /// the leader is asked as well.
    async fn standing(&self, attachment: Attachment, target: NodeId) -> Result<Standing, AttachError> {
        let directory = self.mover.runtime.directory();
        let local = directory.read().standing(attachment, target);
        if let Some(known @ (Standing::Next | Standing::Done)) = local {
            return Ok(known);
        }
        let not_now = |reason: String| AttachError::Call(CallError::NotApplied { reason, retry_after: AGAIN });
        directory.linearizable(FACT_MAX).await.map_err(|e| not_now(e.to_string()))?;
        directory.read().standing(attachment, target).ok_or(AttachError::Call(CallError::NotFound))
    }

    /// The AE is here already, or came by an order of somebody else: the permission is used up by a command of its own.
    async fn use_up(&self, attachment: Attachment, node: NodeId) -> Result<(), AttachError> {
        let not_now = |reason: String| AttachError::Call(CallError::NotApplied { reason, retry_after: AGAIN });
        let command = Command::Attach { attachment, node };
        match self.mover.runtime.directory().propose_within(command, FACT_MAX).await {
            Ok(CommandOutcome::Refused(_)) => match self.standing(attachment, node).await? {
                Standing::Done => Ok(()), // the same request, twice at once
                Standing::Next => Err(not_now("the AE was moved on meanwhile".into())),
                Standing::Spent | Standing::Unheard => Err(AttachError::Used),
            },
            Ok(_) => Ok(()),
            // Asked again it is found done, or is done.
            Err(e) => Err(not_now(e.to_string())),
        }
    }

    async fn bring(&self, attachment: Attachment, target: NodeId) -> Result<(), AttachError> {
        match self.standing(attachment, target).await? {
            Standing::Next => {}
            Standing::Done => return Ok(()),
            Standing::Spent | Standing::Unheard => return Err(AttachError::Used),
        }
        match self.mover.carry_out(&MoveRequest::device(attachment, target), None).await {
            Ok(_) => {}
            // Used while this request was under way: perhaps by its like, which came here.
            Err(e) if e.code == TOKEN_USED => {}
            Err(e) if e.code == "no-context" => return Err(AttachError::Call(CallError::NotFound)),
            // A moment later it may be possible; what a target says for good is said to the device.
            Err(e) if Failure::from_code(&e.code) == Failure::Target => {
                match self.standing(attachment, target).await? {
                    Standing::Next => return Err(AttachError::NotAdmitted(e.text)),
                    Standing::Done | Standing::Spent | Standing::Unheard => {}
                }
            }
            Err(e) => return Err(AttachError::Call(CallError::NotApplied { reason: e.text, retry_after: AGAIN })),
        }
        match self.standing(attachment, target).await? {
            Standing::Done => Ok(()),
            Standing::Next => self.use_up(attachment, target).await,
            Standing::Spent | Standing::Unheard => Err(AttachError::Used),
        }
    }
}

impl Mobility for Attach {
    fn attach(&self, attachment: Attachment, target: NodeId) -> BoxFuture<'_, Result<(), AttachError>> {
        Box::pin(async move {
            let brought = self.bring(attachment, target).await;
            if let Err(e @ AttachError::Used) = &brought {
                tracing::info!(context = %attachment.context, "{e}");
            }
            brought
        })
    }

    fn came(&self, context: ContextId, took: Duration) {
        self.journal.came(context, took);
    }

    fn closed(&self) -> Option<Vec<NodeId>> {
        let me = self.mover.runtime.member().node;
        let draining = self.mover.runtime.directory().read().fact(&drains::fact_of(me)).is_some();
        // Not of a group: where a new one could go.
        draining.then(|| self.mover.targets.order(GroupId::default(), false).into_iter().filter(|n| *n != me).collect())
    }
}
