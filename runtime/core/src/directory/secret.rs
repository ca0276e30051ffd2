//! Text that is never printed: facts of the directory may be keys, and whatever has `Debug` ends in a log some day.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// See the module. On the wire and on disk it is the text itself.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text. It goes to whoever needs it and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Directory, Entry};

    #[test]
    fn neither_command_nor_entry_nor_directory_print_a_secret() {
        let key = "5ec4e7c0ffee";
        let command = Command::AddFact { name: "secret/key".into(), value: key.to_owned().into() };
        let entry = Entry { time_ms: 1, commands: vec![command.clone()] };
        let mut directory = Directory::new(1);
        directory.apply(1, &entry);
        assert_eq!(directory.fact("secret/key"), Some(key));
        for text in [format!("{command:?}"), format!("{entry:#?}"), format!("{directory:?}")] {
            assert!(!text.contains(key), "{text}");
        }
    }
}
