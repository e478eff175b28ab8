//! Deletions in layers: `.wh.<name>` hides a name of the layers below, `.wh..wh..opq` all of a directory.

/// The start of all names that are not files.
pub(super) const PREFIX: &[u8] = b".wh.";

const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'p> {
    /// A file, directory and so on.
    Ordinary,
    /// The directory shows nothing of the layers below.
    Opaque(&'p [&'p [u8]]),
    /// The path of the layers below is not seen.
    Hides(Vec<&'p [u8]>),
    /// Bookkeeping of the old AUFS driver.
    Ignored,
    /// Hides something that is no name.
    Invalid,
}

pub(super) fn meaning<'p>(path: &'p [&'p [u8]]) -> Meaning<'p> {
    let Some((name, directory)) = path.split_last() else {
        return Meaning::Ordinary;
    };
    if *name == OPAQUE {
        return Meaning::Opaque(directory);
    }
    if path[0].starts_with(META_PREFIX) {
        return Meaning::Ignored;
    }
    match name.strip_prefix(PREFIX) {
        None => Meaning::Ordinary,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(hidden) => {
            let mut target = directory.to_vec();
            target.push(hidden);
            Meaning::Hides(target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_deletions_from_files() {
        let of = |path: &'static [&'static [u8]]| meaning(path);
        assert_eq!(of(&[b"etc", b"passwd"]), Meaning::Ordinary);
        assert_eq!(of(&[]), Meaning::Ordinary);
        assert_eq!(
            of(&[b"etc", b".wh.passwd"]),
            Meaning::Hides(vec![b"etc", b"passwd"])
        );
        assert_eq!(of(&[b"etc", b".wh..wh..opq"]), Meaning::Opaque(&[b"etc"]));
        assert_eq!(of(&[b".wh..wh.plnk", b"1.2"]), Meaning::Ignored);
        assert_eq!(of(&[b"etc", b".wh..."]), Meaning::Invalid);
        assert_eq!(of(&[b".wh."]), Meaning::Invalid);
    }
}
