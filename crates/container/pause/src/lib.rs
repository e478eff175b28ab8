//! The pause program: the first process of a pod whose containers share a pid namespace.
//!
//! It is a static program of its own without any library, compiled by the build script and embedded here, so that a pod
//! needs no image for it and each instance costs one page or two. It sleeps, reaps the orphans that become its children,
//! and ends on SIGTERM or SIGINT.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// The program's file.
pub fn pause_binary() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/pause"))
}

/// The program in a sealed memory file, to be executed by descriptor: nothing that runs can change it.
///
/// # Errors
/// What memfd_create(2), write(2) or fcntl(2) report.
pub fn pause_descriptor() -> io::Result<OwnedFd> {
    let file = memfd_create("pause", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = pause_binary();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn ends_on_sigterm_and_not_before() {
        let descriptor = pause_descriptor().unwrap();
        // By the path of this process: the child's own copy is close-on-exec.
        let path = format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd());
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
            let mut child = Command::new(&path).spawn().unwrap();
            let pid = rustix::process::Pid::from_child(&child);
            // Until it sits in rt_sigtimedwait a signal would still have its default action.
            let waiting = if cfg!(target_arch = "x86_64") {
                "128 "
            } else {
                "137 "
            };
            let call = format!("/proc/{}/syscall", child.id());
            while !std::fs::read_to_string(&call).unwrap().starts_with(waiting) {
                assert!(child.try_wait().unwrap().is_none());
                std::thread::yield_now();
            }
            rustix::process::kill_process(pid, signal).unwrap();
            let ended = child.wait().unwrap();
            assert_eq!((ended.code(), ended.signal()), (Some(0), None));
        }
    }

    #[test]
    fn program_is_small_and_sealed() {
        assert!(pause_binary().starts_with(b"\x7fELF") && pause_binary().len() < 16 * 1024);
        let descriptor = pause_descriptor().unwrap();
        assert_eq!(
            rustix::io::write(&descriptor, b"x"),
            Err(rustix::io::Errno::PERM)
        );
    }
}
