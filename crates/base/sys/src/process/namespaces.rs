//! Leaving namespaces, and coming back.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Moves the calling thread into new namespaces of the given kinds.
///
/// Only namespace kinds are accepted: `FILES` would make other threads' descriptors a matter of which
/// thread asks, which is why rustix calls this function unsafe.
///
/// # Errors
/// `EINVAL` for anything that is not a namespace, otherwise what unshare(2) reports.
pub fn unshare(kinds: UnshareFlags) -> io::Result<()> {
    if kinds.intersects(UnshareFlags::FILES | UnshareFlags::FS | UnshareFlags::SYSVSEM) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the precondition is that no unshared descriptor table breaks I/O safety; `FILES` was refused above.
    unsafe { rustix::thread::unshare_unsafe(kinds) }?;
    Ok(())
}

/// Kinds of namespaces that one thread of several can leave and return to, with their files in `/proc/thread-self/ns`.
const VISITED: [(UnshareFlags, LinkNameSpaceType, &str); 3] = [
    (UnshareFlags::NEWNET, LinkNameSpaceType::Network, "net"),
    (
        UnshareFlags::NEWIPC,
        LinkNameSpaceType::InterProcessCommunication,
        "ipc",
    ),
    (
        UnshareFlags::NEWUTS,
        LinkNameSpaceType::HostNameAndNISDomainName,
        "uts",
    ),
];

/// A visit of the calling thread to other namespaces: what the thread enters or makes while this value lives, it leaves
/// when the value goes.
///
/// A thread that starts for such work only takes longer than all of the work: it has to be woken on another processor.
#[derive(Debug)]
#[must_use = "the visit ends with this value"]
pub struct Visit {
    home: Vec<(File, LinkNameSpaceType)>,
    /// It belongs to the thread that began it.
    _here: std::marker::PhantomData<*const ()>,
}

impl Visit {
    /// Remembers where the calling thread is, for the kinds that it is about to leave: `NEWNET`, `NEWIPC` and `NEWUTS`.
    ///
    /// # Errors
    /// `/proc` is missing, or no descriptor is to be had.
    pub fn begin(kinds: UnshareFlags) -> io::Result<Self> {
        let kept = VISITED.iter().filter(|(kind, ..)| kinds.contains(*kind));
        let home = kept.map(|(_, kind, file)| {
            let file = File::open(format!("/proc/thread-self/ns/{file}"))?;
            Ok((file, *kind))
        });
        Ok(Self {
            home: home.collect::<io::Result<_>>()?,
            _here: std::marker::PhantomData,
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        for (home, kind) in &self.home {
            if move_into_link_name_space(home.as_fd(), Some(*kind)).is_err() {
                // The thread would carry what it does next into somebody's pod. The kernel refuses only without a few
                // bytes of memory; whoever starts the program again starts it at home.
                std::process::abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_ends_where_it_began_also_after_a_panic() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let at = |file: &str| std::fs::read_link(format!("/proc/thread-self/ns/{file}")).unwrap();
        let here = || ["net", "ipc", "uts"].map(at);
        let home = here();
        let kinds = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        let visit = Visit::begin(kinds).unwrap();
        unshare(kinds).unwrap();
        assert!(here().iter().zip(&home).all(|(there, home)| there != home));
        drop(visit);
        assert_eq!(here(), home);
        let visited = std::panic::catch_unwind(|| {
            let _visit = Visit::begin(kinds).unwrap();
            unshare(kinds).unwrap();
            panic!("on a visit");
        });
        assert!(visited.is_err());
        assert_eq!(here(), home);
    }
}
