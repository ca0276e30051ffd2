//! Filter criteria from JSON and from an HTTP query (TS-0009 6.2.2.2), and back.

use super::{AttributeFilter, FilterCriteria, FilterOperation, FilterUsage, labels};
use crate::address::{percent_decode, percent_encode};
use crate::json::{self, ObjectWriter};
use crate::limits::{EXPRESSION_BYTES_MAX, FILTER_VALUES_MAX};
use crate::params::{self, bad};
use crate::rsc::Refusal;
use crate::tables::{AttrId, FILTER_CRITERIA, Ty};

/// Attributes that have condition tags of their own and are refused as attribute filters (TS-0004 7.3.3.17.9).
const OWN_TAGS: &[AttrId] =
    &[AttrId::CT, AttrId::LT, AttrId::ST, AttrId::ET, AttrId::LBL, AttrId::TY, AttrId::CS, AttrId::CNF];

impl FilterCriteria {
    /// Reads the JSON of `fc`.
    pub fn from_json(text: &str) -> Result<Self, Refusal> {
        let text = json::text(text.as_bytes())?;
        let mut fc = Self::default();
        for (name, value) in json::object(text)? {
            match &*name {
                "atr" => fc.atr = attributes(&name, value)?,
                "catr" => fc.catr = attributes(&name, value)?,
                "patr" => fc.patr = attributes(&name, value)?,
                name if value.starts_with('[') => {
                    let items = json::array(value)?;
                    if !is_listed(name) || items.is_empty() {
                        return Err(bad(name, "is not a list, or an empty one"));
                    }
                    for item in items {
                        fc.add(name, &params::bare(name, item)?)?;
                    }
                }
                name if is_listed(name) => return Err(bad(name, "not an array")),
                name => {
                    if !fc.add(name, &params::bare(name, value)?)? {
                        return Err(unknown(name));
                    }
                }
            }
        }
        Ok(fc)
    }

    /// Adds one parameter of an HTTP query, its value still percent-encoded; false if its name is none of filter criteria.
    /// `+` separates the values of a list. Any attribute's name, also behind `c.` or `p.`, is an attribute filter.
    pub fn add_query(&mut self, key: &str, value: &str) -> Result<bool, Refusal> {
        for item in value.split('+') {
            let item = percent_decode(item, b"").ok_or_else(|| bad(key, "bad percent-encoding"))?;
            if self.add(key, &item)? {
                continue;
            }
            let (filters, name) = match (key.strip_prefix("c."), key.strip_prefix("p.")) {
                (Some(name), _) => (&mut self.catr, name),
                (_, Some(name)) => (&mut self.patr, name),
                _ => (&mut self.atr, key),
            };
            let Some(name) = AttrId::from_short(name) else { return Ok(false) };
            push(key, filters, attribute(name, item)?)?;
        }
        Ok(true)
    }

