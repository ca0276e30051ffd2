//! Turns `tracing`'s spans into ours. A span belongs to the trace of its parent, or to the one that its fields name:
//!
//! - `trace_self`: what the span is, where its id must be known before it ends (it travels to other nodes)
//! - `trace_parent`: its parent on another node
//!
//! both as W3C `traceparent`.

use std::time::{SystemTime, UNIX_EPOCH};

use onemec_runtime::trace::TraceContext;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Span, Telemetry};

/// Longer values are cut, bytes.
const VALUE_BYTES_MAX: usize = 256;
/// See the module.
const SELF: &str = "trace_self";
const PARENT: &str = "trace_parent";

/// See the module.
pub(super) struct SpanLayer(Telemetry);

impl SpanLayer {
    pub(super) fn new(telemetry: Telemetry) -> Self {
        Self(telemetry)
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

#[derive(Default)]
struct Fields {
    own: Option<TraceContext>,
    parent: Option<TraceContext>,
    attributes: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = format!("{value:?}");
        match field.name() {
            SELF => self.own = text.parse().ok(),
            PARENT => self.parent = text.parse().ok(),
            name => {
                while text.len() > VALUE_BYTES_MAX || !text.is_char_boundary(text.len()) {
                    text.pop();
                }
                self.attributes.push((name, text));
            }
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|_| self.0.is_on()) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let local = || span.scope().skip(1).find_map(|s| Some(s.extensions().get::<Span>()?.context));
        let parent = fields.parent.or_else(local);
        let context = fields.own.or_else(|| Some(parent?.child())).unwrap_or_else(TraceContext::begin);
        span.extensions_mut().insert(Span {
            context,
            parent: parent.map_or(0, |p| p.span),
            name: span.metadata().name(),
            began_ns: now_ns(),
            ended_ns: 0,
            attributes: fields.attributes,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(ours) = span.extensions_mut().get_mut::<Span>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            ours.attributes.extend(fields.attributes);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        if let Some(mut ours) = span.extensions_mut().remove::<Span>() {
            ours.ended_ns = now_ns();
            self.0.ended(ours);
        }
    }
}
