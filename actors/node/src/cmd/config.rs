//! `onemec config check`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Context, Done};
use crate::topology::{self, TopologyError};

pub(super) fn check(context: &Context, file: &Path) -> Done {
    match topology::load(file) {
        Ok(t) => context.print(&json!({"file": file, "ok": true, "nodes": t.node.len(), "problems": []}), |_| {
            format!(
                "{}: cluster `{}`, {} nodes ({}), all right\n",
                file.display(),
                t.cluster.name,
                t.node.len(),
                t.names()
            )
        }),
        Err(TopologyError::Wrong { path, problems }) => {
            context.print(&json!({"file": path, "ok": false, "problems": problems}), |_| {
                let list: String = problems.iter().map(|p| format!("{p}\n")).collect();
                format!("{path}: {} problem(s)\n{list}", problems.len())
            })?;
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(e.into()),
    }
}
