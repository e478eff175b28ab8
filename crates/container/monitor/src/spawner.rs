//! The spawner: forks monitors, so that they share one small memory image.
//!
//! It also runs programs for the daemon, which never forks: conmon, where that is configured.
//!
//! It lives as long as the daemon's end of its control socket is open. Monitors do not end with it.

mod program;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_monitor_protocol::{
    Failure, FailureKind, MAX_PACKET, MonitorCgroup, MonitorConfig, Program, SpawnerReply,
    SpawnerRequest, decode, encode,
};
use crioxide_sys::clone::{CloneRequest, Cloned};
use crioxide_sys::fork::{Fork, exit_now, fork};
use crioxide_sys::messages::{receive_packet, send_packet};
use crioxide_sys::reap::{Reaped, reap_next};
use crioxide_sys::signals::SignalDescriptor;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::monitor::run_monitor;

/// Exit code of a spawner, or a monitor, that could not begin.
const FAILED: i32 = 70;

/// Serves the control socket until the daemon closes it. Returns the exit code for the process, which must have one
/// thread.
pub fn run(mut control: OwnedFd) -> i32 {
    let ignored = [
        Signal::CHILD,
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::PIPE,
    ];
    let Ok(signals) = SignalDescriptor::block_and_open(&ignored) else {
        return FAILED;
    };
    let _ = rustix::thread::set_name(c"crioxide-spawn");
    // Its turns are short, and pods wait for them; without this it may get none before the daemon's thread that asked
    // has to wait itself.
    let _ = crioxide_sys::scheduling::go_first();
    // Monitors give their standard descriptors up; the socket must not be one of them.
    match rustix::io::fcntl_dupfd_cloexec(&control, 3) {
        Ok(moved) => control = moved,
        Err(_) => return FAILED,
    }
    let mut programs = Programs::new();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let mut ready = [
            PollFd::new(&control, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return FAILED,
        }
        let (asked, signalled) = (
            !ready[0].revents().is_empty(),
            !ready[1].revents().is_empty(),
        );
        if signalled {
            while let Ok(Some(_)) = signals.read() {}
            while let Ok(Reaped::Child(pid, ending)) = reap_next() {
                if let Some(seq) = programs.remove(&pid.as_raw_nonzero().get()) {
                    let exit_code = ending.shell_code();
                    reply(&control, &SpawnerReply::Ran { seq, exit_code });
                }
            }
        }
        if asked {
            match serve(control, &mut programs, &mut buffer) {
                Some(still_open) => control = still_open,
                None => return 0,
            }
        }
    }
}

/// The programs that run, with the requests they are for.
type Programs = BTreeMap<i32, u64>;

/// Takes one request, by way of `buffer`; gives the socket back unless the daemon is gone.
fn serve(control: OwnedFd, programs: &mut Programs, buffer: &mut [u8]) -> Option<OwnedFd> {
    let packet = match receive_packet(&control, buffer) {
        Ok(packet) if packet.length > 0 => packet,
        _ => return None,
    };
    let Ok(request) = decode::<SpawnerRequest>(&buffer[..packet.length]) else {
        // Without a number there is nobody to answer; the caller notices by its own time limit.
        return Some(control);
    };
    let (seq, made) = match request {
        SpawnerRequest::Spawn { seq, config } => match make_child(config.cgroup.as_ref()) {
            Ok(Child::New { group }) => exit_now(live(control, seq, config, group)),
            other => (seq, other),
        },
        SpawnerRequest::Run { seq, program } => match make_child(program.cgroup.as_ref()) {
            Ok(Child::New { group }) => exit_now(run_program(
                control,
                seq,
                program,
                group,
                packet.descriptors,
            )),
            Ok(Child::Parent { pid }) => {
                programs.insert(pid, seq);
                (seq, Ok(Child::Parent { pid }))
            }
            other => (seq, other),
        },
        SpawnerRequest::Kill { seq } => {
            kill(programs, seq);
            return Some(control);
        }
    };
    if let Err(failure) = made {
        reply(&control, &SpawnerReply::Failed { seq, failure });
    }
    Some(control)
}

