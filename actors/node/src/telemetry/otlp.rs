//! Spans as an OTLP/HTTP request in JSON (opentelemetry-proto, `ExportTraceServiceRequest`): pure.

use serde_json::{Value, json};

use super::Span;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;

/// One request with these spans of a node. Ids are hexadecimal, 64-bit numbers are strings, as OTLP's JSON wants it.
pub(super) fn request(node: &str, spans: &[Span]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let all: Vec<Value> = spans
        .iter()
        .map(|s| {
            let attributes: Vec<Value> = s.attributes.iter().map(|(k, v)| text(k, v)).collect();
            json!({
                "traceId": s.context.trace_id(),
                "spanId": format!("{:016x}", s.context.span),
                "parentSpanId": if s.parent == 0 { String::new() } else { format!("{:016x}", s.parent) },
                "name": s.name,
                "kind": INTERNAL,
                "startTimeUnixNano": s.began_ns.to_string(),
                "endTimeUnixNano": s.ended_ns.to_string(),
                "attributes": attributes,
            })
        })
        .collect();
    let resource = [
        text("service.name", "onemec"),
        text("service.instance.id", node),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "onemec"}, "spans": all}],
    }]})
}

#[cfg(test)]
mod tests {
    use onemec_runtime::trace::TraceContext;

    use super::*;

    #[test]
    fn a_request_is_as_otlp_draws_it() {
        let span = Span {
            context: TraceContext { trace: 0xabc, span: 0x12 },
            parent: 0,
            name: "move",
            began_ns: 1,
            ended_ns: u64::MAX,
            attributes: vec![("from", "1".into())],
        };
        let child = Span { parent: 0x12, context: span.context.child(), ..span.clone() };
        let body = request("edge1", &[span, child]);
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["traceId"], "00000000000000000000000000000abc");
        assert_eq!((&spans[0]["parentSpanId"], &spans[1]["parentSpanId"]), (&json!(""), &json!("0000000000000012")));
        assert_eq!(spans[0]["endTimeUnixNano"], "18446744073709551615");
        assert_eq!(spans[0]["attributes"][0], json!({"key": "from", "value": {"stringValue": "1"}}));
    }
}
