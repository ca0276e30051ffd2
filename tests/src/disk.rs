//! A disk so small that a test can fill it: a tmpfs of its own. Needs root; it is unmounted when the value is dropped.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system.
pub struct SmallDisk {
    at: PathBuf,
    filler: Option<PathBuf>,
}

impl SmallDisk {
    /// Mounts one at this folder, which is made. `None`, with the reason on standard error, where that is not possible.
    pub fn new(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self { at: at.to_owned(), filler: None }),
            other => {
                eprintln!("SKIPPED: a file system of its own needs root: {other:?}");
                None
            }
        }
    }

    /// Fills what is free, to the last byte.
    pub fn fill(&mut self) {
        let path = self.at.join("filler");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        self.filler = Some(path);
    }

    /// Gives back what [`Self::fill`] took.
    pub fn free(&mut self) {
        if let Some(filler) = self.filler.take() {
            std::fs::remove_file(filler).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
