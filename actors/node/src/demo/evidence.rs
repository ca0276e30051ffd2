//! Gathers what the checker needs: readings through the IN-CSE, audit logs, directory views.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use onemec_device::primitive::content_text;
use onemec_device::sink::digest;
use onemec_device::{Connection, Connector, Endpoint, HttpError};
use serde_json::Value;

use super::checker::ReadBack;
use super::fleet::Stopped;
use crate::admin::types::AuditLine;

/// Instances per request.
const PAGE: usize = 500;
/// One request may take so long.
const ANSWER: Duration = Duration::from_secs(10);
/// A container must be readable within this time.
const READ_MAX: Duration = Duration::from_secs(30);
/// A longer audit line is damaged.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Reads all readings of a device, in the container's order.
///
/// # Errors
/// What went wrong, in words, if it cannot be read in time.
pub async fn read_back(in_cse: &Endpoint, device: &Stopped) -> Result<Vec<ReadBack>, String> {
    let until = Instant::now() + READ_MAX;
    let mut reader = Reader { in_cse, connection: None, requests: 0 };
    let (mut instances, mut offset) = (Vec::new(), 1);
    loop {
        let page = match reader.page(device, offset).await {
            Ok(page) => page,
            Err(e) if Instant::now() >= until => return Err(format!("{}: {e}", device.name)),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let count = page.instances.len();
        instances.extend(page.instances);
        offset = match page.next {
            Some(next) if next > offset => next,
            _ if count >= PAGE => offset + count,
            _ => break,
        };
    }
    // stateTag of an instance is its container's counter: the order in which they were created (TS-0004 7.4.7.2.1).
    if instances.iter().all(|i: &Instance| i.state_tag.is_some()) {
        instances.sort_by_key(|i| i.state_tag);
    }
    Ok(instances.into_iter().map(|i| i.reading).collect())
}

struct Reader<'a> {
    in_cse: &'a Endpoint,
    connection: Option<Connection>,
    requests: u64,
}

struct Instance {
    reading: ReadBack,
    state_tag: Option<u64>,
}

struct Page {
    instances: Vec<Instance>,
    next: Option<usize>,
}

impl Reader<'_> {
    async fn page(&mut self, device: &Stopped, offset: usize) -> Result<Page, String> {
        self.requests += 1;
        let uri = format!("{}?rcn=8&ty=4&lim={PAGE}&ofst={offset}", device.address);
        let request = Request::get(uri)
            .header("x-m2m-origin", &device.ae_id)
            .header("x-m2m-ri", format!("read-{}-{}", device.name, self.requests))
            .header("x-m2m-rvi", "3")
            .header("accept", "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|e| e.to_string())?;
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(c) => c,
            None => Connector::default().connect(self.in_cse, ANSWER).await.map_err(|e: HttpError| e.to_string())?,
        };
        let answer = connection.send(request, ANSWER).await.map_err(|e| e.to_string())?;
        self.connection = Some(connection);
        if answer.status.as_u16() == 404 && offset > 1 {
            return Ok(Page { instances: Vec::new(), next: None });
        }
        if !answer.status.is_success() {
            return Err(format!("HTTP {} (RSC {}): {}", answer.status, answer.rsc(), answer.excerpt()));
        }
        let body: Value = if answer.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer.body).map_err(|e| format!("not JSON: {e}"))?
        };
        let mut instances = Vec::new();
        collect(&body, &mut instances)?;
        let header = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Ok(Page { instances, next: header("x-m2m-cto") })
    }
}

/// Finds contentInstances wherever the result content puts them.
fn collect(value: &Value, out: &mut Vec<Instance>) -> Result<(), String> {
    let Value::Object(map) = value else { return Ok(()) };
    for (key, value) in map {
        match (key.as_str(), value) {
            ("m2m:cin", Value::Array(list)) => {
                for instance in list {
                    out.push(instance_of(instance)?);
                }
            }
            ("m2m:cin", one) => out.push(instance_of(one)?),
            (_, nested) => collect(nested, out)?,
        }
    }
    Ok(())
}

fn instance_of(instance: &Value) -> Result<Instance, String> {
    let con = instance.get("con").ok_or("an instance without content")?;
    let text = content_text(con);
    let number = serde_json::from_str::<Value>(&text).ok().and_then(|v| v.get("n")?.as_u64());
    let number = number.ok_or_else(|| format!("an instance that no device wrote: {con}"))?;
    Ok(Instance {
        reading: ReadBack { number, digest: digest(&text) },
        state_tag: instance.get("st").and_then(Value::as_u64),
    })
}

/// Reads a node's audit log from its data folder. The lines, and how many were damaged.
///
/// # Errors
/// If the file cannot be read.
pub fn audit_file(path: &Path) -> std::io::Result<(Vec<AuditLine>, u64)> {
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let (mut lines, mut damaged, mut bytes) = (Vec::new(), 0, Vec::new());
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok((lines, damaged));
        }
        let text = bytes.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match (text.len() <= LINE_BYTES_MAX).then(|| serde_json::from_slice(text)) {
            Some(Ok(line)) => lines.push(line),
            _ => damaged += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instances_are_found_in_every_result_content() {
        let cin = |n: u64| json!({"con": format!("{{\"n\":{n}}}"), "st": n});
        for body in
            [json!({"m2m:cin": [cin(1), cin(2)]}), json!({"m2m:cnt": {"rn": "data", "m2m:cin": [cin(1), cin(2)]}})]
        {
            let mut out = Vec::new();
            collect(&body, &mut out).unwrap();
            assert_eq!(
                out.iter().map(|i| (i.reading.number, i.state_tag)).collect::<Vec<_>>(),
                [(1, Some(1)), (2, Some(2))]
            );
            assert_eq!(out[0].reading.digest, digest(r#"{"n":1}"#), "of the text as it was written");
        }
        assert!(collect(&json!({"m2m:cin": {"con": "rubbish"}}), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_torn_line_is_counted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"n":1,"node":"a","incarnation":1,"event":"ceased","group":"g","epoch":1,"at_ns":5}"#;
        std::fs::write(file.path(), format!("{line}\n{}\n{line}\n", &line[..40])).unwrap();
        let (lines, damaged) = audit_file(file.path()).unwrap();
        assert_eq!((lines.len(), damaged), (2, 1));
    }
}
