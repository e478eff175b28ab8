//! The container's own seccomp filter, put below whatever filters the processes have given themselves.
//!
//! Filters only ever take away, so those of the checkpoint may stay. They form chains, from a thread's newest filter to
//! its oldest; the container's becomes the oldest of all.

use std::path::Path;

use crioxide_confinement::seccomp;
use oci_spec::runtime::LinuxSeccomp;

use crate::error::{FitError, Problem};
use crate::image::{Image, named};
use crate::wire::{Message, Value};

pub(crate) const NAME: &str = "seccomp.img";
const MARK: u32 = 0x6441_3049;
const FLAG_LOG: u64 = 1 << 1;
/// Far more than any process has.
const MAX_FILTERS: usize = 4096;

/// Filters by their numbers, as threads refer to them.
#[derive(Debug)]
pub(crate) struct Filters {
    list: Vec<Message>,
    /// The container's.
    own: Option<u32>,
}

/// `SECCOMP_MODE_*`.
const STRICT: u32 = 1;
const FILTER: u32 = 2;

impl Filters {
    /// Reads the checkpoint's and puts the container's below them.
    pub(crate) fn fit(directory: &Path, profile: Option<&LinuxSeccomp>) -> Result<Self, FitError> {
        let mut list = match directory.join(NAME).exists() {
            true => {
                let mut image = Image::read(directory, NAME)?;
                let read = || -> Result<Vec<Message>, Problem> {
                    match image.messages.is_empty() {
                        true => Ok(Vec::new()),
                        false => image.only()?.messages(1),
                    }
                };
                chained(read).map_err(named(NAME))?
            }
            false => Vec::new(),
        };
        let Some(profile) = profile else {
            return Ok(Self { list, own: None });
        };
        let own = compiled(profile)?;
        let number = list.len();
        let same = |filter: &Message| filter.bytes(1) == own.bytes(1);
        for filter in &mut list {
            if !filter.has(2) && !same(filter) {
                filter.set_number(2, number as u64);
            }
        }
        list.push(own);
        Ok(Self {
            list,
            own: u32::try_from(number).ok(),
        })
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), FitError> {
        let mut all = Message::default();
        let filters = self.list.iter();
        all.set(1, filters.map(|filter| Value::Bytes(filter.encode())));
        Image::new(MARK, vec![all]).write(directory, NAME)
    }

    /// Gives a thread its chain. criu writes the chain that all threads share down once, for their leader.
    pub(crate) fn apply(&self, thread: &mut Message, leader: &Message) -> Result<(), Problem> {
        let chain_of = |thread: &Message| -> Result<Option<u32>, Problem> {
            match thread.word(11)? {
                FILTER => match thread.word(12)? {
                    number if (number as usize) < self.list.len() => Ok(Some(number)),
                    number => Err(format!("there is no seccomp filter {number}")),
                },
                _ => Ok(None),
            }
        };
        if thread.word(11)? == STRICT {
            return Ok(());
        }
        let chain = match (chain_of(thread)?, chain_of(leader)?) {
            (Some(chain), _) | (None, Some(chain)) => Some(chain),
            (None, None) => self.own,
        };
        match chain {
            Some(number) => {
                thread.set_number(11, FILTER.into());
                thread.set_number(12, number.into());
            }
            None => {
                thread.remove(11);
                thread.remove(12);
            }
        }
        Ok(())
    }
}

/// The checkpoint's filters, whose chains lead to lower numbers only and so have an end.
fn chained(read: impl FnOnce() -> Result<Vec<Message>, Problem>) -> Result<Vec<Message>, Problem> {
    let mut list = read()?;
    if list.len() > MAX_FILTERS {
        return Err(format!("it has {} filters", list.len()));
    }
    for (at, filter) in list.iter_mut().enumerate() {
        if filter.has(2) && filter.word(2)? as usize >= at {
            return Err("a filter does not come after the one before it".to_owned());
        }
        // To synchronise the threads is done with; each gets its chain.
        let flags = filter.word(3)? & (FLAG_LOG as u32);
        filter.set_number(3, flags.into());
    }
    Ok(list)
}

fn compiled(profile: &LinuxSeccomp) -> Result<Message, FitError> {
    let filter = seccomp::compile(profile)?;
    if filter.notifies() {
        return Err(FitError::Unsupported {
            what: "a seccomp profile that notifies",
        });
    }
    let mut program = Vec::with_capacity(filter.program().len() * 8);
    for instruction in filter.program() {
        program.extend(instruction.code.to_ne_bytes());
        program.extend([instruction.jump_true, instruction.jump_false]);
        program.extend(instruction.operand.to_ne_bytes());
    }
    let mut message = Message::default();
    message.set(1, Some(Value::Bytes(program)));
    if filter.is_logged() {
        message.set_number(3, FLAG_LOG);
    }
    Ok(message)
}
