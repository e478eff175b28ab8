//! What keeps a container from the node: system call filters, mandatory access control, hidden files.

pub mod apparmor;
pub mod masked_paths;
pub mod seccomp;
pub mod selinux;
