//! The first process of a container, from its birth to the program it becomes.
//!
//! It is born by `clone3` from the creating process with everything it needs already opened, and works its way
//! inwards: cgroup, namespaces, mounts, root, identity, seccomp. What fails is told to the creator, and the
//! process ends.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use crioxide_cgroups::Cgroup;
use crioxide_confinement::seccomp::Filter;
use crioxide_files::InRoot;
use crioxide_sys::{fork, namespaces as sys_namespaces, scheduling};
use oci_spec::runtime::{LinuxNamespaceType, LinuxPersonalityDomain};
use rustix::process::DumpableBehavior;
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::bundle::Bundle;
use crate::hooks;
use crate::process::console::Console;
use crate::process::identity;
use crate::process::namespaces::{NamespacePlan, join};
use crate::process::setup::{self, ProcessSetup};
use crate::rootfs::devices::{self, PreparedDevice};
use crate::rootfs::masks;
use crate::rootfs::mounts::attach::{AttachContext, AttachedMount, attach};
use crate::rootfs::mounts::cgroup::CgroupView;
use crate::rootfs::mounts::source::PreparedMount;
use crate::rootfs::private_proc::PrivateProc;
use crate::rootfs::root_switch::{self, RootSwitch};
use crate::setup_error::{SetupError, chain, step};
use crate::sync::{FromInit, SyncSocket};

/// Everything the first process needs, prepared by the creator.
#[derive(Debug)]
pub(crate) struct InitPlan<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Bundle,
    pub(crate) namespaces: NamespacePlan,
    /// To be joined by the process itself (version 1); on version 2 it is born inside.
    pub(crate) cgroup_to_join: Option<Cgroup>,
    pub(crate) cgroup_view: CgroupView,
    /// Copy of the root file system's mount; `None` when an existing mount namespace is joined.
    pub(crate) root: Option<OwnedFd>,
    pub(crate) mounts: Vec<PreparedMount>,
    pub(crate) devices: Option<Vec<PreparedDevice>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) console_socket: Option<OwnedFd>,
    pub(crate) fifo: OwnedFd,
    pub(crate) root_switch: RootSwitch,
    pub(crate) new_keyring: bool,
    pub(crate) preserved: u32,
    /// Whether the creator runs hooks when all mounts are in place.
    pub(crate) pauses_for_hooks: bool,
}

impl InitPlan<'_> {
    /// All descriptors that are still needed.
    fn descriptors(&self, sync: &SyncSocket) -> Vec<RawFd> {
        let mut needed = vec![self.fifo.as_raw_fd(), sync.as_raw_fd()];
        needed.extend(self.root.iter().map(AsRawFd::as_raw_fd));
        needed.extend(self.console_socket.iter().map(AsRawFd::as_raw_fd));
        needed.extend(
            self.namespaces
                .joined
                .iter()
                .map(|namespace| namespace.fd.as_raw_fd()),
        );
        needed.extend(
            self.mounts
                .iter()
                .filter_map(|mount| mount.tree.as_ref())
                .map(AsRawFd::as_raw_fd),
        );
        needed.extend(
            self.devices
                .iter()
                .flatten()
                .filter_map(PreparedDevice::descriptor),
        );
        needed.extend(self.cgroup_view.descriptors());
        needed
    }
}

/// Runs the first process. Never returns to the creator's code.
pub(crate) fn run(plan: InitPlan<'_>, sync: &SyncSocket) -> ! {
    let error = match prepare_and_execute(plan, sync) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // If the creator is gone there is nobody to tell.
    let _ = sync.tell(&FromInit::Failed(chain(&error)));
    fork::exit_now(1)
}

/// There is no value of this: success means that another program runs.
enum Never {}

