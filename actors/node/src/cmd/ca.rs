//! `onemec ca init|issue`.

use std::path::{Path, PathBuf};

use super::{CommandError, Context, Done};
use crate::topology;

const NOT_WIRED: CommandError = CommandError::NotWired(
    "this build cannot make certificates yet\n    -> the authority is part of the runtime: wire it in actors/node/src/cmd/ca.rs",
);

pub(super) fn init(_context: &Context, _dir: &Path, _domain: &str) -> Done {
    Err(NOT_WIRED)
}

pub(super) fn issue(_context: &Context, dir: &Path, file: &Path, name: &str, out: Option<PathBuf>) -> Done {
    let topology = topology::load(file)?;
    if topology.node(name).is_none() {
        let (name, names) = (name.to_owned(), topology.names());
        return Err(crate::node::NodeError::NoSuchNode { file: file.display().to_string(), name, names }.into());
    }
    let _out = out.unwrap_or_else(|| dir.join(name));
    Err(NOT_WIRED)
}
