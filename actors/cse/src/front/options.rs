//! What a CSE is told.

use onemec_onem2m::CseIdentity;

/// A CSE's configuration.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CseOptions {
    /// `rn` of the CSEBase.
    pub base_name: String,
    /// `csi`, with its slash.
    pub cse_id: String,
    /// The service provider's FQDN.
    pub sp_id: String,
    /// m2m:cseTypeID: 1 IN-CSE, 2 MN-CSE, 3 ASN-CSE.
    pub cse_type: u8,
    /// Where clients reach it.
    pub poa: Vec<String>,
    /// AE-ID stems of administrators: originators without access control, never registered AEs.
    pub admins: Vec<String>,
    /// An administrator is believed only with a credential, also at a door that asks nobody for one.
    pub admins_proved: bool,
    /// How long a request may take when it does not say so itself.
    pub request_ms_max: u64,
    /// Requests per second of one originator, and registrations per second from one address; 0: no limit.
    pub requests_per_s_max: u32,
    /// Send verification requests for new subscriptions (TS-0004 7.4.8.2.1 leaves it open).
    pub verify_subscriptions: bool,
    /// How long a notification target may take to agree to a new subscription.
    pub verify_ms_max: u64,
    /// Requests of one fan-out that are under way together.
    pub fan_out_parallel_max: usize,
    /// Members that one fan-out serves.
    pub fan_out_members_max: usize,
    /// Contexts that one discovery at the CSEBase looks into.
    pub discovery_contexts_max: usize,
}

impl Default for CseOptions {
    fn default() -> Self {
        Self {
            base_name: "cse".into(),
            cse_id: "/cse".into(),
            sp_id: "onemec.local".into(),
            cse_type: 2,
            poa: Vec::new(),
            admins: Vec::new(),
            admins_proved: true,
            request_ms_max: 5_000,
            requests_per_s_max: 0,
            verify_subscriptions: true,
            verify_ms_max: 2_000,
            fan_out_parallel_max: 32,
            fan_out_members_max: 10_000,
            discovery_contexts_max: 100_000,
        }
    }
}

impl CseOptions {
    /// Whether this AE-ID stem is an administrator's.
    pub fn is_admin(&self, stem: &str) -> bool {
        self.admins.iter().any(|a| a == stem)
    }

    /// Who this CSE is.
    pub fn identity(&self) -> CseIdentity {
        CseIdentity {
            base_name: self.base_name.as_str().into(),
            cse_id: self.cse_id.as_str().into(),
            sp_id: self.sp_id.as_str().into(),
        }
    }
}

/// Whether clients must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Originators are taken at their word.
    #[default]
    None,
    /// A client that shows a credential is held to it; others are taken at their word.
    Optional,
    /// Every request needs a credential.
    Required,
}
