//! The process of a container, and the parts of a spec that pods and containers share.

pub mod capabilities;
pub mod command;
pub mod environment;
pub(crate) mod exec_affinity;
pub mod rlimits;
pub mod stop_signal;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Box as ConsoleSize, BoxBuilder as ConsoleSizeBuilder, Linux, Process, Root, Spec, User,
};

use crate::mounts::fixed::Writability;
use crate::spec_error::SpecError;
use crate::user::ResolvedUser;

/// Version of the OCI runtime specification that the specs claim.
///
/// Nothing newer than 1.1 is used, and crun before 1.9 takes only versions in whose text it finds `1.0`, which 1.1.0 is
/// the last one to hold: it refuses 1.2.0 and later with "unknown version specified".
pub const OCI_VERSION: &str = "1.1.0";

/// A spec without the library's sample values.
pub(crate) fn empty_spec(hostname: &str) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_hostname(Some(hostname.to_owned()));
    spec.set_domainname(None)
        .set_hooks(None)
        .set_annotations(None);
    spec
}

/// A `linux` section without the library's sample values.
pub(crate) fn empty_linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_resources(None)
        .set_namespaces(None);
    linux
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_devices(None)
        .set_seccomp(None)
        .set_sysctl(None);
    linux
}

/// A process that runs as root without capabilities.
pub(crate) fn base(arguments: Vec<String>, env: Vec<String>, cwd: PathBuf) -> Process {
    let mut process = Process::default();
    process
        .set_terminal(None)
        .set_no_new_privileges(None)
        .set_rlimits(None)
        .set_capabilities(None);
    process.set_args(Some(arguments));
    process.set_env(Some(env));
    process.set_cwd(cwd);
    process
}

/// The user of a process.
pub(crate) fn user(resolved: &ResolvedUser, umask: Option<u32>) -> User {
    let mut user = User::default();
    user.set_uid(resolved.uid);
    user.set_gid(resolved.gid);
    user.set_umask(umask);
    user.set_additional_gids(
        Some(resolved.additional_gids.clone()).filter(|gids| !gids.is_empty()),
    );
    user
}

pub(crate) fn root(rootfs: &Path, writability: Writability) -> Root {
    let mut root = Root::default();
    root.set_path(rootfs.to_owned());
    root.set_readonly((writability == Writability::ReadOnly).then_some(true));
    root
}

pub(crate) fn console_size(height: u64, width: u64) -> ConsoleSize {
    ConsoleSizeBuilder::default()
        .height(height)
        .width(width)
        .build()
        .expect("every field has a value")
}

/// The kernel's range, checked.
pub(crate) fn oom_score_adj(score: i64) -> Result<i32, SpecError> {
    i32::try_from(score)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or(SpecError::OomScore { value: score })
}
