//! The CSEBase of this node, and registration at another CSE of the cluster.

use bytes::Bytes;
use onemec_core::context::{CallError, ContextKind, CreateError, Key, NewContext};
use onemec_onem2m::tables::IMPLEMENTED;
use onemec_onem2m::{AttrId, Attributes, Refusal, Rsc, Ty, Value};
use serde_json::json;

use super::exec::Trouble;
use super::locate::base_key;
use super::{Cse, Inner};
use crate::op::{Action, Facts, Home, TreeOp, Who, Write};
use crate::tree::Target;

/// Releases that this CSE serves.
const RELEASES: [&str; 5] = ["2", "2a", "3", "4", "5"];

impl Cse {
    /// Makes the context of the CSEBase, or brings its configured attributes up to date. Call it when the node serves.
    pub async fn ensure_base(&self) -> Result<(), Refusal> {
        self.inner.ensure_base().await.map_err(Trouble::refusal)
    }

    /// Registers this CSE at another one of the cluster (an MN-CSE at its IN-CSE, TS-0001 10.2.2.6): a remoteCSE there,
    /// and one here for the registrar. Registering again brings the points of access up to date.
    pub async fn register_at(&self, registrar: &str) -> Result<(), Refusal> {
        self.inner.register_at(registrar).await.map_err(Trouble::refusal)
    }
}

impl Inner {
    async fn ensure_base(&self) -> Result<(), Trouble> {
        let home = Home::from(&self.me);
        let node = self.contexts.node();
        let body = self.base_attributes();
        if let Some(place) = self.find(base_key(node)).await? {
            let op = TreeOp::SetBase(home).op(body);
            self.contexts.write(place.context, op, self.internal_call()).await?;
            return Ok(());
        }
        let first = TreeOp::BeginBase(home).op(body);
        let csi = Key::global(format!("csi:{}", self.me.cse_id));
        let base = Key::global(format!("base:{}", self.me.base_name));
        // Two CSEBases may have one name; then only the first is found by it alone.
        for keys in [vec![csi.clone(), base_key(node), base], vec![csi, base_key(node)]] {
            let new =
                NewContext { kind: ContextKind::CSE_BASE, keys, bundle: None, first: first.clone(), pinned: true };
            match self.contexts.create(new, self.internal_call()).await {
                Ok(_) => return Ok(()),
                Err(CreateError::KeyTaken { key, .. }) if key.name.starts_with("base:") => {}
                Err(CreateError::KeyTaken { key, holder }) => {
                    let text = format!("{} belongs to context {holder}", key.name);
                    return Err(Refusal::new(Rsc::CONFLICT, text).into());
                }
                Err(full @ CreateError::GroupFull { .. }) => {
                    return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, full.to_string()).into());
                }
                Err(CreateError::Call(error)) => return Err(error.into()),
            }
        }
        Err(CallError::NotFound.into())
    }

    fn base_attributes(&self) -> Bytes {
        let types = IMPLEMENTED.iter().map(|t| Value::Int(i64::from(t.0))).collect();
        let attributes: Attributes = [
            (AttrId::CST, Value::Int(i64::from(self.options.cse_type))),
            (AttrId::CSI, Value::str(&*self.me.cse_id)),
            (AttrId::SRT, Value::List(types)),
            (AttrId::SRV, Value::list(RELEASES)),
            (AttrId::CSZ, Value::list(["application/json"])),
            (AttrId::POA, Value::list(self.options.poa.iter().map(String::as_str))),
        ]
        .into_iter()
        .collect();
        let mut bytes = Vec::new();
        attributes.encode(&mut bytes);
        bytes.into()
    }

    async fn register_at(&self, registrar: &str) -> Result<(), Trouble> {
        let unknown = || Refusal::new(Rsc::TARGET_NOT_REACHABLE, format!("{registrar} is not known"));
        let there = self.find(Key::global(format!("csi:{registrar}"))).await?.ok_or_else(unknown)?;
        let here = self.find(base_key(self.contexts.node())).await?.ok_or_else(unknown)?;
        let peer = self.peer(there.home).await?;
        self.put_remote_cse(&there, &self.me, Some(self.options.cse_type), &self.options.poa, &peer.identity).await?;
        // The registrar of an MN-CSE is an IN-CSE or another MN-CSE; its CSEBase tells.
        let facts = self.facts_at(&there, Target::root(), &self.internal_call()).await.ok_or_else(unknown)?;
        self.put_remote_cse(&here, &peer.identity, facts.cst, &peer.poa, &self.me).await
    }

    /// Creates or updates the remoteCSE of `cse` below a CSEBase.
    async fn put_remote_cse(
        &self,
        base: &onemec_core::context::Place,
        cse: &onemec_onem2m::CseIdentity,
        cse_type: Option<u8>,
        poa: &[String],
        host: &onemec_onem2m::CseIdentity,
    ) -> Result<(), Trouble> {
        let name = format!("csr-{}", cse.cse_id.trim_start_matches('/'));
        let mut content = json!({ "m2m:csr": {
            "rn": name, "csi": &*cse.cse_id, "cb": format!("{}/{}", cse.cse_id, cse.base_name),
            "poa": poa, "rr": true, "srv": RELEASES,
        }});
        if let Some(cse_type) = cse_type {
            content["m2m:csr"]["cst"] = cse_type.into();
        }
        let create = self.own_write(Action::Create(Ty::REMOTE_CSE.0), Target::root(), host);
        let (body, call) = (Bytes::from(content.to_string()), self.internal_call());
        match self.create_base_child(base, create, Some(name.clone()), body, &call).await {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(r)) if [Rsc::ORIGINATOR_HAS_ALREADY_REGISTERED, Rsc::CONFLICT].contains(&r.rsc) => {
                let target = Target { start: crate::tree::Start::Root, path: vec![name] };
                let update = self.own_write(Action::Update, target, host);
                let content = json!({ "m2m:csr": { "poa": poa, "rr": true } });
                self.write(base, update, content.to_string().into(), &self.internal_call()).await.map(drop)
            }
            Err(trouble) => Err(trouble),
        }
    }

    pub(super) fn own_write(&self, action: Action, target: Target, host: &onemec_onem2m::CseIdentity) -> Write {
        Write {
            action,
            target,
            who: Who::cse(&self.me),
            home: Home::from(host),
            rcn: 0,
            filter: None,
            unstructured: false,
            name: None,
            facts: Facts::default(),
        }
    }
}
