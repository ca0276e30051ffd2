//! The program from the outside: exit codes and errors that say what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs, helpers included

mod support;

use std::process::{Command, Output};

use onemec_node::admin::types::ErrorBody;
use support::{Fake, Fault};

fn onemec(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onemec")).args(args).env_remove("ONEMEC_ADMIN").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn config_check_names_the_line_and_what_to_do() {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-configs/local-3.toml");
    let out = onemec(&["config", "check", good]);
    assert!(out.status.success() && text(&out.stdout).contains("3 nodes"), "{out:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let wrong = std::fs::read_to_string(good).unwrap().replacen("cse_id = \"/edge1\"", "cse_id = \"edge1\"", 1);
    let line = wrong.lines().position(|l| l.starts_with("cse_id = \"edge1\"")).unwrap() + 1;
    std::fs::write(file.path(), wrong).unwrap();
    let path = file.path().to_str().unwrap();
    let out = onemec(&["config", "check", path]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains(&format!("line {line}:")) && text(&out.stdout).contains("->"), "{out:?}");
    let out = onemec(&["--json", "config", "check", path]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["problems"][0]["line"], line);
    assert_eq!(onemec(&["config", "check", "/no/such/file"]).status.code(), Some(2));
}

#[test]
fn errors_say_what_to_do_next() {
    let out = onemec(&["status", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("->"), "{out:?}");
    assert!(text(&onemec(&["status", "--admin", "nowhere"]).stderr).contains("http://HOST:PORT"));
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-configs/local-3.toml");
    let out = onemec(&["node", topology, "--name", "edge9", "--dir", "/tmp"]);
    assert!(text(&out.stderr).contains("cloud, edge1, edge2"), "{out:?}");
}

/// The error that a command prints for machines.
fn error(args: &[&str]) -> ErrorBody {
    let out = onemec(&[args, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
    let mut json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    serde_json::from_value(json["error"].take()).unwrap()
}

/// Every error has code, sentence and next step, and the code a page.
#[test]
fn errors_for_machines_are_objects() {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-configs/local-3.toml");
    let pages = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors"));
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "nonsense = 1").unwrap();
    let wrong = file.to_str().unwrap();
    for (args, code) in [
        (&["status", "--admin", "http://127.0.0.1:1"][..], "cli-no-answer"),
        (&["status", "--admin", "nowhere"], "cli-address"),
        (&["node", topology, "--name", "edge9", "--dir", dir], "no-such-node"),
        (&["node", wrong, "--name", "edge1", "--dir", dir], "cli-topology"),
        (&["up", "/no/such/file"], "cli-topology"),
        (&["ca", "issue", dir, "--topology", topology, "--name", "edge1"], "cli-certificates"),
    ] {
        let body = error(args);
        assert_eq!(body.code, code, "{args:?}: {body:?}");
        assert!(!body.message.is_empty() && !body.next_step.is_empty(), "{args:?}: {body:?}");
        assert!(pages.join(format!("{code}.md")).exists(), "{code} has no page");
        let people = text(&onemec(args).stderr);
        assert!(people.contains(&format!("onemec: {code}: ")) && people.contains("\n    -> "), "{people}");
    }
}

#[test]
fn an_authority_issues_nothing_for_another_domain() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-configs/local-3.toml");
    assert!(onemec(&["ca", "init", dir, "--domain", "other.example"]).status.success());
    for args in [
        &["ca", "issue", dir, "--topology", topology, "--name", "edge1"][..],
        &["ca", "client", dir, "--domain", "other", "--id", "Cmeter"],
        &["ca", "init", dir, "--domain", "local.onemec"],
    ] {
        let body = error(args);
        assert!(body.message.contains("authority of other.example"), "{args:?}: {body:?}");
    }
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| n.to_string_lossy().starts_with("ca.")), "{left:?}");
    assert!(onemec(&["ca", "client", dir, "--domain", "other.example", "--id", "Cmeter"]).status.success());
    assert!(onemec(&["ca", "init", dir, "--domain", "other.example"]).status.success(), "giving it twice does no harm");
    // A name that is too long for the certificate is compared as far as it goes.
    let long = format!("{}.example", "a".repeat(60));
    let dir = folder.path().join("long");
    let dir = dir.to_str().unwrap();
    for _ in 0..2 {
        assert!(onemec(&["ca", "init", dir, "--domain", &long]).status.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_print_tables_and_json() {
    let fake = Fake::start(Fault::None).await;
    let admin = {
        let mut s = fake.state.lock();
        for i in 0..7 {
            let ae = support::Ae {
                name: format!("meter{i}"),
                group: format!("g-Cmeter{i}"),
                home: "edge1".into(),
                epoch: 1,
                instances: Vec::new(),
                answered: Default::default(),
            };
            s.aes.insert(format!("Cmeter{i}"), ae);
        }
        s.topology.node[0].admin_url()
    };
    let ask = |args: &'static [&'static str]| {
        let admin = admin.clone();
        async move {
            let run = move || onemec(&[args, &["--admin", &admin]].concat());
            tokio::task::spawn_blocking(run).await.unwrap()
        }
    };
    let out = ask(&["ae", "ls"]).await;
    assert!(text(&out.stdout).contains("Cmeter6") && text(&out.stdout).contains("7 devices"), "{out:?}");
    let out = ask(&["handover", "Cmeter3", "--to", "edge2"]).await;
    assert!(out.status.success() && text(&out.stdout).contains("from edge1 to edge2"), "{out:?}");
    assert_eq!(ask(&["handover", "Cmeter3", "--to", "edge2"]).await.status.code(), Some(1));
    let out = ask(&["handover", "Cnobody"]).await;
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("onemec ae ls"), "{out:?}");
    let out = ask(&["ae", "show", "Cmeter3", "--json"]).await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()["home"], "edge2");
    assert!(text(&ask(&["candidates", "Cmeter3"]).await.stdout).contains("edge1"));
    assert!(text(&ask(&["drain", "edge1"]).await.stdout).contains("done"));
    assert!(text(&ask(&["handovers", "--last", "1"]).await.stdout).contains("drain"));
    assert!(ask(&["status"]).await.status.success() && ask(&["capabilities"]).await.status.success());
}