/// Ends a program with all of its process group.
fn kill(programs: &Programs, seq: u64) {
    let running = programs.iter().find(|(_, of)| **of == seq);
    if let Some(pid) = running.and_then(|(pid, _)| Pid::from_raw(*pid)) {
        // It leads a group of its own, except for a moment after the fork.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Which process it is after the fork.
enum Child {
    Parent {
        pid: i32,
    },
    /// The new one, and the cgroup it has yet to enter.
    New {
        group: Option<Cgroup>,
    },
}

fn make_child(cgroup: Option<&MonitorCgroup>) -> Result<Child, Failure> {
    let system = |error: &dyn std::error::Error| Failure::from_error(FailureKind::System, error);
    let group = cgroup.map(place_of).transpose()?;
    let plain = group
        .as_ref()
        .filter(|group| matches!(group.path(), CgroupPath::Directory(_)))
        .filter(|_| cgroup.is_some_and(|place| !place.existing));
    let made = match plain {
        None => fork(),
        Some(group) => {
            Cgroup::create(group_layout()?, group.path().clone(), None, None)
                .map_err(|error| system(&error))?;
            match group.clone_target().map_err(|error| system(&error))? {
                None => fork(),
                // On version 2 it is born in its cgroup; moving it there later would wait for the kernel.
                Some(directory) => match CloneRequest::new().into_cgroup(directory.as_fd()).spawn()
                {
                    Ok(Cloned::Child) => return Ok(Child::New { group: None }),
                    Ok(Cloned::Parent { pid, .. }) => Ok(Fork::Parent(pid)),
                    Err(error) => Err(error),
                },
            }
        }
    };
    match made {
        Ok(Fork::Child) => Ok(Child::New { group }),
        Ok(Fork::Parent(pid)) => Ok(Child::Parent {
            pid: pid.as_raw_nonzero().get(),
        }),
        Err(error) => {
            if let Some(group) = plain {
                let _ = group.remove();
            }
            Err(system(&error))
        }
    }
}

/// The life of a program up to its exec, in the child.
fn run_program(
    control: OwnedFd,
    seq: u64,
    program: Program,
    group: Option<Cgroup>,
    descriptors: Vec<OwnedFd>,
) -> i32 {
    // Its number may be one that the program's descriptors are to get.
    let Ok(moved) = rustix::io::fcntl_dupfd_cloexec(&control, program::ASIDE) else {
        return FAILED;
    };
    std::mem::forget(control);
    let control = moved;
    let existing = program.cgroup.as_ref().is_some_and(|place| place.existing);
    let entered = group
        .as_ref()
        .map_or(Ok(()), |group| enter(group, existing));
    let failure = entered.err().unwrap_or_else(|| {
        let path = program.path.clone();
        let error = program::become_it(program, descriptors);
        let text = format!("cannot run `{}`: {error}", path.display());
        Failure::new(FailureKind::System, text)
    });
    reply(&control, &SpawnerReply::Failed { seq, failure });
    FAILED
}

/// The life of a monitor, in the child.
fn live(control: OwnedFd, seq: u64, config: MonitorConfig, group: Option<Cgroup>) -> i32 {
    let existing = config.cgroup.as_ref().is_some_and(|place| place.existing);
    if let Some(group) = &group
        && let Err(failure) = enter(group, existing)
    {
        reply(&control, &SpawnerReply::Failed { seq, failure });
        return FAILED;
    }
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut control = Some(control);
    let ready = || {
        // Closed with the message: the daemon must be able to see the spawner's end even while monitors live.
        if let Some(control) = control.take() {
            reply(&control, &SpawnerReply::Spawned { seq, pid });
        }
    };
    match (run_monitor(config, ready), control) {
        (Err(error), Some(control)) => {
            let failure = Failure::from_error(FailureKind::System, &error);
            reply(&control, &SpawnerReply::Failed { seq, failure });
            FAILED
        }
        (Err(_), None) => FAILED,
        (Ok(()), _) => 0,
    }
}

fn enter(group: &Cgroup, existing: bool) -> Result<(), Failure> {
    let system = |error: &dyn std::error::Error| Failure::from_error(FailureKind::System, error);
    if existing {
        return group.join_accounting().map_err(|error| system(&error));
    }
    if let CgroupPath::Directory(_) = group.path() {
        return group.join().map_err(|error| system(&error));
    }
    // A scope is made around its first process; on version 1 the other hierarchies are joined besides.
    Cgroup::create(group_layout()?, group.path().clone(), None, None)
        .map_err(|error| system(&error))?;
    group.join().map_err(|error| system(&error))
}

fn place_of(cgroup: &MonitorCgroup) -> Result<Cgroup, Failure> {
    let driver = if cgroup.systemd {
        Driver::Systemd
    } else {
        Driver::Cgroupfs
    };
    let path = CgroupPath::parse(&cgroup.path, driver)
        .map_err(|error| Failure::from_error(FailureKind::Protocol, &error))?;
    Ok(Cgroup::at(group_layout()?, path))
}

fn group_layout() -> Result<&'static CgroupLayout, Failure> {
    CgroupLayout::host().map_err(|error| Failure::from_error(FailureKind::System, &error))
}

fn reply(control: &OwnedFd, message: &SpawnerReply) {
    let sent: io::Result<()> = encode(message)
        .map_err(io::Error::other)
        .and_then(|bytes| send_packet(control, &bytes, &[]));
    // The daemon may be gone; its monitors are found again by their sockets.
    drop(sent);
}
