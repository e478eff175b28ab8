//! The pause program: the first process of a pod whose containers share a pid namespace.
//!
//! It is a static program of its own without any library, compiled by the build script and embedded here, so that a pod
//! needs no image for it and each instance costs one page or two. It sleeps, reaps the orphans that become its children,
//! and ends on SIGTERM or SIGINT.

#![forbid(unsafe_code)]

/// The program's file.
pub fn pause_binary() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/pause"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn ends_on_sigterm_and_not_before() {
        let mut program = File::from(memfd_create("pause", MemfdFlags::CLOEXEC).unwrap());
        program.write_all(pause_binary()).unwrap();
        // By the path of this process: the child's own copy is close-on-exec.
        let path = format!("/proc/{}/fd/{}", std::process::id(), program.as_raw_fd());
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
    fn program_is_small() {
        assert!(pause_binary().starts_with(b"\x7fELF") && pause_binary().len() < 16 * 1024);
    }
}
