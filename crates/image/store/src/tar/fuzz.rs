//! Damaged archives of all forms: the reader ends, tells every byte, and gives nothing that it should not.

use super::{Chunks, Entry, Kind, Observer, TarError, TarReader};
use proptest::prelude::*;
use proptest::sample::Index;
use std::io;
use std::process::Command;
use std::sync::LazyLock;

/// Archives by GNU tar in its forms; none where it is not installed.
static ARCHIVES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let long = "l".repeat(120);
    std::fs::create_dir(path(&long)).unwrap();
    std::fs::write(path(&format!("{long}/{long}")), [7; 700]).unwrap();
    std::os::unix::fs::symlink(&long, path("link")).unwrap();
    let sparse = std::fs::File::create(path("sparse")).unwrap();
    for at in 0..8 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", at << 20).unwrap();
    }
    let forms = [
        "--format=gnu",
        "--format=oldgnu",
        "--format=ustar",
        "--format=v7",
        "--format=posix",
        "--sparse-version=0.1",
        "--sparse-version=0.0",
    ];
    let archive = |form: &&str| {
        let posix = form.starts_with("--sparse").then_some("--format=posix");
        let mut tar = Command::new("tar");
        tar.arg("-cSf-").arg(form).args(posix).arg("-C");
        let mut output = tar.arg(directory.path()).arg(".").output().ok()?;
        output.stdout.truncate(64 << 10);
        // Not every form has sparse files.
        output.status.success().then_some(output.stdout)
    };
    forms.iter().filter_map(archive).collect()
});

/// A change of one byte, by preference in a field of a header.
type Damage = (Index, u8);

fn damaged(archive: &[u8], damage: &[Damage]) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    for (index, value) in damage {
        let at = index.index(bytes.len());
        bytes[at] = *value;
        // A wrong checksum would hide all else.
        if let Some(block) = bytes.as_chunks_mut::<512>().0.get_mut(at / 512) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

/// Gives the archive in small pieces.
struct Pieces<'a>(std::slice::Chunks<'a, u8>);

impl Chunks for Pieces<'_> {
    fn next(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        chunk.clear();
        chunk.extend_from_slice(self.0.next().unwrap_or_default());
        Ok(())
    }
}

#[derive(Default)]
struct Counted(u64);

impl Observer for Counted {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), io::Error> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Reads to the end; bytes of headers and of content.
fn read(archive: &[u8], check: impl Fn(&Entry)) -> Result<u64, TarError> {
    let mut tar = TarReader::new(Pieces(archive.chunks(1000)), Counted::default());
    let mut content = 0;
    while let Some(entry) = tar.next_entry()? {
        check(&entry);
        if entry.sparse.is_none() {
            loop {
                let piece = tar.content()?.len() as u64;
                content += piece;
                if piece == 0 {
                    break;
                }
            }
        }
    }
    Ok(content + tar.observer.0)
}

proptest! {
    #[test]
    fn damaged_archives_end(
        which in any::<Index>(),
        damage in prop::collection::vec(any::<Damage>(), 0..8),
        cut in prop::option::of(any::<Index>()),
    ) {
        if ARCHIVES.is_empty() {
            println!("skipped: tar is not installed");
            return Ok(());
        }
        let mut archive = damaged(which.get::<Vec<u8>>(&ARCHIVES), &damage);
        archive.truncate(cut.map_or(archive.len(), |cut| cut.index(archive.len())));
        let outcome = read(&archive, |entry| {
            assert!(entry.kind == Kind::File || entry.stored == 0);
            assert!(entry.uid != u32::MAX && entry.gid != u32::MAX && entry.mode <= 0o7777);
            assert!(entry.sparse.iter().all(|sparse| sparse.size <= 16 << 40));
            assert!(entry.xattrs.len() <= 1024);
        });
        // Every byte is told, as a header or as content.
        if let Ok(bytes) = outcome {
            prop_assert_eq!(bytes, archive.len() as u64);
        }
    }

    #[test]
    fn rubbish_ends(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&bytes, |_| {});
    }
}
