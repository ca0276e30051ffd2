//! Who this node is, how often it has booted, and small named values.
//!
//! These are plain files, written whole (temporary, synced, renamed, folder synced), and not a key-value database: what
//! groups have to remember changes together with their log and stands there, at no extra sync; what is left here is
//! written at a start, a vote or a snapshot of the directory. An embedded database would bring its own journal with its
//! own syncs, background threads and clock, outside of [`Disk`]: neither the crash simulation nor the deterministic
//! simulation could see it.
//!
//! ```text
//!  node.a, node.b:  | magic "oneNODE1" | version u32 | crc32c u32 | node u64 | generation u64 | boot u64 |
//!  meta/<name>:     | magic "oneVALU1" | version u32 | crc32c u32 | length u64 | value |
//! ```
//! Numbers are little-endian; a checksum covers the file with its own four bytes as zero.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::{Incarnation, NodeId};

use super::disk::{Disk, DiskError, read_all, write_atomically};
use super::error::StoreError;

const NODE_MAGIC: &[u8; 8] = b"oneNODE1";
const VALUE_MAGIC: &[u8; 8] = b"oneVALU1";
const VERSION: u32 = 1;
const COPIES: [&str; 2] = ["node.a", "node.b"];
/// Longest value.
pub const VALUE_BYTES_MAX: u64 = 256 << 20;
/// Longest name of a value.
pub const NAME_BYTES_MAX: usize = 64;

/// Who this node is in this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster's generation.
    pub cluster_generation: u32,
    /// This boot: higher than every one before it on this data folder.
    pub incarnation: Incarnation,
}

fn seal(magic: &[u8; 8], rest: &[&[u8]]) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(magic);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = rest.iter().fold(crc32c::crc32c(&head), |crc, part| crc32c::crc32c_append(crc, part));
    head[12..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn unseal(magic: &[u8; 8], bytes: &Bytes) -> Option<Bytes> {
    let (head, rest) = bytes.split_at_checked(16)?;
    (head == seal(magic, &[rest])).then(|| bytes.slice(16..))
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let numbers = [self.node.0, u64::from(self.cluster_generation), self.incarnation.0];
        let rest: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        [&seal(NODE_MAGIC, &[&rest])[..], &rest].concat()
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let rest = unseal(NODE_MAGIC, bytes).filter(|r| r.len() == 24)?;
        let number = |at: usize| Some(u64::from_le_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            node: NodeId(number(0)?),
            cluster_generation: u32::try_from(number(8)?).ok()?,
            incarnation: Incarnation(number(16)?),
        })
    }
}

/// Reads who the folder belongs to, without changing anything. `None` for a new folder.
pub fn identity(disk: &dyn Disk, root: &Path) -> Result<Option<Identity>, StoreError> {
    Ok(read_copies(disk, root)?.map(|(identity, _)| identity))
}

