//! Users and capabilities of processes, which have to be within those that the container starts with.

use std::collections::BTreeSet;

use crioxide_confinement::capabilities::{CapabilityMask, ProcessCapabilities};
use oci_spec::runtime::Process;

use crate::error::Problem;
use crate::mounts::FileOwner;
use crate::wire::Message;

const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
/// Keeps capabilities over a change of user, which any process may ask for.
const KEEP_CAPS: u32 = 1 << 4;

/// What a process of the new container can come to.
#[derive(Debug)]
pub(crate) struct Allowed {
    uid: u32,
    gids: BTreeSet<u32>,
    /// The most that any process can get.
    bounding: u64,
    /// What its first process starts with, as bits.
    held: u64,
    ambient: u64,
    no_new_privileges: bool,
    lsm: Option<String>,
}

impl Allowed {
    pub(crate) fn of(process: &Process) -> Self {
        let user = process.user();
        let sets = process.capabilities().as_ref();
        let sets = sets.map(ProcessCapabilities::parse).unwrap_or_default();
        let mut gids: BTreeSet<u32> = user.additional_gids().iter().flatten().copied().collect();
        gids.insert(user.gid());
        let profiles = [process.apparmor_profile(), process.selinux_label()];
        let lsm = profiles.into_iter().flatten().find(|name| !name.is_empty());
        Self {
            uid: user.uid(),
            gids,
            bounding: sets.bounding.0,
            // Others than root lose theirs when the program is executed.
            held: match user.uid() {
                0 => sets.permitted.0,
                _ => sets.ambient.0,
            },
            ambient: sets.ambient.0,
            no_new_privileges: process.no_new_privileges() == Some(true),
            lsm: lsm.cloned(),
        }
    }

    /// Whether the container may have processes with one of these capabilities.
    pub(crate) fn has(&self, bits: u64) -> bool {
        self.bounding & bits == bits
    }

    /// Whether the container's user can open a file. A program with other rights than its user's is not thought of.
    pub(crate) fn may_open(&self, owner: FileOwner, read: bool, write: bool) -> bool {
        if self.held & DAC_OVERRIDE != 0 || (self.held & DAC_READ_SEARCH != 0 && !write) {
            return true;
        }
        let bits = if owner.uid == self.uid {
            owner.mode >> 6
        } else if self.gids.contains(&owner.gid) {
            owner.mode >> 3
        } else {
            owner.mode
        };
        (!read || bits & 4 != 0) && (!write || bits & 2 != 0)
    }

    /// Checks what a thread is, and gives it the container's own profile.
    pub(crate) fn fit(&self, creds: &mut Message) -> Result<(), Problem> {
        for (field, what) in [(1, "user"), (3, "user"), (5, "user"), (7, "user")] {
            let id = creds.word(field)?;
            if id != self.uid && self.held & SETUID == 0 {
                return Err(self.foreign_id(what, id));
            }
        }
        let mut groups = creds.words(14)?;
        for field in [2, 4, 6, 8] {
            groups.push(creds.word(field)?);
        }
        let foreign = groups.into_iter().find(|group| !self.gids.contains(group));
        if let Some(group) = foreign.filter(|_| self.held & SETGID == 0) {
            return Err(self.foreign_id("group", group));
        }
        let mut within = self.bounding;
        if self.no_new_privileges {
            within &= self.held | self.ambient;
        }
        for (field, what, most) in [
            (9, "inheritable", self.bounding),
            (10, "permitted", within),
            (11, "effective", within),
            (12, "bounding", self.bounding),
            (19, "ambient", within),
        ] {
            let more = bits(&creds.words(field)?)? & !most;
            if more != 0 {
                return Err(format!(
                    "a process has the {what} capabilities {}, which the container does not give",
                    CapabilityMask(more).names().join(", ")
                ));
            }
        }
        if creds.word(13)? & !KEEP_CAPS != 0 && !self.has(SETPCAP) {
            return Err("a process has secure bits, which the container does not give".to_owned());
        }
        if self.no_new_privileges {
            creds.set_number(18, 1);
        }
        match &self.lsm {
            Some(profile) => creds.set_text(15, profile),
            None => creds.remove(15),
        }
        creds.remove(16);
        creds.remove(17);
        Ok(())
    }

    fn foreign_id(&self, what: &str, id: u32) -> Problem {
        format!(
            "a process belongs to {what} {id}, but the container runs as user {} and cannot change it",
            self.uid
        )
    }
}

fn bits(words: &[u32]) -> Result<u64, Problem> {
    match words {
        [] => Ok(0),
        [low] => Ok(u64::from(*low)),
        [low, high] => Ok(u64::from(*low) | u64::from(*high) << 32),
        _ => Err("a set of capabilities is too long".to_owned()),
    }
}
