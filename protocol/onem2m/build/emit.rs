//! Writes the Rust source of the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::csv::{Row, Tables};
use crate::data_types::Names;

/// Rows that no standard knows; they are left out.
const NON_STANDARD: &str = "non-standard";

pub(crate) fn all(t: &Tables) -> String {
    let mut out = String::new();
    let names = Names { enums: enum_index(t), complex: complex_index(t) };
    attribute_names(&mut out, t);
    enums(&mut out, t, &names);
    complex(&mut out, t, &names);
    let types = Types::new(t);
    types.emit(&mut out, t, &names);
    status_codes(&mut out, t);
    result_content(&mut out, t);
    params(&mut out, "REQUEST_PARAMS", &t.request_params);
    params(&mut out, "RESPONSE_PARAMS", &t.response_params);
    filter_criteria(&mut out, t);
    out
}

fn standard(row: &&Row) -> bool {
    row.get("release") != NON_STANDARD
}

/// `createdBefore` and `ACCEPTED_for_nonBlocking` -> upper case with underscores.
fn upper(name: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let lower_before = i > 0 && chars[i - 1].is_lowercase();
        let word_start =
            i > 0 && chars[i - 1].is_uppercase() && chars.get(i + 1).is_some_and(|n| n.is_lowercase()) && i > 1;
        if c.is_uppercase() && (lower_before || word_start) && !out.ends_with('_') {
            out.push('_');
        }
        out.push(if *c == '-' { '_' } else { c.to_ascii_uppercase() });
    }
    out
}

fn short_names(t: &Tables) -> BTreeSet<&str> {
    t.attributes.iter().filter(standard).map(|r| r.get("short")).filter(|s| !s.is_empty() && !s.contains(':')).collect()
}

fn attribute_names(out: &mut String, t: &Tables) {
    let shorts = short_names(t);
    writeln!(out, "pub(crate) static ATTRIBUTE_NAMES: &[&str] = &{:?};", shorts.iter().collect::<Vec<_>>()).unwrap();
    writeln!(out, "/// Every attribute by its short name.\n#[allow(missing_docs)]\nimpl AttrId {{").unwrap();
    for (i, s) in shorts.iter().enumerate() {
        writeln!(out, "pub const {}: Self = Self({i});", s.to_ascii_uppercase()).unwrap();
    }
    writeln!(out, "}}").unwrap();
}

fn enum_index(t: &Tables) -> BTreeMap<String, usize> {
    let names: BTreeSet<_> = t.enums.iter().map(|r| r.get("enum").to_owned()).collect();
    names.into_iter().enumerate().map(|(i, n)| (n, i)).collect()
}

fn enums(out: &mut String, t: &Tables, names: &Names) {
    writeln!(out, "/// The enumerations, by name.\npub static ENUMS: &[EnumType] = &[").unwrap();
    for name in names.enums.keys() {
        write!(out, "EnumType {{ name: {name:?}, values: &[").unwrap();
        for r in t.enums.iter().filter(|r| r.get("enum") == name) {
            let (low, high) = r.get("value").split_once("..").unwrap_or((r.get("value"), r.get("value")));
            write!(out, "EnumValue {{ low: {low}, high: {high}, meaning: {:?} }}, ", r.get("meaning")).unwrap();
        }
        writeln!(out, "] }},").unwrap();
    }
    writeln!(out, "];").unwrap();
}

/// The name of the type that holds an element, and the element's own name: `T`, `a/b` is `b` in the anonymous type `T/a`.
fn owner(row: &Row) -> (String, String) {
    match row.get("element_path").rsplit_once('/') {
        Some((parent, element)) => (format!("{}/{parent}", row.get("type")), element.to_owned()),
        None => (row.get("type").to_owned(), row.get("element_path").to_owned()),
    }
}

fn complex_index(t: &Tables) -> BTreeMap<String, usize> {
    let names: BTreeSet<_> = t.complex_types.iter().map(|r| owner(r).0).collect();
    names.into_iter().enumerate().map(|(i, n)| (n, i)).collect()
}