fn prepare_and_execute(mut plan: InitPlan<'_>, sync: &SyncSocket) -> Result<Never, SetupError> {
    // Until another program runs here, nobody in the container may look into this process or borrow its executable.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("protect the process from the container"))?;
    setup::close_others(plan.preserved, &plan.descriptors(sync))?;
    enter_namespaces(&mut plan, sync)?;
    rustix::process::setsid().map_err(step("start a session"))?;
    let linux = &plan.bundle.linux;
    let sysctls = linux.sysctl().clone().unwrap_or_default();
    let process = &plan.bundle.process;
    let proc = (setup::needs_private_proc(process) || !sysctls.is_empty())
        .then(PrivateProc::open)
        .transpose()?;
    for (name, value) in sysctls {
        proc.as_ref()
            .map_or(Ok(()), |proc| proc.set_sysctl(&name, &value))?;
    }
    set_names(&plan)?;
    let console = make_root(&mut plan, sync)?;
    // Its directories are in place; no descriptor but those needed to the end stays open from here on.
    plan.cgroup_view = CgroupView::None;
    if let Some(console) = console {
        console.take_as_stdio()?;
    }
    identity::use_own_null();
    set_personality(&plan)?;

    let setup = ProcessSetup {
        process,
        filter: plan.filter.as_ref(),
        session_keyring: plan.new_keyring.then_some(plan.id),
        private_proc: proc.as_ref(),
    };
    let command = setup.prepare(sync)?;
    sync.tell(&FromInit::Ready)?;
    sync.wait()?;
    wait_for_start(&plan.fifo)?;
    let at_start = plan
        .bundle
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.start_container().clone());
    if let Err(error) = hooks::run_all(
        "startContainer",
        &at_start.unwrap_or_default(),
        &hook_state(&plan, "created"),
        Path::new("/"),
    ) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{}", chain(&error));
        fork::exit_now(1);
    }
    setup.execute(&command)
}

/// Joins and makes what the process was not born with.
fn enter_namespaces(plan: &mut InitPlan<'_>, sync: &SyncSocket) -> Result<(), SetupError> {
    if let Some(cgroup) = plan.cgroup_to_join.take() {
        cgroup.join().map_err(|error| SetupError::Path {
            action: "join cgroup",
            path: error.directory.clone(),
            source: error.source,
        })?;
    }
    if plan.namespaces.is_new(LinuxNamespaceType::User) {
        // The creator writes the id maps meanwhile.
        sync.wait()?;
    }
    let in_user_namespace = plan.namespaces.has(LinuxNamespaceType::User);
    // Others than these were joined before the birth.
    for namespace in &plan.namespaces.joined {
        if !matches!(
            namespace.kind,
            LinuxNamespaceType::User | LinuxNamespaceType::Pid | LinuxNamespaceType::Time
        ) {
            join(namespace)?;
        }
    }
    plan.namespaces.joined.clear();
    if in_user_namespace {
        become_namespace_root()?;
    }
    if plan.namespaces.is_new(LinuxNamespaceType::Cgroup) {
        sys_namespaces::unshare(UnshareFlags::NEWCGROUP)
            .map_err(step("make a cgroup namespace"))?;
    }
    Ok(())
}

/// User 0 of the new user namespace: until now the process's ids have no meaning in it.
pub(crate) fn become_namespace_root() -> Result<(), SetupError> {
    let (gid, uid) = (rustix::fs::Gid::ROOT, rustix::fs::Uid::ROOT);
    // Refused where the maps were written without privilege; then there are no groups to give up either.
    let _ = set_thread_groups(&[]);
    set_thread_res_gid(gid, gid, gid).map_err(step("become group 0 of the user namespace"))?;
    set_thread_res_uid(uid, uid, uid).map_err(step("become user 0 of the user namespace"))
}

fn set_names(plan: &InitPlan<'_>) -> Result<(), SetupError> {
    if let Some(name) = plan
        .bundle
        .spec
        .hostname()
        .as_ref()
        .filter(|name| !name.is_empty())
    {
        rustix::system::sethostname(name.as_bytes()).map_err(step("set the host name"))?;
    }
    if let Some(name) = plan
        .bundle
        .spec
        .domainname()
        .as_ref()
        .filter(|name| !name.is_empty())
    {
        rustix::system::setdomainname(name.as_bytes()).map_err(step("set the domain name"))?;
    }
    Ok(())
}

