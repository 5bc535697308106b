//! Files with secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::certificate::invalid;

/// The most that a file with a key may have, in bytes.
const LARGEST: u64 = 16 << 10;

/// Reads a file to which nobody but this program's user, or root, has access.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Something that is no file might keep whoever opens it waiting.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    // Of what was opened: the name may already mean another file.
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(invalid("this is no file".to_owned()));
    }
    let denied = |reason: String| io::Error::new(io::ErrorKind::PermissionDenied, reason);
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        return Err(denied(format!(
            "the key belongs to the user {}, who could change it; make a copy of your own",
            found.uid()
        )));
    }
    if found.mode() & 0o077 != 0 {
        return Err(denied(format!(
            "others than the owner have access to the key (mode {:03o}); if nobody has read it, \
             chmod 600 will do, otherwise make a new one",
            found.mode() & 0o777
        )));
    }
    if found.len() > LARGEST {
        return Err(invalid("this is too long for a key".to_owned()));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST).unwrap_or(0)));
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// Writes a file to which nobody but this program's user has access, if there is none of
/// this name. It gets its name when it is complete.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Unlike a rename, this fails if somebody else was faster.
        fs::hard_link(&temporary, path)
    })();
    let removed = fs::remove_file(&temporary);
    written?;
    removed?;
    // Without this, the name may be gone after a loss of power.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        let reason = "this is no name of a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}-{number}.new", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Says of an error which file it is about.
pub(super) fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Bytes as a text in PEM. Their number is a multiple of three, so that nothing is padded.
pub(super) fn pem(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    debug_assert!(bytes.len().is_multiple_of(3) && bytes.len() <= 48, "one line");
    // Enough, so that no copy is left behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for three in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[(bits >> shift & 63) as usize]));
        }
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