/// The newest copy, and whether both could be read.
fn read_copies(disk: &dyn Disk, root: &Path) -> Result<Option<(Identity, bool)>, StoreError> {
    let (mut found, mut there) = (Vec::new(), 0);
    for name in COPIES {
        match read_all(disk, &root.join(name), 4096) {
            Ok(bytes) => {
                there += 1;
                found.extend(Identity::decode(&bytes));
            }
            Err(DiskError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let both = found.len() == COPIES.len();
    match found.into_iter().max_by_key(|identity| identity.incarnation) {
        Some(newest) => Ok(Some((newest, both))),
        None if there == 0 => Ok(None),
        None => Err(StoreError::IdentityLost(root.join(COPIES[0]))),
    }
}

/// A new boot: counts it, durably, before it returns. Needs the lock on the folder.
/// `first` is the number of the first boot of a new folder: higher than that of any boot whose folder is lost.
pub fn boot(
    disk: &dyn Disk,
    root: &Path,
    node: NodeId,
    cluster_generation: u32,
    first: Incarnation,
) -> Result<Identity, StoreError> {
    let incarnation = match read_copies(disk, root)? {
        None => first,
        Some((found, both)) => {
            if found.node != node || found.cluster_generation != cluster_generation {
                return Err(StoreError::OtherNode {
                    expected: node,
                    found: found.node,
                    found_generation: found.cluster_generation,
                });
            }
            // The copy that cannot be read may be one boot ahead.
            Incarnation(found.incarnation.0 + if both { 1 } else { 2 })
        }
    };
    let identity = Identity { node, cluster_generation, incarnation };
    for name in COPIES {
        write_atomically(disk, root, name, &[&identity.encode()], true)?;
    }
    Ok(identity)
}

/// Small named values, each replaced as a whole.
#[derive(Clone)]
pub struct Meta {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Meta {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, StoreError> {
        disk.create_dir(&dir)?;
        for name in disk.list(&dir)? {
            if name.ends_with(super::disk::TEMPORARY) {
                disk.remove(&dir.join(name))?;
            }
        }
        // A renaming whose folder could not be synced before the last end may be only in memory.
        disk.sync_dir(&dir)?;
        Ok(Self { disk, dir })
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(right) {
            return Err(StoreError::BadName(name.to_owned()));
        }
        Ok(self.dir.join(name))
    }

    /// Sets a value; durable when it returns. After an error it is the old one or, if the folder's sync failed, either.
    pub fn put(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.path(name)?;
        let bytes = value.len() as u64;
        if bytes > VALUE_BYTES_MAX {
            return Err(StoreError::TooLong { bytes, bytes_max: VALUE_BYTES_MAX });
        }
        let length = bytes.to_le_bytes();
        let head = seal(VALUE_MAGIC, &[&length, value]);
        Ok(write_atomically(&*self.disk, &self.dir, name, &[&head, &length, value], true)?)
    }

    /// The value; `None` if it was never set or was removed.
    pub fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(name)?;
        let bytes = match read_all(&*self.disk, &path, VALUE_BYTES_MAX + 24) {
            Ok(bytes) => bytes,
            Err(DiskError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = unseal(VALUE_MAGIC, &bytes).filter(|rest| {
            let length = rest.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
            length == Some(rest.len() as u64 - 8)
        });
        match value {
            Some(rest) => Ok(Some(rest.slice(8..))),
            None => Err(StoreError::Damaged { file: path, offset: 0, what: "value" }),
        }
    }

    /// Removes a value; durable when it returns.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.disk.remove(&self.path(name)?)?;
        Ok(self.disk.sync_dir(&self.dir)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;

    const ROOT: &str = "/d";

    #[test]
    fn every_boot_is_a_higher_incarnation_whenever_the_power_goes() {
        let disk = SimDisk::new();
        let mut last = 0;
        for seed in 0..400 {
            disk.stop_after(seed % 12);
            let booted = boot(&disk, Path::new(ROOT), NodeId(7), 1, Incarnation(1));
            disk.crash(seed);
            if let Ok(identity) = booted {
                assert!(identity.incarnation.0 > last, "seed {seed}");
                last = identity.incarnation.0;
            }
        }
        assert!(last > 100);
    }

    #[test]
    fn one_damaged_copy_does_not_repeat_a_boot_and_two_refuse() {
        let (disk, root) = (SimDisk::new(), Path::new(ROOT));
        boot(&disk, root, NodeId(7), 1, Incarnation(1)).unwrap();
        let second = boot(&disk, root, NodeId(7), 1, Incarnation(1)).unwrap();
        assert_eq!(second.incarnation, Incarnation(2));
        assert!(disk.flip_bit(&root.join("node.a"), 20, 3));
        assert!(boot(&disk, root, NodeId(7), 1, Incarnation(1)).unwrap().incarnation > second.incarnation);
        assert!(matches!(boot(&disk, root, NodeId(8), 1, Incarnation(1)), Err(StoreError::OtherNode { .. })));
        for name in COPIES {
            assert!(disk.flip_bit(&root.join(name), 20, 3));
        }
        assert!(matches!(boot(&disk, root, NodeId(7), 1, Incarnation(1)), Err(StoreError::IdentityLost(_))));
    }

    #[test]
    fn a_value_is_the_old_or_the_new_one_whenever_the_power_goes() {
        let disk = SimDisk::new();
        let (mut durable, mut tried) = (0u64, 0u64);
        for seed in 0..400 {
            let Ok(meta) = Meta::open(disk.shared(), PathBuf::from(ROOT)) else {
                disk.crash(seed);
                continue;
            };
            let found = meta.get("vote").unwrap().map_or(0, |b| u64::from_le_bytes(b[..].try_into().unwrap()));
            assert!(found >= durable && found <= tried, "seed {seed}: {found} not in {durable}..={tried}");
            durable = found;
            tried = found + 1;
            disk.stop_after(seed % 9);
            if meta.put("vote", &tried.to_le_bytes()).is_ok() {
                durable = tried;
            }
            disk.crash(seed);
        }
        assert!(durable > 50);
    }

    #[test]
    fn a_damaged_value_is_told_from_none() {
        let disk = SimDisk::new();
        let meta = Meta::open(disk.shared(), PathBuf::from(ROOT)).unwrap();
        assert_eq!(meta.get("a").unwrap(), None);
        meta.put("a", b"value").unwrap();
        assert!(disk.flip_bit(&Path::new(ROOT).join("a"), 26, 0));
        assert!(matches!(meta.get("a"), Err(StoreError::Damaged { .. })));
        assert!(matches!(meta.put("../a", b""), Err(StoreError::BadName(_))));
        meta.remove("a").unwrap();
        assert_eq!(meta.get("a").unwrap(), None);
    }
}
