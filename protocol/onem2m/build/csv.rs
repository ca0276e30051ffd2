//! Reading CSV as in RFC 4180: commas, quotes, doubled quotes.

use std::collections::HashMap;

/// One row by column name.
pub(crate) struct Row(HashMap<String, String>);

impl Row {
    pub(crate) fn get(&self, column: &str) -> &str {
        self.0.get(column).unwrap_or_else(|| panic!("no column {column}"))
    }
}

/// The tables that are read.
pub(crate) struct Tables {
    pub(crate) resource_types: Vec<Row>,
    pub(crate) attributes: Vec<Row>,
    pub(crate) complex_types: Vec<Row>,
    pub(crate) enums: Vec<Row>,
    pub(crate) status_codes: Vec<Row>,
    pub(crate) request_params: Vec<Row>,
    pub(crate) response_params: Vec<Row>,
    pub(crate) filter_criteria: Vec<Row>,
    pub(crate) result_content: Vec<Row>,
    pub(crate) mgmt_objects: Vec<Row>,
}

impl Tables {
    pub(crate) fn load(folder: &str) -> Self {
        let read = |name: &str| {
            let path = format!("{folder}/{name}.csv");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            rows(&path, &text)
        };
        Self {
            resource_types: read("resource-types"),
            attributes: read("attributes"),
            complex_types: read("complex-types"),
            enums: read("enums"),
            status_codes: read("response-status-codes"),
            request_params: read("request-params"),
            response_params: read("response-params"),
            filter_criteria: read("filter-criteria"),
            result_content: read("result-content"),
            mgmt_objects: read("mgmtobj"),
        }
    }
}

fn rows(path: &str, text: &str) -> Vec<Row> {
    let mut records = records(text).into_iter();
    let header = records.next().unwrap_or_else(|| panic!("{path}: empty"));
    records
        .map(|cells| {
            assert_eq!(cells.len(), header.len(), "{path}: {cells:?}");
            Row(header.iter().cloned().zip(cells).collect())
        })
        .collect()
}

fn records(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut record = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                all.push(std::mem::take(&mut record));
            }
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        all.push(record);
    }
    all
}
