//! PEM files: certificates for everyone, keys for the owner only.

use std::fs;
use std::io::Write;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::PkiError;

/// Longest PEM file that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Writes a file that everyone may read: to a temporary name, synced, then renamed over the old one.
pub fn write_public(path: &Path, pem: &str) -> Result<(), PkiError> {
    write(path, pem, 0o644)
}

/// Writes a file that only its owner may read (0600), in the same way.
pub fn write_private(path: &Path, pem: &str) -> Result<(), PkiError> {
    write(path, pem, 0o600)
}

/// The certificates in a PEM file, in their order.
pub fn read_pem_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    certificates(&read(path)?).map_err(|e| PkiError::Pem(format!("{}: {e}", path.display())))
}

/// The private key in a PEM file.
pub fn read_pem_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    key(&read(path)?).map_err(|e| PkiError::Pem(format!("{}: {e}", path.display())))
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(PkiError::Pem("no certificate".to_owned())),
        Err(e) => Err(PkiError::Pem(e.to_string())),
    }
}

pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| PkiError::Pem(e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let meta = fs::metadata(path).map_err(|e| file(path, &e))?;
    if meta.len() > PEM_BYTES_MAX {
        return Err(PkiError::Pem(format!("{}: longer than {PEM_BYTES_MAX} bytes", path.display())));
    }
    fs::read(path).map_err(|e| file(path, &e))
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<(), PkiError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let written = (|| {
        let mut f = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(temporary)?;
        // The mode above counts only for a new file, and is cut by the umask.
        f.set_permissions(fs::Permissions::from_mode(mode))?;
        f.write_all(pem.as_bytes())?;
        f.sync_all()?;
        fs::rename(temporary, path)?;
        match path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|e: std::io::Error| file(path, &e))
}

fn file(path: &Path, cause: &std::io::Error) -> PkiError {
    PkiError::File { path: path.display().to_string(), cause: cause.to_string() }
}
