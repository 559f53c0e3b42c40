//! Where a path leads: symbolic links are followed here, and not by the crate that reads the file
//! system, which takes as much memory for the target of one as its inode says that it is long.

use alloc::vec::Vec;

use ext4_view::{Ext4, Ext4Error, Metadata, PathBuf};

use super::Wrong;

/// The longest target of a symbolic link, in bytes, and the most links on the way to a file: those of
/// Linux.
const LINK_MAX: u64 = 4096;
const LINKS_MAX: usize = 40;

/// The path that `path` leads to from the root, which is the one directory to start from, without
/// symbolic links.
pub fn resolve(files: &Ext4, path: &str) -> Result<PathBuf, Wrong> {
    let mut resolved = PathBuf::new("/");
    // The components to come, each after a slash, the next one last.
    let mut rest = Vec::new();
    push(&mut rest, path.as_bytes());
    let mut links = 0;
    while let Some(slash) = rest.iter().rposition(|&byte| byte == b'/') {
        let component = rest.split_off(slash);
        match component.as_slice() {
            b"/." => continue,
            b"/.." => {
                resolved = parent(&resolved);
                continue;
            }
            _ => {}
        }
        let next = PathBuf::try_from([resolved.as_ref(), component.as_slice()].concat())
            .map_err(|_| Ext4Error::MalformedPath)?;
        let metadata = files.symlink_metadata(&next)?;
        if !metadata.is_symlink() {
            resolved = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Ext4Error::TooManySymlinks.into());
        }
        let to = target(files, &next, &metadata)?;
        if to.is_absolute() {
            resolved = PathBuf::new("/");
        }
        push(&mut rest, to.as_ref());
    }
    Ok(resolved)
}

/// What the symbolic link at `path` refers to.
pub fn target(files: &Ext4, path: &PathBuf, metadata: &Metadata) -> Result<PathBuf, Wrong> {
    match metadata.len() {
        0..=LINK_MAX => Ok(files.read_link(path)?),
        _ => Err(Ext4Error::PathTooLong.into()),
    }
}

/// Puts the components of `path` on top of those to come.
fn push(rest: &mut Vec<u8>, path: &[u8]) {
    let components = path.split(|&byte| byte == b'/').rev();
    for component in components.filter(|component| !component.is_empty()) {
        rest.push(b'/');
        rest.extend_from_slice(component);
    }
}

/// The directory that `path` is in.
fn parent(path: &PathBuf) -> PathBuf {
    let bytes: &[u8] = path.as_ref();
    let end = bytes.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    PathBuf::try_from(&bytes[..end.max(1)]).unwrap_or_else(|_| PathBuf::new("/"))
}
