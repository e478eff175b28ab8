//! What the creator does before the first process exists: everything that needs the host's view or rights.

use std::path::PathBuf;

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver, default_device_rules};
use crioxide_confinement::seccomp;
use crioxide_sys::mount_attributes::Reach;
use oci_spec::runtime::{Hook, LinuxNamespaceType, LinuxResources, Spec};
use rustix::thread::UnshareFlags;

use super::{CreateError, CreateRequest, SessionKeyring};
use crate::bundle::Bundle;
use crate::init::InitPlan;
use crate::process::filter_agent::listener_path;
use crate::process::namespaces::NamespacePlan;
use crate::rootfs::devices::{self, NodeMaking};
use crate::rootfs::mounts::cgroup::CgroupView;
use crate::rootfs::mounts::source::{PreparedMount, copy_tree};
use crate::setup_error::at;

/// The configured cgroup path, or the usual one.
pub(crate) fn cgroup_path(id: &str, driver: Driver, bundle: &Bundle) -> String {
    match bundle
        .linux
        .cgroups_path()
        .as_ref()
        .map(|path| path.display().to_string())
    {
        Some(path) if !path.is_empty() => path,
        _ if driver == Driver::Systemd => format!("system.slice:crioxide:{id}"),
        _ => format!("/{id}"),
    }
}

/// Makes the container's cgroup with its limits.
pub(crate) fn cgroup(
    (id, driver): (&str, Driver),
    bundle: &Bundle,
    warnings: &mut Vec<String>,
) -> Result<Cgroup, CreateError> {
    let layout = CgroupLayout::host()?;
    let path = CgroupPath::parse(&cgroup_path(id, driver, bundle), driver)?;
    let resources = with_default_devices(bundle.linux.resources().clone().unwrap_or_default());
    let (cgroup, notes) = Cgroup::create(layout, path, Some(&resources), None)?;
    warnings.extend(
        notes
            .into_iter()
            .map(|note| format!("cgroup {}: {}", note.controller, note.message)),
    );
    Ok(cgroup)
}

/// The rules of the devices that every container has come last, so that nothing takes them away.
fn with_default_devices(mut resources: LinuxResources) -> LinuxResources {
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.extend(default_device_rules());
    resources.set_devices(Some(rules));
    resources
}

/// Opens everything the first process will need.
pub(super) fn plan<'a>(
    request: CreateRequest<'a>,
    bundle: &'a Bundle,
    cgroup: &Cgroup,
    fifo: std::os::fd::OwnedFd,
) -> Result<InitPlan<'a>, CreateError> {
    let linux = &bundle.linux;
    let namespaces = NamespacePlan::open(linux.namespaces().as_deref().unwrap_or_default())?;
    let filter = linux.seccomp().as_ref().map(seccomp::compile).transpose()?;
    let agent = linux.seccomp().as_ref().and_then(listener_path);
    if agent.is_none() && filter.as_ref().is_some_and(seccomp::Filter::notifies) {
        return Err(CreateError::NoFilterAgent);
    }
    let layout = CgroupLayout::host()?;
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let own_mounts = namespaces.is_new(LinuxNamespaceType::Mount);
    let mut plan = InitPlan {
        id: request.id,
        bundle,
        cgroup_to_join: (!layout.is_unified()).then(|| cgroup.clone()),
        cgroup_view: CgroupView::None,
        root: None,
        mounts: Vec::new(),
        devices: None,
        filter,
        console_socket: request.console_socket,
        fifo,
        root_switch: request.root_switch,
        new_keyring: request.keyring == SessionKeyring::New,
        preserved: request.preserved_descriptors,
        pauses_for_hooks: own_mounts
            && host_hooks(&bundle.spec)
                .iter()
                .any(|(_, list)| !list.is_empty()),
        namespaces,
    };
    if !own_mounts {
        return Ok(plan);
    }
    plan.root = Some(copy_tree(
        &bundle.root_path,
        Reach::Recursive,
        bundle.propagation,
    )?);
    for mount in mounts {
        plan.mounts.push(PreparedMount::open(
            mount,
            &bundle.directory,
            bundle.propagation,
        )?);
    }
    // A `/dev` of the host's comes with its devices.
    let binds_dev = mounts.iter().any(|mount| {
        mount
            .destination()
            .components()
            .eq(PathBuf::from("/dev").components())
            && mount
                .options()
                .iter()
                .flatten()
                .any(|option| matches!(option.as_str(), "bind" | "rbind"))
    });
    if !binds_dev {
        let user = plan.namespaces.has(LinuxNamespaceType::User);
        let making = if user {
            NodeMaking::Bind
        } else {
            NodeMaking::Allowed
        };
        plan.devices = Some(devices::prepare(
            linux.devices().as_deref().unwrap_or_default(),
            making,
        )?);
    }
    let private = plan.namespaces.has(LinuxNamespaceType::Cgroup);
    let (unified, directories) = match layout {
        CgroupLayout::Unified(root) => (
            Some(root.as_path()),
            vec![(root.join(cgroup.path().directory()), Vec::new())],
        ),
        CgroupLayout::Legacy { hierarchies, .. } => {
            let own = |mount_point: &PathBuf| mount_point.join(cgroup.path().directory());
            (
                None,
                hierarchies
                    .iter()
                    .map(|h| (own(&h.mount_point), h.controllers.clone()))
                    .collect(),
            )
        }
    };
    plan.cgroup_view = CgroupView::open(mounts, unified, private, &directories)?;
    Ok(plan)
}

/// Makes the time namespace that children of this process enter, with its offsets.
pub(super) fn make_time_namespace(bundle: &Bundle) -> Result<(), CreateError> {
    crioxide_sys::namespaces::unshare(UnshareFlags::NEWTIME)
        .map_err(crate::setup_error::step("make a time namespace"))?;
    let path = "/proc/self/timens_offsets";
    for (clock, offset) in bundle.linux.time_offsets().iter().flatten() {
        let (seconds, nanoseconds) = (
            offset.secs().unwrap_or_default(),
            offset.nanosecs().unwrap_or_default(),
        );
        std::fs::write(path, format!("{clock} {seconds} {nanoseconds}\n"))
            .map_err(at("set a clock offset in", path))?;
    }
    Ok(())
}

/// The hooks that run in the host's namespaces while the container is created.
pub(super) fn host_hooks(spec: &Spec) -> Vec<(&'static str, Vec<Hook>)> {
    let Some(hooks) = spec.hooks() else {
        return Vec::new();
    };
    vec![
        ("prestart", hooks.prestart().clone().unwrap_or_default()),
        (
            "createRuntime",
            hooks.create_runtime().clone().unwrap_or_default(),
        ),
    ]
}
