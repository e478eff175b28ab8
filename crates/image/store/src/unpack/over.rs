//! Changes of a container's root, applied to the root of another one.

use super::extract::{ContentSource, Extractor};
use super::{UnpackError, ahead, path};
use crate::tar::{Chunks, Kind, Observer, TarError, TarReader};
use crioxide_files::InRoot;
use std::io::Read;
use std::path::Path;

/// Unpacks the changed files of a container over the files in `root`, then removes those that it had deleted.
///
/// Everything is looked up inside `root`. Devices are refused: a container that may make some can do so itself.
///
/// # Errors
/// What the archive or the file system says. `root` is changed in part then.
pub fn apply_changes(
    root: &Path,
    changed: impl Read + Send,
    deleted: &[String],
) -> Result<(), UnpackError> {
    let (made, _) = ahead::read_ahead(changed, |ahead| make(root, ahead, deleted))
        .map_err(|source| TarError::Read { offset: 0, source })?;
    made
}

fn make(root: &Path, chunks: impl Chunks, deleted: &[String]) -> Result<(), UnpackError> {
    let mut extractor = Extractor::over(InRoot::open(root)?);
    let mut tar = TarReader::new(chunks, Unseen);
    while let Some(entry) = tar.next_entry()? {
        let name = path::clean(&entry.name).ok_or_else(|| UnpackError::escapes(&entry.name))?;
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            return Err(UnpackError::Device {
                name: UnpackError::printable(&entry.name),
            });
        }
        extractor.extract(
            &entry,
            &name,
            &mut Content {
                tar: &mut tar,
                sparse: entry.sparse.is_some(),
            },
        )?;
    }
    for deleted in deleted {
        let name = path::clean(deleted.as_bytes())
            .ok_or_else(|| UnpackError::escapes(deleted.as_bytes()))?;
        extractor.remove(&name)?;
    }
    extractor.finish().map(drop)
}

struct Content<'t, R> {
    tar: &'t mut TarReader<R, Unseen>,
    sparse: bool,
}

impl<R: Chunks> ContentSource for Content<'_, R> {
    fn next(&mut self, limit: u64) -> Result<&[u8], TarError> {
        match self.sparse {
            true => self.tar.raw_content(limit),
            false => self.tar.content(),
        }
    }
}

/// Nothing is kept of the archive.
struct Unseen;

impl Observer for Unseen {
    fn raw(&mut self, _: &[u8]) -> Result<(), std::io::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header
    }

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            let body = if link { "" } else { content };
            let mut header = header(*kind, body.len() as u64);
            // Names as an attacker writes them, which the builder would not take.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if link {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, body.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn changes_replace_and_remove_what_is_there() {
        use tar::EntryType as E;
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("dir/sub")).unwrap();
        for file in ["old", "dir/sub/file", "gone", "kept"] {
            fs::write(root.join(file), file).unwrap();
        }
        let tar = archive(&[
            ("old", E::Regular, "new"),
            ("dir", E::Regular, "a file now"),
            ("fresh/", E::Directory, ""),
            ("fresh/link", E::Symlink, "../kept"),
        ]);
        let deleted = ["/gone".to_owned(), "/never/was".to_owned()];
        apply_changes(&root, &tar[..], &deleted).unwrap();
        assert_eq!(fs::read_to_string(root.join("old")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.join("dir")).unwrap(), "a file now");
        assert_eq!(fs::read_to_string(root.join("fresh/link")).unwrap(), "kept");
        assert!(!root.join("gone").exists() && root.join("kept").exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_leads_out_and_no_device_comes_in() {
        use tar::EntryType as E;
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("root"), place.path().join("outside"));
        for directory in [&root, &outside] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("file"), "untouched").unwrap();
        symlink(&outside, root.join("link")).unwrap();
        for name in ["../outside/file", "a/../../outside/file"] {
            let tar = archive(&[(name, E::Regular, "x")]);
            let refused = apply_changes(&root, &tar[..], &[]).unwrap_err();
            assert!(matches!(refused, UnpackError::Escapes { .. }), "{refused}");
        }
        let tar = archive(&[("disk", E::Block, "")]);
        let refused = apply_changes(&root, &tar[..], &[]).unwrap_err();
        assert!(matches!(refused, UnpackError::Device { .. }), "{refused}");
        // A link is followed inside the root, where it leads to nothing.
        let tar = archive(&[
            ("evil", E::Symlink, "/outside"),
            ("link/file", E::Regular, "x"),
        ]);
        let _ = apply_changes(&root, &tar[..], &[]);
        let _ = apply_changes(&root, &archive(&[])[..], &["/link/file".to_owned()]);
        let refused = apply_changes(&root, &archive(&[])[..], &["../outside/file".to_owned()]);
        assert!(refused.is_err());
        assert_eq!(
            fs::read_to_string(outside.join("file")).unwrap(),
            "untouched"
        );
    }
}
