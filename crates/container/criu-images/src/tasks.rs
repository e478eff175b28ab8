//! Threads: what each has in its core image.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};

use crate::creds::Allowed;
use crate::error::{FitError, Problem};
use crate::image::{Image, named};
use crate::seccomp::Filters;
use crate::wire::{Message, Value};

/// Parts of a core image.
const TASK: u32 = 3;
const IDS: u32 = 4;
const THREAD: u32 = 5;

const DEAD: u32 = 2;
const SYS_NICE: u64 = 1 << 23;
/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`.
const COMMON_POLICIES: &[u32] = &[0, 3, 5];

/// What all threads of the container have in common.
pub(crate) struct Common<'a> {
    pub(crate) allowed: &'a Allowed,
    pub(crate) filters: &'a Filters,
    pub(crate) process: &'a Process,
    /// The set of cgroups that they are put into, by number.
    pub(crate) cgroups: u64,
}

/// The leaders of threads that lead none, by their numbers.
pub(crate) fn leaders(directory: &Path) -> Result<HashMap<u32, u32>, FitError> {
    const NAME: &str = "pstree.img";
    let image = Image::read(directory, NAME)?;
    let read = || -> Result<_, Problem> {
        let mut leaders = HashMap::new();
        for task in &image.messages {
            let leader = task.word(1)?;
            leaders.extend(task.words(5)?.into_iter().map(|thread| (thread, leader)));
        }
        Ok(leaders)
    };
    Ok(read().map_err(named(NAME))?)
}

/// The thread's part of a core image, empty if there is none.
pub(crate) fn thread_of(directory: &Path, name: &str) -> Result<Message, FitError> {
    let mut image = Image::read(directory, name)?;
    let read = || -> Result<_, Problem> { Ok(image.only()?.message(THREAD)?.unwrap_or_default()) };
    let mut read = read;
    Ok(read().map_err(named(name))?)
}

impl Common<'_> {
    /// Fits one core image; `ids` is asked about namespaces that it tells.
    pub(crate) fn fit(
        &self,
        core: &mut Message,
        leader: &Message,
        ids: impl FnOnce(&mut Message) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if let Some(mut own) = core.message(IDS)? {
            ids(&mut own)?;
            core.set_message(IDS, &own);
        }
        let mut dead = false;
        if let Some(mut task) = core.message(TASK)? {
            dead = task.word(1)? == DEAD;
            self.fit_task(&mut task)?;
            core.set_message(TASK, &task);
        }
        match core.message(THREAD)? {
            Some(mut thread) => {
                self.fit_thread(&mut thread, leader)?;
                core.set_message(THREAD, &thread);
                Ok(())
            }
            None if dead => Ok(()),
            None => Err("it does not tell whose the thread is".to_owned()),
        }
    }

    fn fit_task(&self, task: &mut Message) -> Result<(), Problem> {
        // What threads have of their own since.
        task.remove(11);
        task.remove(12);
        task.set_number(9, self.cgroups);
        // Whose login it was.
        task.remove(13);
        match self.process.oom_score_adj() {
            Some(adjustment) => task.set_number(14, i64::from(adjustment).cast_unsigned()),
            None => task.remove(14),
        }
        if let Some(mut limits) = task.message(7)? {
            fit_limits(
                &mut limits,
                self.process.rlimits().as_deref().unwrap_or_default(),
            )?;
            task.set_message(7, &limits);
        }
        Ok(())
    }

    fn fit_thread(&self, thread: &mut Message, leader: &Message) -> Result<(), Problem> {
        thread.set_number(16, self.cgroups);
        let mut creds = thread
            .message(10)?
            .ok_or("it does not tell whose the thread is")?;
        self.allowed.fit(&mut creds)?;
        thread.set_message(10, &creds);
        self.filters.apply(thread, leader)?;
        // A number with its sign in the lowest bit.
        let urgent = thread.word(3)? & 1 == 1 || !COMMON_POLICIES.contains(&thread.word(4)?);
        if urgent && !self.allowed.has(SYS_NICE) {
            return Err(
                "a thread goes before others, which needs CAP_SYS_NICE, and the container does not give that"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// No limit is above what the container starts with.
fn fit_limits(limits: &mut Message, given: &[PosixRlimit]) -> Result<(), Problem> {
    let mut all = limits.messages(1)?;
    for limit in given {
        let Some(own) = all.get_mut(number(limit.typ())) else {
            continue;
        };
        let highest = own.number(2)?.unwrap_or_default().min(limit.hard());
        let current = own.number(1)?.unwrap_or_default().min(highest);
        own.set_number(1, current);
        own.set_number(2, highest);
    }
    limits.set(1, all.iter().map(|limit| Value::Bytes(limit.encode())));
    Ok(())
}

/// As the kernel numbers them.
fn number(kind: PosixRlimitType) -> usize {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}
