//! The container's process: born in its cgroup and namespaces, confined, and another program at last.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use crioxide_sys::clone::{CloneRequest, Cloned};
use crioxide_sys::exec::execute_path;
use crioxide_sys::fork::exit_now;
use crioxide_sys::reap::wait_for;
use crioxide_sys::seccomp::{FilterFlags, Instruction, load_filter};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::stdio::dup2_stdout;
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags,
    move_into_link_name_space, move_into_thread_name_spaces, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use super::cgroup::Cgroups;
use super::host::Host;
use super::pod::{Pod, join};
use super::root;

/// What a container keeps by default.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::KILL);

/// Starts `sleep` in the pod and waits until it is that program.
pub(super) fn start(
    host: &Host,
    folder: &Path,
    pins: &[PathBuf],
    cgroups: &Cgroups,
) -> Result<(Pid, OwnedFd)> {
    let (trouble, report) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let request = CloneRequest::new().namespaces(UnshareFlags::NEWPID | UnshareFlags::NEWNS);
    match born_in(request, cgroups)
        .spawn()
        .context("clone the container")?
    {
        Cloned::Child => {
            let outcome = become_container(host, folder, pins, cgroups);
            fail(&report, &outcome)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(report);
            expect_silence(trouble)?;
            Ok((pid, pidfd))
        }
    }
}

/// Runs `echo ok` in the pod and returns what it printed.
pub(super) fn exec(host: &Host, pod: &Pod) -> Result<Vec<u8>> {
    let (trouble, report) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let own = File::open("/proc/self/ns/pid").context("open the own namespace")?;
    // Concerns children only: the next one is born in the pod's.
    move_into_thread_name_spaces(pod.pidfd.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .context("aim at the pod")?;
    let born = born_in(CloneRequest::new(), &pod.cgroups).spawn();
    if let Ok(Cloned::Child) = born {
        let outcome = become_command(host, pod, &stdout);
        fail(&report, &outcome);
    }
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .context("come back")?;
    let Cloned::Parent { pid, .. } = born.context("clone a command")? else {
        bail!("the child does not come here");
    };
    drop((report, stdout));
    let mut printed = Vec::new();
    File::from(output)
        .read_to_end(&mut printed)
        .context("read its output")?;
    expect_silence(trouble)?;
    wait_for(pid).context("wait for it")?;
    Ok(printed)
}

fn born_in<'a>(request: CloneRequest<'a>, cgroups: &'a Cgroups) -> CloneRequest<'a> {
    match cgroups.directory() {
        Some(directory) => request.into_cgroup(directory),
        None => request,
    }
}

fn become_container(host: &Host, folder: &Path, pins: &[PathBuf], cgroups: &Cgroups) -> Result<()> {
    enter_cgroups(cgroups)?;
    join(pins)?;
    root::enter(folder)?;
    confine(&host.filter)?;
    execute(&["sleep", "3600"])
}

fn become_command(host: &Host, pod: &Pod, stdout: &OwnedFd) -> Result<()> {
    enter_cgroups(&pod.cgroups)?;
    let kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    move_into_thread_name_spaces(pod.pidfd.as_fd(), kinds).context("enter the pod")?;
    dup2_stdout(stdout).context("set stdout")?;
    confine(&host.filter)?;
    execute(&["echo", "ok"])
}

/// Version 1: the process moves itself, which spares the kernel a grace period.
fn enter_cgroups(cgroups: &Cgroups) -> Result<()> {
    for path in &cgroups.v1 {
        std::fs::write(path.join("tasks"), "0")
            .with_context(|| format!("enter `{}`", path.display()))?;
    }
    Ok(())
}

fn confine(filter: &[Instruction]) -> Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // The kernel may know fewer than this program does.
        let _ = remove_capability_from_bounding_set(capability);
    }
    // While it still may without: afterwards only `no_new_privs` permits it.
    set_no_new_privs(true).context("set no_new_privs")?;
    load_filter(filter, FilterFlags::default()).context("load the filter")?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: KEPT,
            permitted: KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )
    .context("set the capabilities")
}

fn execute(words: &[&str]) -> Result<()> {
    let arguments: Vec<CString> = words
        .iter()
        .map(|word| CString::new(*word))
        .collect::<Result<_, _>>()?;
    let environment = [c"PATH=/bin".to_owned()];
    Err(execute_path(c"/bin/busybox", &arguments, &environment)).context("execute busybox")
}

/// Tells the parent why there is no container, and ends.
fn fail(report: &OwnedFd, outcome: &Result<()>) -> ! {
    if let (Err(error), Ok(report)) = (outcome, report.try_clone()) {
        // Nobody is left to hear of a failure to report a failure.
        let _ = write!(File::from(report), "{error:#}");
    }
    exit_now(1)
}

fn expect_silence(trouble: OwnedFd) -> Result<()> {
    let mut reason = String::new();
    File::from(trouble)
        .read_to_string(&mut reason)
        .context("hear from the child")?;
    ensure!(reason.is_empty(), "in the container: {reason}");
    Ok(())
}
