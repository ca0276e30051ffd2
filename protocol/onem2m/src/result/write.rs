//! Writing one resource as JSON (TS-0004 8.4).

use crate::json::{ObjectWriter, push_array, push_str};
use crate::tables::AttrId;
use crate::value::Value;
use crate::view::Resource;

/// Writes `{"m2m:cnt":{...}}`; of the attributes only `only`, if it names any.
pub fn representation(resource: &impl Resource, only: &[AttrId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut root = ObjectWriter::begin(&mut out);
    object(root.name(resource.root()), resource, |id, _| only.is_empty() || only.contains(&id), |_| {});
    root.end();
    out
}

/// Appends the object of one resource: the attributes that `wanted` picks, then what `more` adds.
pub(super) fn object(
    out: &mut Vec<u8>,
    resource: &impl Resource,
    wanted: impl Fn(AttrId, &Value) -> bool,
    more: impl FnOnce(&mut ObjectWriter<'_>),
) {
    let mut object = ObjectWriter::begin(out);
    resource.visit(&mut |id, attribute| {
        if wanted(id, attribute) {
            value(object.name(id.short()), attribute, resource);
        }
    });
    more(&mut object);
    object.end();
}

/// Appends one value. The bytes of a range go out as they came.
fn value(out: &mut Vec<u8>, value: &Value, resource: &impl Resource) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        // Validation lets only finite numbers in, which cannot fail.
        Value::Float(f) => drop(serde_json::to_writer(out, f)),
        Value::Time(t) => push_str(out, &t.to_string()),
        Value::Str(s) => push_str(out, s),
        Value::List(items) => push_array(out, items, |out, item| self::value(out, item, resource)),
        Value::Json(text) => out.extend_from_slice(text.as_bytes()),
        Value::Raw(span) => match resource.raw(*span) {
            Some(bytes) => out.extend_from_slice(&bytes),
            None => out.extend_from_slice(b"null"),
        },
    }
}