/// Puts all mounts in place and makes the container's file system the root.
fn make_root(plan: &mut InitPlan<'_>, sync: &SyncSocket) -> Result<Option<Console>, SetupError> {
    let wants_terminal = plan.bundle.process.terminal().unwrap_or(false);
    let Some(tree) = plan.root.take() else {
        let root = InRoot::open("/")?;
        return open_console(plan, wants_terminal, None, &root);
    };
    root_switch::attach_root(&tree)?;
    let own = rustix::io::dup(&tree).map_err(step("keep the root"))?;
    let root = InRoot::from_fd(own, &plan.bundle.root_path);
    let linux = &plan.bundle.linux;
    let label = linux
        .mount_label()
        .clone()
        .filter(|label| !label.is_empty());
    let context = AttachContext {
        root: &root,
        label: label.as_deref(),
        cgroup_view: &plan.cgroup_view,
    };
    let attached = std::mem::take(&mut plan.mounts)
        .into_iter()
        .map(|mount| attach(mount, &context))
        .collect::<Result<Vec<AttachedMount>, _>>()?;
    if let Some(devices) = plan.devices.take() {
        devices::make_all(&root, &devices)?;
    }
    let devpts = attached
        .iter()
        .rev()
        .find(|mount| mount.kind == "devpts")
        .map(|mount| mount.mount.as_fd());
    let console = open_console(plan, wants_terminal, devpts, &root)?;
    if plan.pauses_for_hooks {
        sync.tell(&FromInit::Mounted)?;
        sync.wait()?;
    }
    let in_container = plan
        .bundle
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.create_container().clone());
    let state = hook_state(plan, "creating");
    hooks::run_all(
        "createContainer",
        &in_container.unwrap_or_default(),
        &state,
        &plan.bundle.directory,
    )?;
    masks::make_read_only(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    masks::mask(
        &root,
        linux.masked_paths().as_deref().unwrap_or_default(),
        label.as_deref(),
    )?;
    attached.iter().try_for_each(AttachedMount::finish)?;
    root_switch::switch(&tree, plan.root_switch)?;
    root_switch::finish(&tree, plan.bundle.propagation, plan.bundle.root_read_only)?;
    Ok(console)
}

/// The state document for hooks that run inside, where the process has the pid that the container sees.
fn hook_state(plan: &InitPlan<'_>, status: &str) -> Vec<u8> {
    hooks::state_document(
        plan.id,
        status,
        rustix::process::getpid().as_raw_nonzero().get(),
        plan.bundle,
    )
}

fn open_console(
    plan: &mut InitPlan<'_>,
    wanted: bool,
    devpts: Option<std::os::fd::BorrowedFd<'_>>,
    root: &InRoot,
) -> Result<Option<Console>, SetupError> {
    let Some(socket) = plan.console_socket.take().filter(|_| wanted) else {
        return Ok(None);
    };
    let console = Console::open(devpts, root)?;
    console.configure(&plan.bundle.process)?;
    console.mount_as_console(root)?;
    console.send(socket.as_fd())?;
    Ok(Some(console))
}

fn set_personality(plan: &InitPlan<'_>) -> Result<(), SetupError> {
    let Some(personality) = plan.bundle.linux.personality() else {
        return Ok(());
    };
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    scheduling::set_personality(domain).map_err(step("set the personality"))
}

/// Waits until somebody starts the container. The fifo is open for both directions here, so opening it does not wait
/// and only a start writes to it.
fn wait_for_start(fifo: &OwnedFd) -> Result<(), SetupError> {
    let mut byte = [0];
    rustix::io::retry_on_intr(|| rustix::io::read(fifo, &mut byte))
        .map_err(step("wait for the start"))?;
    Ok(())
}
