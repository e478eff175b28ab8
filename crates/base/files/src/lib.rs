//! Files as a daemon needs them: replaced atomically, read with a limit, looked up inside an untrusted tree, shared with
//! other processes under record locks, and FIFOs.
//!
//! Every error names the path. Nothing here follows a symlink out of an [`InRoot`].
#![forbid(unsafe_code)]

mod atomic;
mod fifo;
mod in_root;
mod in_root_dirs;
mod limited;
mod lock_file;
mod record_lock;

pub use atomic::{
    AtomicOptions, AtomicWriteError, Sync, atomic_write, random_suffix, remove_temporaries,
    write_new,
};
pub use fifo::{Existing, FifoEnd, FifoError, make_fifo, open_fifo};
pub use in_root::{InRoot, InRootError};
pub use limited::{ReadLimitedError, read_limited, read_to_string_limited};
pub use lock_file::{LockFile, LockFileError};
pub use record_lock::{
    Hold, LockAccess, ReadGuard, RecordLock, RecordLockError, Token, WriteGuard,
};