fn complex(out: &mut String, t: &Tables, names: &Names) {
    writeln!(out, "/// The complex data types, by name.\npub static COMPLEX: &[ComplexType] = &[").unwrap();
    for name in names.complex.keys() {
        write!(out, "ComplexType {{ name: {name:?}, members: &[").unwrap();
        let mut seen = BTreeSet::new();
        for r in t.complex_types.iter().filter(|r| owner(r).0 == *name) {
            let short = r.get("short");
            if short.is_empty() || !seen.insert(short) {
                continue;
            }
            let anonymous = format!("{}/{}", r.get("type"), r.get("element_path"));
            let (data, list_type) = match names.complex.get(&anonymous) {
                Some(i) => (format!("DataType::Complex({i})"), false),
                None => names.expression(r.get("data_type"), ""),
            };
            let multiplicity = r.get("multiplicity");
            let repeated = multiplicity.contains("..n") || multiplicity.contains("..5") || multiplicity.contains("(L)");
            write!(
                out,
                "Member {{ short: {short:?}, data: {data}, list: {}, mandatory: {} }}, ",
                list_type || repeated,
                multiplicity.starts_with('1') && release(r) == 3
            )
            .unwrap();
        }
        writeln!(out, "] }},").unwrap();
    }
    writeln!(out, "];").unwrap();
}

/// Resource types with their announced variants behind them.
struct Types<'a> {
    rows: Vec<&'a Row>,
    index: BTreeMap<String, usize>,
}

impl<'a> Types<'a> {
    fn new(t: &'a Tables) -> Self {
        let rows: Vec<_> = t.resource_types.iter().filter(standard).collect();
        let mut index = BTreeMap::new();
        for r in &rows {
            let n = index.len();
            index.insert(r.get("long_name").to_owned(), n);
        }
        for r in rows.iter().filter(|r| !r.get("annc_ty").is_empty()) {
            let n = index.len();
            index.insert(format!("{}Annc", r.get("long_name")), n);
        }
        Self { rows, index }
    }

    /// Children by index: what the type lists, and every type that lists this one as its parent.
    fn children(&self, name: &str, listed: &str) -> Vec<usize> {
        let mut all: BTreeSet<usize> = listed.split_whitespace().filter_map(|c| self.index.get(c).copied()).collect();
        for r in &self.rows {
            if r.get("parents").split_whitespace().any(|p| p == name) {
                all.insert(self.index[r.get("long_name")]);
            }
        }
        all.into_iter().collect()
    }

    fn emit(&self, out: &mut String, t: &Tables, names: &Names) {
        writeln!(out, "/// The resource types: first the originals, then their announced variants.").unwrap();
        writeln!(out, "pub static RESOURCE_TYPES: &[ResourceType] = &[").unwrap();
        let yes = |r: &Row, column: &str| r.get(column) == "yes";
        for r in &self.rows {
            let name = r.get("long_name");
            let ty = if r.get("ty").is_empty() { "None".into() } else { format!("Some(Ty({}))", r.get("ty")) };
            let announced = match r.get("annc_ty") {
                "" => "None".into(),
                n => format!("Some(Ty({n}))"),
            };
            writeln!(
                out,
                "ResourceType {{ name: {name:?}, ty: {ty}, short: {:?}, root: {:?}, announced_as: {announced}, original: None, \
                 virtual_resource: {}, creatable: {}, updatable: {}, deletable: {}, in_cse_only: {}, release: {}, \
                 children: &{:?}, attributes: &{} }},",
                r.get("short"),
                r.get("json_root"),
                yes(r, "virtual"),
                yes(r, "api_create"),
                yes(r, "api_update"),
                yes(r, "api_delete"),
                yes(r, "in_cse_only"),
                release(r),
                self.children(name, r.get("children")),
                attributes(t, names, |a| a.get("resource") == name),
            )
            .unwrap();
        }
        for r in self.rows.iter().filter(|r| !r.get("annc_ty").is_empty()) {
            let name = format!("{}Annc", r.get("long_name"));
            writeln!(
                out,
                "ResourceType {{ name: {name:?}, ty: Some(Ty({})), short: {:?}, root: \"m2m:{}\", announced_as: None, \
                 original: Some(Ty({})), virtual_resource: false, creatable: true, updatable: true, deletable: true, \
                 in_cse_only: false, release: {}, children: &{:?}, attributes: &{} }},",
                r.get("annc_ty"),
                r.get("annc_short"),
                r.get("annc_short"),
                r.get("ty"),
                release(r),
                self.children(&name, r.get("annc_children")),
                announced_attributes(t, names, r.get("long_name")),
            )
            .unwrap();
        }
        writeln!(out, "];").unwrap();
        writeln!(out, "/// Every numbered resource type.\n#[allow(missing_docs)]\nimpl Ty {{").unwrap();
        for r in self.rows.iter().filter(|r| !r.get("ty").is_empty()) {
            writeln!(out, "pub const {}: Self = Self({});", upper(r.get("long_name")), r.get("ty")).unwrap();
        }
        writeln!(out, "}}").unwrap();
        self.mgmt_objects(out, t, names);
    }

