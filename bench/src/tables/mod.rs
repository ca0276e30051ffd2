//! The tables. A new one is a file here with a [`Table`], and a line in [`ALL`].

mod failover;
mod handover;
mod messaging;

use std::future::Future;
use std::pin::Pin;

use anyhow::bail;

use crate::cli::Plan;
use crate::report::Report;

/// What measuring gives.
pub(crate) type Measured<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Report>> + 'a>>;

/// A table that can be asked for.
pub(crate) struct Table {
    /// On the command line.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) about: &'static str,
    /// Measures it.
    pub(crate) run: for<'a> fn(&'a Plan) -> Measured<'a>,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: &[Table] = &[messaging::TABLE, handover::TABLE, failover::TABLE];

/// Those with the given names; without any, all.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Table>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let one = |name: &String| match ALL.iter().find(|t| t.name == name) {
        Some(table) => Ok(table),
        None => {
            let known: Vec<_> = ALL.iter().map(|t| t.name).collect();
            bail!("no table `{name}`; there are: {}", known.join(", "))
        }
    };
    names.iter().map(one).collect()
}
