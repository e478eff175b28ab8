//! Out-of-memory kills: whose they are.
//!
//! systemd removes the scope of a container as soon as it is empty. A monitor that had to wait for a processor until then
//! finds no count of the container any more. On version 2 the cgroup around it has counted, too, and what of that belongs
//! to no other container is this one's. On version 1 the kernel has told of lack of memory, besides the removal.

use crioxide_cgroups::Cgroup;
use crioxide_monitor_protocol::Event;
use rustix::event::{PollFd, Timespec, poll};

use crate::exit;
use crate::monitor::Monitor;
use crate::watcher::ContainerKey;

/// What is known of one container's kills.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    /// Of its own cgroup, as read last.
    own: u64,
    /// When it began, on version 2: of the cgroup around it, and of all containers here.
    at_start: Option<(u64, u64)>,
    /// How often the kernel told of lack of memory, on version 1; until the end its news of the removal may be among that.
    told: u64,
    /// It was reported.
    pub(crate) seen: bool,
}

/// How long after its first news of a cgroup's removal the kernel may give the second.
const REMOVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

impl Kills {
    /// Of a container that begins.
    pub(crate) fn begin(cgroup: Option<&Cgroup>, counted: u64) -> Self {
        Self {
            at_start: cgroup
                .and_then(Cgroup::oom_kills_around)
                .map(|around| (around, counted)),
            ..Self::default()
        }
    }

    /// Takes in a reading of the own cgroup; returns how many are new.
    fn take_in(&mut self, own: u64) -> u64 {
        let new = own.saturating_sub(self.own);
        self.own = own.max(self.own);
        new
    }

    /// Kills around it since it began that nobody is known to have had.
    fn unexplained(&self, around: u64, counted: u64) -> u64 {
        let Some((around_then, counted_then)) = self.at_start else {
            return 0;
        };
        let all = around.saturating_sub(around_then);
        all.saturating_sub(counted.saturating_sub(counted_then))
    }
}

impl Monitor {
    /// Looks whether the kernel killed something in the container, and marks it the first time. `false` when its cgroup is
    /// gone, or does not count.
    pub(crate) fn check_oom(&mut self, key: ContainerKey) -> bool {
        let Some(container) = self.containers.get_mut(&key) else {
            return false;
        };
        if let Some((watch, _)) = &container.oom_watch {
            container.kills.told += watch.acknowledge();
        }
        let Some(own) = container.cgroup.as_ref().and_then(Cgroup::oom_kills) else {
            // On version 2 a cgroup that is gone stays ready for ever.
            if container.kills.at_start.is_some() {
                container.stop_watching_oom(&mut self.watcher);
            }
            return false;
        };
        self.kills_counted += container.kills.take_in(own);
        if own > 0 {
            self.mark_oom(key);
        }
        true
    }

    /// The same for a container that has ended, and whose cgroup may be gone.
    pub(crate) fn check_oom_at_end(&mut self, key: ContainerKey) {
        if self.check_oom(key) {
            return;
        }
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let kills = &mut container.kills;
        if let Some((watch, _)) = &container.oom_watch
            && kills.told > 0
        {
            let removal = watch.was_told_of_removal();
            if kills.told == 1 && removal == Some(true) {
                // Was that the removal, or does its news come as well?
                let _ = poll(&mut [PollFd::new(watch, watch.interest())], Some(&REMOVAL));
                kills.told += watch.acknowledge();
            }
            // Where the removal is not watched, it is among the news, as the cgroup is gone.
            kills.told -= u64::from(removal != Some(false));
        }
        let around = container.cgroup.as_ref().and_then(Cgroup::oom_kills_around);
        let lost = match around {
            Some(around) => kills.unexplained(around, self.kills_counted) > 0,
            None => kills.told > 0,
        };
        if lost {
            self.kills_counted += 1;
            self.mark_oom(key);
        }
    }

    fn mark_oom(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut container.kills.seen, true) {
            return;
        }
        exit::mark_oom(&container.bundle, &container.persist_dir);
        let id = container.id.clone();
        self.clients.tell(&Event::Oom { id }, &mut self.watcher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_of_others_explain_what_is_around() {
        let mut first = Kills {
            at_start: Some((3, 0)),
            ..Kills::default()
        };
        let second = Kills {
            at_start: Some((3, 0)),
            ..Kills::default()
        };
        // Both were killed; only the first could be asked.
        let mut counted = first.take_in(1);
        assert_eq!(second.unexplained(5, counted), 1);
        counted += 1;
        assert_eq!(second.unexplained(5, counted), 0);
        // The first was killed again and again, the second not at all.
        counted += first.take_in(4);
        assert_eq!(second.unexplained(8, counted), 0);
        // One that began later.
        let third = Kills {
            at_start: Some((8, counted)),
            ..Kills::default()
        };
        assert_eq!(third.unexplained(8, counted), 0);
        assert_eq!(third.unexplained(9, counted), 1);
        assert_eq!(Kills::default().unexplained(9, counted), 0);
    }
}