    fn mgmt_objects(&self, out: &mut String, t: &Tables, names: &Names) {
        writeln!(out, "/// The specialisations of mgmtObj.\npub static MGMT_OBJECTS: &[MgmtObject] = &[").unwrap();
        for r in t.mgmt_objects.iter().filter(|r| !r.get("short").is_empty()) {
            writeln!(
                out,
                "MgmtObject {{ name: {:?}, definition: {}, short: {:?}, root: {:?}, attributes: &{} }},",
                r.get("name"),
                r.get("mgd"),
                r.get("short"),
                r.get("json_root"),
                attributes(t, names, |a| a.get("resource") == r.get("name")),
            )
            .unwrap();
        }
        writeln!(out, "];").unwrap();
    }
}

fn release(r: &Row) -> u8 {
    if r.get("release").starts_with('4') { 4 } else { 3 }
}

fn attributes(t: &Tables, names: &Names, of: impl Fn(&Row) -> bool) -> String {
    let shorts = short_names(t);
    let mut out = String::from("[");
    let mut rows: Vec<_> = t
        .attributes
        .iter()
        .filter(standard)
        .filter(|a| of(a) && shorts.contains(a.get("short")) && !a.get("create").is_empty())
        .collect();
    rows.sort_by_key(|a| a.get("short"));
    for a in rows {
        out.push_str(&attribute(&shorts, names, a, a.get("create"), a.get("update"), a.get("announced")));
    }
    out.push(']');
    out
}

/// The common part of every announced type, and what the original may announce (TS-0001 9.6.26).
fn announced_attributes(t: &Tables, names: &Names, original: &str) -> String {
    let shorts = short_names(t);
    let mut rows: BTreeMap<&str, String> = BTreeMap::new();
    for a in t.attributes.iter().filter(standard).filter(|a| shorts.contains(a.get("short"))) {
        if a.get("resource") == original && ["MA", "OA"].contains(&a.get("announced")) {
            rows.insert(a.get("short"), attribute(&shorts, names, a, "O", "O", "NA"));
        }
    }
    for a in t.attributes.iter().filter(|a| a.get("resource") == "*Annc" && shorts.contains(a.get("short"))) {
        // The announcing CSE may name its copy.
        let create = if a.get("short") == "rn" { "O" } else { a.get("create") };
        rows.insert(a.get("short"), attribute(&shorts, names, a, create, a.get("update"), "NA"));
    }
    format!("[{}]", rows.into_values().collect::<String>())
}

