//! What a receiver's answer to a notification means for the next attempt. TS-0004 7.5.1.2.2 leaves it open; what is answered
//! by a CSE whose context moves, or by a gateway before a receiver that restarts, must not lose a notification.

use http::StatusCode;
use onemec_onem2m::Rsc;

use super::sender::Answered;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has it.
    Taken,
    /// It will never take it: a repetition would be refused again.
    Refused,
    /// It could not take it now.
    Again,
}

/// Statuses that speak of now, whatever the response status code beside them.
const NOT_NOW: [StatusCode; 6] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Response status codes that do (TS-0004 6.6.3).
const RSC_NOT_NOW: [Rsc; 4] =
    [Rsc::REQUEST_TIMEOUT, Rsc::INTERNAL_SERVER_ERROR, Rsc::TARGET_NOT_REACHABLE, Rsc::REMOTE_ENTITY_NOT_REACHABLE];

pub(super) fn verdict(answered: &Answered) -> Verdict {
    let rsc = answered.response.rsc;
    if rsc.is_success() {
        return Verdict::Taken;
    }
    let again = NOT_NOW.contains(&answered.status)
        || if answered.has_rsc { RSC_NOT_NOW.contains(&rsc) } else { answered.status.is_server_error() };
    if again { Verdict::Again } else { Verdict::Refused }
}

#[cfg(test)]
mod tests {
    use onemec_onem2m::Response;

    use super::*;

    fn of(status: u16, rsc: Option<u16>) -> Verdict {
        let made = if status < 300 { Rsc::OK } else { Rsc::TARGET_NOT_REACHABLE };
        verdict(&Answered {
            response: Response::new(rsc.map_or(made, Rsc), "r", None),
            status: StatusCode::from_u16(status).unwrap(),
            has_rsc: rsc.is_some(),
            retry_after: None,
        })
    }

    #[test]
    fn by_class() {
        for (status, rsc) in [(200, Some(2000)), (204, None), (202, Some(1000))] {
            assert_eq!(of(status, rsc), Verdict::Taken, "{status} {rsc:?}");
        }
        let again = [
            (503, Some(5000)),
            (500, Some(5000)),
            (504, Some(4008)),
            (429, Some(5207)),
            (404, Some(5103)),
            (404, Some(5107)),
            (500, None),
            (503, None),
            (429, None),
        ];
        for (status, rsc) in again {
            assert_eq!(of(status, rsc), Verdict::Again, "{status} {rsc:?}");
        }
        let refused = [
            (403, Some(4103)),
            (404, Some(4004)),
            (403, Some(5105)),
            (406, Some(5207)),
            (501, Some(5001)),
            (404, None),
        ];
        for (status, rsc) in refused {
            assert_eq!(of(status, rsc), Verdict::Refused, "{status} {rsc:?}");
        }
    }
}
