//! The oneM2M side of the fake cluster: just what the demo's devices use.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Given;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use onemec_node::admin::types::{AuditEvent, MoveReason};
use serde_json::{Value, json};

use super::{Ae, Shared, State};

#[derive(Clone)]
struct Door {
    node: String,
    state: Shared,
}

pub(crate) async fn door(listener: tokio::net::TcpListener, node: String, state: Shared) {
    let app = Router::new().fallback(serve).with_state(Door { node, state });
    // Connections of their own tasks would outlive a killed node: they are served in this one.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let app = app.clone();
        connections.spawn(async move {
            let service = hyper_util::service::TowerToHyperService::new(app);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn serve(Given(door): Given<Door>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut s = door.state.lock();
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let origin = text("x-m2m-origin");
    let content_type = text("content-type");
    let repeat = headers.contains_key("x-onemec-repeat").then(|| format!("{origin} {}", text("x-m2m-ri")));
    let answer = if method == Method::GET {
        read(&s, &uri)
    } else if content_type.ends_with("ty=2") {
        register(&mut s, &door.node, &origin, &body["m2m:ae"], headers.contains_key("x-onemec-handover"))
    } else if content_type.ends_with("ty=3") {
        (StatusCode::CREATED, json!({"m2m:cnt": {"ri": format!("cnt-{origin}")}}))
    } else {
        s.append(&origin, body["m2m:cin"]["con"].as_str().unwrap_or("").to_owned(), repeat);
        (StatusCode::CREATED, json!({"m2m:cin": {}}))
    };
    let mut extensions = vec![("x-onemec-token", format!("token-{origin}"))];
    let poas: Vec<String> = s.topology.node.iter().filter(|n| n.name != door.node).map(|n| n.poa()).collect();
    extensions.push(("x-onemec-peers", poas.join(",")));
    if let Some(a) = s.aes.get(&origin).filter(|a| a.home != door.node) {
        let poa = s.topology.node(&a.home).unwrap().poa();
        extensions.push(("x-onemec-home", format!("{poa};epoch={}", a.epoch)));
    }
    let mut response = (answer.0, answer.1.to_string()).into_response();
    for (name, value) in extensions {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn register(s: &mut State, node: &str, origin: &str, ae: &Value, handover: bool) -> (StatusCode, Value) {
    if handover {
        s.place(origin, node, MoveReason::Device);
    } else {
        let at_ns = s.now_ns();
        let name = ae["rn"].as_str().unwrap().to_owned();
        let together = ae["nl"].as_str().filter(|_| s.fault != super::Fault::NoBundles);
        let group = together.map_or_else(|| format!("g-{origin}"), |nl| format!("g-{nl}"));
        let (home, instances) = (node.to_owned(), Vec::new());
        let new = Ae { name, group: group.clone(), home, epoch: 1, instances, answered: Default::default() };
        s.aes.insert(origin.to_owned(), new);
        let contexts = s.members(&group).iter().map(|ae| format!("c-{ae}")).collect();
        s.log(node, AuditEvent::Serving { group, contexts, epoch: 1, at_ns });
    }
    (StatusCode::CREATED, json!({"m2m:ae": {"aei": origin, "ri": origin}}))
}

/// `/~/cse/cnt-ORIGINATOR` or `/~/cse/-/NAME/data`, with `lim` and `ofst`.
fn read(s: &State, uri: &Uri) -> (StatusCode, Value) {
    let last: Vec<&str> = uri.path().split('/').collect();
    let found =
        s.aes.iter().find(|(id, a)| last.contains(&format!("cnt-{id}").as_str()) || last.contains(&a.name.as_str()));
    let Some((_, ae)) = found else { return (StatusCode::NOT_FOUND, Value::Null) };
    let number = |key: &str| -> usize {
        let mut pairs = uri.query().unwrap_or("").split('&').filter_map(|p| p.split_once('='));
        pairs.find(|(k, _)| *k == key).and_then(|(_, v)| v.parse().ok()).unwrap_or(1)
    };
    let page = ae.instances.iter().enumerate().skip(number("ofst") - 1).take(number("lim"));
    let list: Vec<Value> = page.map(|(i, con)| json!({"con": con, "st": i + 1})).collect();
    (StatusCode::OK, json!({"m2m:cnt": {"m2m:cin": list}}))
}
