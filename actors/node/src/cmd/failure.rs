//! How a command that could not be tried says so, to people and to machines alike: a code (with a page under docs/errors),
//! a sentence, what to do next. What a node refused keeps the node's words.

use std::fmt::Display;

use super::CommandError;
use crate::admin::AdminFailure;
use crate::admin::types::ErrorBody;
use crate::demo::DemoError;
use crate::node::NodeError;
use crate::topology::TopologyError;
use crate::up::UpError;

const FILES: &str = "look whether the file, folder or address exists, is free and may be used by this user";

impl CommandError {
    /// What is printed: `--json` prints it as the member `error` of an object on standard output.
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Admin(e) => admin(e),
            Self::Topology(e) => topology(e),
            Self::Up(e) => up(e),
            Self::Node(e) => node(e),
            Self::Demo(e) => demo(e),
            Self::Address(e) => said("cli-address", e, "give --admin (or ONEMEC_ADMIN) the URL of `admin_listen`"),
            Self::System { .. } => said("cli-system", self, FILES),
            Self::Certificates(e) => {
                said("cli-certificates", e, "nothing was issued; docs/bare-metal.md shows the steps")
            }
        }
    }
}

/// What some errors say after this is what to do.
const NEXT: &str = "\n    -> ";

/// An error in the form of the admin API; `cure` is what to do if the error does not say it itself.
fn said(code: &str, error: &impl Display, cure: &str) -> ErrorBody {
    let text = error.to_string();
    let (message, next_step) = text.split_once(NEXT).unwrap_or((&text, cure));
    ErrorBody { code: code.into(), message: message.into(), next_step: next_step.into(), retry_after_ms: None }
}

fn admin(e: &AdminFailure) -> ErrorBody {
    match e {
        AdminFailure::Refused { body, .. } => (**body).clone(),
        AdminFailure::Http { .. } => said("cli-no-answer", e, ""),
        AdminFailure::Foreign { .. } => said("cli-foreign-answer", e, ""),
    }
}

fn topology(e: &TopologyError) -> ErrorBody {
    let cure = "nothing was started; `onemec config check FILE --json` gives the problems as a list";
    match e {
        TopologyError::Read { .. } => said("cli-topology", e, "give the path of a topology"),
        // The text has a cure for each of its lines.
        TopologyError::Wrong { .. } => {
            ErrorBody { message: e.to_string(), next_step: cure.into(), ..said("cli-topology", &"", cure) }
        }
    }
}

fn up(e: &UpError) -> ErrorBody {
    match e {
        UpError::System { .. } => said("cli-system", e, FILES),
        UpError::Ended { .. } => said("cli-node-ended", e, "all nodes were stopped; the log says why it ended"),
        UpError::InUse { .. } => said("cli-folder-in-use", e, ""),
        UpError::NotReady { .. } => said("cli-not-ready", e, ""),
        UpError::NoSuchNode { .. } => said("no-such-node", e, "use one of these names"),
    }
}

fn node(e: &NodeError) -> ErrorBody {
    match e {
        NodeError::Topology(e) => topology(e),
        NodeError::NoSuchNode { .. } => said("no-such-node", e, ""),
        NodeError::System { .. } => said("cli-system", e, FILES),
        NodeError::Start(_) | NodeError::Orphan(_) => said(
            "cli-not-started",
            e,
            "what it acknowledged before is on its disk; start it again when the cause is gone",
        ),
        NodeError::Escalated(_) => said("crash-loop", e, ""),
    }
}

fn demo(e: &DemoError) -> ErrorBody {
    match e {
        DemoError::Up(e) => up(e),
        DemoError::Admin { what, source } => {
            let body = admin(source);
            ErrorBody { message: format!("{what}: {}", body.message), ..body }
        }
        DemoError::File(e) => topology(e),
        DemoError::Topology(_) => said("cli-topology", e, "cluster-configs/local-3.toml has them"),
        DemoError::System { .. } => said("cli-system", e, FILES),
        DemoError::Device { .. } | DemoError::Late(_) => {
            said("cli-demo", e, "run it again; with --dir its folder and logs are kept")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_code_sentence_and_cure() {
        let io = || std::io::Error::other("no");
        let orphan = NodeError::Orphan(7);
        let wrong = TopologyError::Wrong { path: "t.toml".into(), problems: Vec::new() };
        let all: [CommandError; 6] = [
            CommandError::System { what: "x".into(), source: io() },
            CommandError::Certificates("x\n    -> do this".into()),
            CommandError::Address(onemec_device::http1::BadEndpoint("x".into())),
            wrong.into(),
            orphan.into(),
            DemoError::Late("x".into()).into(),
        ];
        for e in all {
            let body = e.body();
            assert!(!body.code.is_empty() && !body.message.is_empty() && !body.next_step.is_empty(), "{body:?}");
            assert!(!body.message.contains(NEXT), "{body:?}");
        }
    }

    #[test]
    fn a_node_keeps_its_words() {
        let body =
            ErrorBody { code: "no-such-ae".into(), message: "m".into(), next_step: "n".into(), ..said("", &"", "") };
        let refused = || AdminFailure::Refused { status: 404, body: Box::new(body.clone()) };
        assert_eq!(CommandError::from(refused()).body(), body);
        let within = DemoError::Admin { what: "a move", source: refused() };
        assert_eq!(CommandError::from(within).body(), ErrorBody { message: "a move: m".into(), ..body.clone() });
    }
}
