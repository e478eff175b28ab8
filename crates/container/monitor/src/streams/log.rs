//! Container logs in the CRI format.
//!
//! `<local time> <stdout|stderr> <F|P> <content>\n`, one time stamp per read, so that all lines of a read share it.
//! The lines are not copied: a gathered write takes prefix and content from where they are.

mod file;
mod journal;
mod prefix;
mod records;

pub(crate) use file::LogFile;
pub(crate) use journal::{Journal, SOCKET as JOURNAL_SOCKET};
pub(crate) use prefix::Stream;
