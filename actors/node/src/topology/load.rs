//! Reading a topology: problems with their lines and what to do about them.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::{Topology, check};

/// A longer file is no topology.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line in the file, from 1; 0 if it belongs to no line.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        write!(f, "{}\n    -> {}", self.what, self.fix)
    }
}

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; give the path of a topology, for example cluster-configs/local-3.toml")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It can be read, and it is wrong.
    #[error("{path} is not usable:\n{}", list(problems))]
    Wrong {
        /// Which.
        path: String,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")
}

/// Reads and checks a file.
///
/// # Errors
/// If it cannot be read or is wrong.
pub fn load(path: &Path) -> Result<Topology, TopologyError> {
    let name = path.display().to_string();
    let read = |source| TopologyError::Read { path: name.clone(), source };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > FILE_BYTES_MAX {
        return Err(read(std::io::Error::other(format!("{length} bytes are more than a topology has"))));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text).map_err(|problems| TopologyError::Wrong { path: name, problems })
}

/// Parses and checks a text.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str) -> Result<Topology, Vec<Problem>> {
    let topology: Topology = toml::from_str(text).map_err(|e| vec![syntax(text, &e)])?;
    let problems = check::check(&topology, &Lines::of(text));
    if problems.is_empty() { Ok(topology) } else { Err(problems) }
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().to_owned();
    let fix = if message.contains("unknown field") {
        "remove the key or correct its spelling; cluster-configs/local-3.toml lists all keys"
    } else if message.contains("missing field") {
        "add the key; cluster-configs/local-3.toml shows it with a comment"
    } else if message.contains("unknown variant") {
        "use one of the listed words"
    } else if message.contains("socket address") {
        "write ADDRESS:PORT with a numeric address, for example 127.0.0.1:8080"
    } else {
        "correct the value; cluster-configs/local-3.toml shows every key with its form"
    };
    Problem { line: error.span().map_or(0, |s| line_of(text, s.start)), what: message, fix: fix.into() }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// Where things stand in the text: a second, lenient parse that keeps only spans.
pub(super) struct Lines<'a> {
    text: &'a str,
    nodes: Vec<Range<usize>>,
}

#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    node: Vec<Spanned<toml::Table>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let nodes: Vec<usize> = toml::from_str::<Outline>(text)
            .map(|o| o.node.iter().map(|n| n.span().start).collect())
            .unwrap_or_default();
        let ends = nodes.iter().skip(1).copied().chain([text.len()]);
        let nodes = nodes.iter().copied().zip(ends).map(|(a, b)| a..b.max(a)).collect();
        Self { text, nodes }
    }

    /// The line of a key of the `index`-th node, or of the node itself.
    pub(super) fn node(&self, index: usize, key: &str) -> usize {
        let Some(range) = self.nodes.get(index) else { return 0 };
        self.key_in(range.clone(), key).unwrap_or_else(|| line_of(self.text, range.start))
    }

    /// The line of a key outside of the nodes, or of the section.
    pub(super) fn section(&self, section: &str, key: &str) -> usize {
        let header = format!("[{section}]");
        let Some(start) = self.text.find(&header) else { return 0 };
        let body = start + header.len();
        let rest = self.text.get(body..).unwrap_or_default();
        let end = rest.find("\n[").map_or(self.text.len(), |e| body + e);
        self.key_in(start..end, key).unwrap_or_else(|| line_of(self.text, start))
    }

    fn key_in(&self, range: Range<usize>, key: &str) -> Option<usize> {
        let mut offset = range.start;
        for line in self.text.get(range)?.split_inclusive('\n') {
            let is_key = line.trim_start().strip_prefix(key).is_some_and(|r| r.trim_start().starts_with(['=', '.']));
            if is_key || line.trim() == format!("[node.{key}]") {
                return Some(line_of(self.text, offset));
            }
            offset += line.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../../cluster-configs/local-3.toml");

    fn line_with(text: &str, what: &str) -> usize {
        line_of(text, text.find(what).unwrap())
    }

    fn changed(from: &str, to: &str) -> (String, Vec<Problem>) {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let problems = parse(&text).unwrap_err();
        (text, problems)
    }

    #[test]
    fn shipped_topologies_are_right() {
        for (name, text) in [
            ("local-3", GOOD),
            ("local-dns-3", include_str!("../../../../cluster-configs/local-dns-3.toml")),
            ("local-5", include_str!("../../../../cluster-configs/local-5.toml")),
            ("bare-metal-example", include_str!("../../../../cluster-configs/bare-metal-example.toml")),
        ] {
            match parse(text) {
                Ok(t) => assert_eq!(parse(&toml::to_string(&t).unwrap()).unwrap(), t, "{name} survives writing"),
                Err(problems) => panic!("{name}: {problems:#?}"),
            }
        }
    }

    #[test]
    fn syntax_problems_name_the_line() {
        let (text, problems) = changed("lease_ms", "leese_ms");
        assert_eq!(problems[0].line, line_with(&text, "leese_ms"));
        assert!(problems[0].what.contains("leese_ms") && problems[0].fix.contains("spelling"), "{problems:?}");
        let (text, problems) = changed("http_listen = \"127.0.0.1:8082\"", "http_listen = \"edge:8082\"");
        assert_eq!(problems[0].line, line_with(&text, "edge:8082"));
        let (_, problems) = changed("domain = ", "# domain = ");
        assert!(problems[0].what.contains("domain"), "{problems:?}");
        assert!(parse("\u{0}").is_err() && parse("").is_err() && parse("[[node]]\n[[node]]").is_err());
    }

    #[test]
    fn meaning_problems_name_the_line() {
        let (text, problems) = changed("id = 2", "id = 1");
        assert_eq!(problems.len(), 1, "{problems:?}");
        let second = text.match_indices("id = 1").map(|(i, _)| i).find(|i| *i > text.find("name = \"edge1\"").unwrap());
        assert_eq!(problems[0].line, line_of(&text, second.unwrap()));
        let (text, problems) = changed("lease_ms = 300", "lease_ms = 3");
        assert_eq!(problems[0].line, line_with(&text, "lease_ms = 3"));
    }
}
