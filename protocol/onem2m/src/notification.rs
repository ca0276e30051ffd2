//! Bodies of notifications and aggregated responses (TS-0004 6.3.5.13, 7.5.1.1).

use bytes::Bytes;

use crate::operation::Operation;
use crate::response::Response;
use crate::rsc::Refusal;

/// m2m:notification (`m2m:sgn`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notification {
    /// What happened.
    pub nev: Option<Event>,
    /// Verification request.
    pub vrq: bool,
    /// The subscription was deleted.
    pub sud: bool,
    /// The subscription's address, in a scope that the receiver can use.
    pub sur: Option<String>,
    /// Creator of the subscription.
    pub cr: Option<String>,
    /// Notification forwarding URI.
    pub nfu: Option<String>,
}

/// `nev` of a notification.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// JSON text: `{"m2m:cnt":{...}}`, or `{"m2m:uri":"..."}` for nct 3.
    pub rep: Option<Bytes>,
    /// m2m:notificationEventType
    pub net: Option<u8>,
    /// Operation and originator that `om` reports.
    pub om: Option<(Operation, String)>,
}

impl Notification {
    /// `{"m2m:sgn":{...}}`
    pub fn to_json(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads `{"m2m:sgn":{...}}`; `rep` is a slice of `body`.
    pub fn from_json(_body: &Bytes) -> Result<Self, Refusal> {
        unimplemented!()
    }
}

/// `{"m2m:uri":"..."}`: `rep` for nct 3.
pub fn uri_representation(_address: &str) -> Bytes {
    unimplemented!()
}

/// `{"m2m:agr":{"m2m:rsp":[...]}}`: the members' responses to a fan-out (TS-0004 7.4.14).
pub fn aggregated_response(_responses: &[Response]) -> Vec<u8> {
    unimplemented!()
}

/// `{"m2m:agn":{"m2m:sgn":[...]}}`: notifications of a batch.
pub fn aggregated_notification(_notifications: &[Notification]) -> Vec<u8> {
    unimplemented!()
}
