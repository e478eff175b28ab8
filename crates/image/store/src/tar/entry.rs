//! One entry of an archive, extension headers applied.

use super::sparse::Extent;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// Seconds since 1970, which may be negative, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// An entry. Names are bytes as they stand in the archive, neither cleaned nor checked.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes that follow the header in the archive, 0 for all but files.
    pub(crate) stored: u64,
    pub(crate) modified: Time,
    pub(crate) accessed: Option<Time>,
    pub(crate) device: (u32, u32),
    /// Without the `SCHILY.xattr.` in front.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) extents: Vec<Extent>,
    /// Size of the whole file, holes included.
    pub(crate) size: u64,
}
