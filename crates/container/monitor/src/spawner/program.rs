//! Programs run for the daemon: conmon, which forks itself away from here, and whatever else needs a parent.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use crioxide_monitor_protocol::Program;
use crioxide_sys::descriptors::{CloseMode, close_from, place_at};
use crioxide_sys::exec::execute_path;
use crioxide_sys::signals::reset_to_defaults;

use crate::streams::stdio::null;

/// The first number that a descriptor of the request becomes.
const FIRST: RawFd = 3;
/// The same, when the standard ones are among them.
const FIRST_STANDARD: RawFd = 0;
/// Above every number that a request's descriptors may become.
pub(super) const ASIDE: RawFd = 32;

/// Becomes the program; returns only on failure.
pub(super) fn become_it(program: Program, descriptors: Vec<OwnedFd>) -> io::Error {
    match prepare(program, descriptors) {
        Ok((path, arguments, environment)) => execute_path(&path, &arguments, &environment),
        Err(error) => error,
    }
}

type Command = (CString, Vec<CString>, Vec<CString>);

fn prepare(program: Program, descriptors: Vec<OwnedFd>) -> io::Result<Command> {
    reset_to_defaults();
    let _ = rustix::process::setpgid(None, None);
    std::env::set_current_dir(&program.directory)?;
    let path = CString::new(program.path.into_os_string().into_vec())?;
    let mut arguments = vec![path.clone()];
    for argument in program.args {
        arguments.push(CString::new(argument)?);
    }
    let environment = program
        .env
        .into_iter()
        .map(|(key, value)| CString::new(format!("{key}={value}")))
        .collect::<Result<_, _>>()?;
    let null = null()?;
    for number in 0..2 {
        place_at(&null, number)?;
    }
    // Out of the way first: one descriptor may have the number that another is to get.
    let mut aside = Vec::with_capacity(descriptors.len());
    for descriptor in &descriptors {
        aside.push(rustix::io::fcntl_dupfd_cloexec(descriptor, ASIDE)?);
    }
    close_from(FIRST, CloseMode::OnExec)?;
    let first = match program.stdio {
        true => FIRST_STANDARD,
        false => FIRST,
    };
    for (number, descriptor) in (first..).zip(&aside) {
        place_at(descriptor, number)?;
    }
    // What has such a number is replaced above; its owners must not close it again before the exec.
    for descriptor in descriptors.into_iter().chain(aside) {
        if descriptor.as_raw_fd() < ASIDE {
            std::mem::forget(descriptor);
        }
    }
    Ok((path, arguments, environment))
}