    /// Adds one value of one tag; false if there is no such tag.
    fn add(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        let text = |value| params::bounded(name, value);
        let ty = || params::number(name, value).map(Ty);
        let when = || params::timestamp(name, value);
        let count = || params::number::<u64>(name, value);
        let positive =
            || params::number::<u32>(name, value).and_then(|n| if n > 0 { Ok(n) } else { Err(bad(name, "is 0")) });
        match name {
            "crb" => once(name, &mut self.crb, when()?)?,
            "cra" => once(name, &mut self.cra, when()?)?,
            "ms" => once(name, &mut self.ms, when()?)?,
            "us" => once(name, &mut self.us, when()?)?,
            "exb" => once(name, &mut self.exb, when()?)?,
            "exa" => once(name, &mut self.exa, when()?)?,
            "sts" => once(name, &mut self.sts, count()?)?,
            "stb" => once(name, &mut self.stb, count()?)?,
            "sza" => once(name, &mut self.sza, count()?)?,
            "szb" => once(name, &mut self.szb, count()?)?,
            "lbl" => push(name, &mut self.lbl, text(value)?)?,
            "clbl" => push(name, &mut self.clbl, text(value)?)?,
            "palb" => push(name, &mut self.palb, text(value)?)?,
            "lbq" => {
                if value.len() > EXPRESSION_BYTES_MAX || labels::parse(value).is_none() {
                    return Err(bad(name, "is no query over labels"));
                }
                once(name, &mut self.lbq, value.to_owned())?;
            }
            "ty" => push(name, &mut self.ty, ty()?)?,
            "chty" => push(name, &mut self.chty, ty()?)?,
            "pty" => push(name, &mut self.pty, ty()?)?,
            "cty" => push(name, &mut self.cty, text(value)?)?,
            // SPARQL has line breaks.
            "smf" => push(name, &mut self.smf, value.to_owned())?,
            "fu" => once(name, &mut self.fu, params::one_of(name, value, FilterUsage::from_u8)?)?,
            "fo" => once(name, &mut self.fo, params::one_of(name, value, FilterOperation::from_u8)?)?,
            "lim" => once(name, &mut self.lim, params::number(name, value)?)?,
            "lvl" => once(name, &mut self.lvl, positive()?)?,
            "ofst" => once(name, &mut self.ofst, positive()?)?,
            "arp" => once(name, &mut self.arp, text(value)?)?,
            "cfs" => once(name, &mut self.cfs, params::one_of(name, value, Some)?)?,
            "cfq" => once(name, &mut self.cfq, text(value)?)?,
            // Later releases' tags are known, but nothing is done about them.
            _ if FILTER_CRITERIA.iter().any(|t| t.short == name && t.release > 3) => {
                return Err(Refusal::not_implemented(format!("fc: {name}")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Each tag with its values as bare text, in the order of the tables.
    fn tags(&self) -> Vec<(&'static str, Vec<String>)> {
        fn opt<T: ToString>(value: &Option<T>) -> Vec<String> {
            value.iter().map(T::to_string).collect()
        }
        fn all<T: ToString>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        vec![
            ("crb", opt(&self.crb)),
            ("cra", opt(&self.cra)),
            ("ms", opt(&self.ms)),
            ("us", opt(&self.us)),
            ("sts", opt(&self.sts)),
            ("stb", opt(&self.stb)),
            ("exb", opt(&self.exb)),
            ("exa", opt(&self.exa)),
            ("lbl", self.lbl.clone()),
            ("clbl", self.clbl.clone()),
            ("palb", self.palb.clone()),
            ("lbq", opt(&self.lbq)),
            ("ty", all(&self.ty)),
            ("chty", all(&self.chty)),
            ("pty", all(&self.pty)),
            ("sza", opt(&self.sza)),
            ("szb", opt(&self.szb)),
            ("cty", self.cty.clone()),
            ("smf", self.smf.clone()),
            ("fu", self.fu.iter().map(|v| (*v as u8).to_string()).collect()),
            ("fo", self.fo.iter().map(|v| (*v as u8).to_string()).collect()),
            ("lim", opt(&self.lim)),
            ("lvl", opt(&self.lvl)),
            ("ofst", opt(&self.ofst)),
            ("arp", opt(&self.arp)),
            ("cfs", opt(&self.cfs)),
            ("cfq", opt(&self.cfq)),
        ]
    }

    /// Writes the JSON of `fc`.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        let mut object = ObjectWriter::begin(&mut out);
        for (name, values) in self.tags().into_iter().filter(|(_, values)| !values.is_empty()) {
            let each = |out: &mut Vec<u8>, value: String| match is_text(name) {
                true => json::push_str(out, &value),
                false => out.extend_from_slice(value.as_bytes()),
            };
            if is_listed(name) {
                json::push_array(object.name(name), values, each);
            } else {
                values.into_iter().for_each(|value| each(object.name(name), value));
            }
        }
        for (name, filters) in [("atr", &self.atr), ("catr", &self.catr), ("patr", &self.patr)] {
            if !filters.is_empty() {
                json::push_array(object.name(name), filters, |out, filter| {
                    let mut entry = ObjectWriter::begin(out);
                    entry.text("nm", filter.name.short());
                    entry.text("val", &filter.value);
                    entry.end();
                });
            }
        }
        object.end();
        // Only whole strings were written.
        String::from_utf8(out).unwrap_or_default()
    }

    /// The HTTP query, without a leading `?`.
    pub fn to_query(&self) -> String {
        let mut query = String::new();
        let mut put = |key: &str, values: Vec<String>| {
            for (i, value) in values.iter().enumerate() {
                match i {
                    0 if !query.is_empty() => query.push('&'),
                    0 => {}
                    _ => query.push('+'),
                }
                if i == 0 {
                    query.push_str(key);
                    query.push('=');
                }
                percent_encode(&mut query, value, b"");
            }
        };
        for (name, values) in self.tags() {
            put(name, values);
        }
        for (prefix, filters) in [("", &self.atr), ("c.", &self.catr), ("p.", &self.patr)] {
            for filter in filters {
                put(&format!("{prefix}{}", filter.name.short()), vec![filter.value.clone()]);
            }
        }
        query
    }
}

fn unknown(name: &str) -> Refusal {
    bad("fc", &format!("{name} is no filter criterion"))
}

/// Tags that are arrays in JSON.
fn is_listed(name: &str) -> bool {
    matches!(name, "lbl" | "clbl" | "palb" | "ty" | "chty" | "pty" | "cty" | "smf")
}

/// Tags that are strings in JSON.
fn is_text(name: &str) -> bool {
    matches!(
        name,
        "crb" | "cra" | "ms" | "us" | "exb" | "exa" | "lbl" | "clbl" | "palb" | "lbq" | "cty" | "smf" | "arp" | "cfq"
    )
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(name, "stands twice")),
    }
}

fn push<T>(name: &str, list: &mut Vec<T>, value: T) -> Result<(), Refusal> {
    if list.len() == FILTER_VALUES_MAX {
        return Err(bad(name, "too many values"));
    }
    list.push(value);
    Ok(())
}

fn attribute(name: AttrId, value: String) -> Result<AttributeFilter, Refusal> {
    if OWN_TAGS.contains(&name) {
        return Err(bad(name.short(), "has its own condition tag, no attribute filter is possible"));
    }
    if value.len() > EXPRESSION_BYTES_MAX {
        return Err(bad(name.short(), "too long"));
    }
    Ok(AttributeFilter { name, value })
}

fn attributes(tag: &str, text: &str) -> Result<Vec<AttributeFilter>, Refusal> {
    let mut filters = Vec::new();
    for item in json::array(text)? {
        let (mut name, mut value) = (None, None);
        for (member, text) in json::object(item)? {
            match &*member {
                "nm" => name = Some(params::text("nm", text)?),
                "val" => value = Some(params::bare("val", text)?),
                _ => return Err(bad(tag, "unknown member")),
            }
        }
        let (Some(name), Some(value)) = (name, value) else { return Err(bad(tag, "needs nm and val")) };
        let id = AttrId::from_short(&name).ok_or_else(|| bad(tag, "unknown attribute"))?;
        push(tag, &mut filters, attribute(id, value)?)?;
    }
    Ok(filters)
}
