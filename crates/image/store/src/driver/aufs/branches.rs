//! The options that aufs is mounted with.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One page: the kernel cuts what is longer.
const MAX_DATA: usize = 4096;
/// Where aufs keeps its inode numbers.
const REST: &str = "dio,xino=/dev/shm/aufs.xino";

/// Options of the mount, and of the remounts after it that append what had no room.
pub(super) fn options(
    top: &Path,
    writable: bool,
    lowers: &[PathBuf],
    further: &[String],
    label: &str,
) -> Vec<Vec<u8>> {
    let mut rest = format!(",{REST}");
    for option in further {
        rest.push(',');
        rest.push_str(option);
    }
    let context = match label {
        "" => String::new(),
        label => format!(",context=\"{label}\""),
    };
    let mut first = [b"br:", top.as_os_str().as_bytes()].concat();
    first.extend_from_slice(if writable { b"=rw" } else { b"=ro+wh" });
    let room = MAX_DATA.saturating_sub(rest.len() + context.len() + 1);
    let branches = lowers
        .iter()
        .map(|lower| [b":", lower.as_os_str().as_bytes(), b"=ro+wh"].concat());
    let mut appended = Vec::new();
    for branch in branches {
        // They are in order: after the first without room all are appended.
        match appended.is_empty() && first.len() + branch.len() <= room {
            true => first.extend_from_slice(&branch),
            false => appended.push([b"append", branch.as_slice(), context.as_bytes()].concat()),
        }
    }
    first.extend_from_slice(rest.as_bytes());
    first.extend_from_slice(context.as_bytes());
    let mut all = vec![first];
    all.append(&mut appended);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(options: &[Vec<u8>]) -> Vec<&str> {
        options
            .iter()
            .map(|option| std::str::from_utf8(option).unwrap())
            .collect()
    }

    #[test]
    fn layers_below_are_branches_in_order() {
        let lowers = ["/d/b".into(), "/d/a".into()];
        let made = options(
            Path::new("/d/c"),
            true,
            &lowers,
            &["dirperm1".into()],
            "l,1",
        );
        assert_eq!(
            text(&made),
            [
                "br:/d/c=rw:/d/b=ro+wh:/d/a=ro+wh,dio,xino=/dev/shm/aufs.xino,dirperm1,context=\"l,1\""
            ]
        );
        let made = options(Path::new("/d/c"), false, &[], &[], "");
        assert_eq!(text(&made), ["br:/d/c=ro+wh,dio,xino=/dev/shm/aufs.xino"]);
    }

    #[test]
    fn what_has_no_room_in_a_page_is_appended() {
        let lowers: Vec<PathBuf> = (0..100)
            .map(|index| format!("/d/{index:064}").into())
            .collect();
        let made = options(Path::new("/d/top"), true, &lowers, &[], "");
        assert!(made.iter().all(|option| option.len() < MAX_DATA));
        let branches: Vec<_> = text(&made)
            .iter()
            .flat_map(|option| option.split(':').skip(1))
            .filter_map(|branch| branch.split('=').next().map(PathBuf::from))
            .collect();
        assert_eq!(branches[1..], lowers);
        assert!(text(&made)[1].starts_with("append:/d/"));
        assert!(made.len() > 30, "{}", made.len());
    }
}
