//! Replacing the program of the calling process.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Executes the file at `path`; returns only on failure, with the reason.
pub fn execute_path(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: `path` and both lists are NUL-terminated and outlive the call; rustix offers execve only as an
    // unsafe, experimental runtime function.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the file open as `program` (an `O_PATH` descriptor is enough); returns only on failure.
///
/// A script whose descriptor is close-on-exec cannot be executed this way (`ENOENT`), see execveat(2).
pub fn execute_descriptor(
    program: impl AsFd,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: the empty path and both lists are NUL-terminated and outlive the call; rustix offers execveat only
    // as an unsafe, experimental runtime function.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_fd().as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// The NULL-terminated array of pointers that exec wants.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fork::{Fork, exit_now, fork};
    use rustix::process::{WaitOptions, waitpid};

    fn exit_code_of(run: impl FnOnce() -> io::Error) -> Option<i32> {
        match fork().unwrap() {
            Fork::Child => exit_now(run().raw_os_error().unwrap_or(255)),
            Fork::Parent(pid) => waitpid(Some(pid), WaitOptions::empty())
                .unwrap()
                .unwrap()
                .1
                .exit_status(),
        }
    }

    #[test]
    fn arguments_and_environment_arrive() {
        let arguments = [c"sh".into(), c"-c".into(), c"exit $CODE".into()];
        let environment = [c"CODE=33".into()];
        assert_eq!(
            exit_code_of(|| execute_path(c"/bin/sh", &arguments, &environment)),
            Some(33)
        );
        let shell = std::fs::File::open("/bin/sh").unwrap();
        assert_eq!(
            exit_code_of(|| execute_descriptor(&shell, &arguments, &environment)),
            Some(33)
        );
    }

    #[test]
    fn missing_program_is_reported() {
        assert_eq!(
            exit_code_of(|| execute_path(c"/does/not/exist", &[], &[])),
            Some(libc::ENOENT)
        );
    }
}