fn attribute(shorts: &BTreeSet<&str>, names: &Names, a: &Row, create: &str, update: &str, announced: &str) -> String {
    let id = shorts.iter().position(|s| *s == a.get("short")).unwrap();
    let (data, list_type) = names.expression(a.get("data_type"), a.get("acme_type"));
    // The data type's name may itself be a list while the column says that the attribute is one value.
    let list = a.get("list") == "list" || (list_type && a.get("multiplicity").contains("(L)"));
    let optionality = |o: &str| match o {
        "M" => "Optionality::Mandatory",
        "O" => "Optionality::Optional",
        _ => "Optionality::NotPresent",
    };
    let announced = match announced {
        "MA" => "Announced::Mandatory",
        "OA" => "Announced::Optional",
        _ => "Announced::Never",
    };
    format!(
        "Attribute {{ id: AttrId({id}), name: {:?}, data: {data}, list: {list}, required: {}, create: {}, update: {}, \
         announced: {announced}, release: {} }}, ",
        a.get("attribute"),
        a.get("multiplicity").starts_with('1'),
        optionality(create),
        optionality(update),
        release(a),
    )
}

fn status_codes(out: &mut String, t: &Tables) {
    writeln!(out, "/// The response status codes, rising.\npub static STATUS_CODES: &[StatusCode] = &[").unwrap();
    let mut constants = String::new();
    for r in &t.status_codes {
        let (code, name) = (r.get("rsc"), r.get("name"));
        // Where TS-0009 gives no mapping: by the class of the code, and 403 for 4xxx as ACME does for 4128.
        let http = match (r.get("http_status"), code.as_bytes()[0]) {
            ("", b'4') => "403",
            ("", _) => "500",
            (status, _) => status,
        };
        writeln!(out, "StatusCode {{ rsc: Rsc({code}), name: {name:?}, http: {http} }},").unwrap();
        writeln!(constants, "pub const {}: Self = Self({code});", upper(name)).unwrap();
    }
    writeln!(out, "];\n/// The response status codes by name.\n#[allow(missing_docs)]\nimpl Rsc {{{constants}}}")
        .unwrap();
}

fn result_content(out: &mut String, t: &Tables) {
    writeln!(out, "/// Which result content is valid for what.\npub static RESULT_CONTENT: &[ResultContentRow] = &[")
        .unwrap();
    for r in &t.result_content {
        let validity = |column: &str| match r.get(column) {
            "valid" => "Validity::Valid",
            "default" => "Validity::Default",
            _ => "Validity::Invalid",
        };
        writeln!(
            out,
            "ResultContentRow {{ rcn: {}, name: {:?}, create: {}, retrieve: {}, update: {}, delete: {}, discovery: {} }},",
            r.get("rcn"),
            r.get("name"),
            validity("create"),
            validity("retrieve"),
            validity("update"),
            validity("delete"),
            validity("discovery"),
        )
        .unwrap();
    }
    writeln!(out, "];").unwrap();
}

fn params(out: &mut String, name: &str, rows: &[Row]) {
    writeln!(out, "/// Parameters of primitives.\npub static {name}: &[Param] = &[").unwrap();
    for r in rows.iter().filter(|r| !r.get("short").is_empty()) {
        let per_operation = if name == "REQUEST_PARAMS" {
            ["create", "retrieve", "update", "delete", "notify"].map(|c| match r.get(c) {
                "M" => "Optionality::Mandatory",
                "NP" => "Optionality::NotPresent",
                _ => "Optionality::Optional",
            })
        } else {
            ["Optionality::Optional"; 5]
        };
        writeln!(
            out,
            "Param {{ name: {:?}, short: {:?}, carrier: {:?}, field: {:?}, operations: [{}] }},",
            r.get("name"),
            r.get("short"),
            r.get("http_carrier"),
            r.get("http_field"),
            per_operation.join(", ")
        )
        .unwrap();
    }
    writeln!(out, "];").unwrap();
}

fn filter_criteria(out: &mut String, t: &Tables) {
    writeln!(out, "/// The conditions and handling instructions of filter criteria.").unwrap();
    writeln!(out, "pub static FILTER_CRITERIA: &[FilterTag] = &[").unwrap();
    for r in &t.filter_criteria {
        writeln!(
            out,
            "FilterTag {{ name: {:?}, short: {:?}, condition: {}, release: {} }},",
            r.get("element"),
            r.get("short"),
            r.get("kind") == "match",
            release(r)
        )
        .unwrap();
    }
    writeln!(out, "];").unwrap();
}
