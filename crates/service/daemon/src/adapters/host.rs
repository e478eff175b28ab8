//! Namespaces, files, mounts and cgroups of pods on the real host.

mod apparmor;
mod confinement;
mod devices;
mod hooks;
mod mount_source;
mod relabel;
mod root_directories;
mod sandbox_files;
mod selinux;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use async_trait::async_trait;
use crioxide_cgroups::Driver;
use crioxide_engine::ports::{
    ConfinementRequest, DevicesRequest, HooksRequest, LabelRequest, Labels, MissingSource,
    NamespacePaths, NamespaceRequest, Owner, PortError, PortResult, RecordDirs, SandboxFiles,
    SandboxHost, SandboxPaths,
};
use crioxide_names::PodId;
use crioxide_namespaces::{IdMaps, IdRange, Kind, create_pinned_with_users, pin_path};
use crioxide_runtime_spec::{Confinement, Devices, mounts::volumes::VolumeSource};

use super::spares::Spares;
use crate::{blocking, pod_cgroup::OwnParents};

pub(crate) use apparmor::load_default;
pub(crate) use confinement::Profiles;
pub(crate) use relabel::file as label_file;
pub(crate) use selinux::SELinux;

/// The host side of pods.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespaces_dir: PathBuf,
    pub(crate) driver: Driver,
    pub(crate) parents: Arc<OwnParents>,
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) selinux: SELinux,
    pub(crate) devices: Arc<devices::DeviceSettings>,
    pub(crate) hooks_dirs: Vec<PathBuf>,
    pub(crate) spares: Arc<Spares>,
}

pub(crate) use devices::DeviceSettings;

/// Pins are named after the pod in the shape of CRI-O's, so that they are found again without a record of them.
pub(crate) fn pin_name(pod: &PodId) -> String {
    let hex = pod.as_str();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    )
}

/// Whether sysctls have to be set before the pod's interface is made, which takes them over.
fn is_for_devices(sysctls: &[(String, String)]) -> bool {
    let per_device = |key: &str| {
        let mut parts = key.split(['.', '/']);
        parts.next() == Some("net") && matches!(parts.nth(1), Some("conf" | "neigh"))
    };
    sysctls.iter().any(|(key, _)| per_device(key))
}

#[async_trait]
impl SandboxHost for Host {
    async fn create_namespaces(
        &self,
        pod: &PodId,
        request: &NamespaceRequest,
    ) -> PortResult<NamespacePaths> {
        let (dir, name, request) = (self.namespaces_dir.clone(), pin_name(pod), request.clone());
        let spares = self.spares.clone();
        blocking::run(move || {
            let pin = pin_path(&dir, Kind::Net, &name);
            let fits = request.net && request.user.is_none() && !is_for_devices(&request.sysctls);
            let wanted = crioxide_namespaces::NamespaceRequest {
                net: request.net,
                spare_net: fits.then(|| spares.take(&pin)).flatten(),
                ipc: request.ipc,
                uts: request.uts,
                hostname: request.uts.then_some(request.hostname),
                sysctls: request.sysctls,
            };
            let mut pinned = match &request.user {
                None => crioxide_namespaces::create_pinned(&dir, &name, &wanted)
                    .inspect_err(|_| spares.forget(&pin))?,
                Some(user) => {
                    let maps = IdMaps {
                        uids: id_ranges(&user.uids),
                        gids: id_ranges(&user.gids),
                    };
                    // The running program, even if its file was replaced meanwhile.
                    let mut helper = Command::new("/proc/self/exe");
                    helper.arg("namespaces");
                    create_pinned_with_users(&dir, &name, &wanted, &maps, helper)?
                }
            };
            if !request.net {
                // As CRI-O: port forwarding and statistics find the host's network by the same kind of path.
                let (kind, own) = (Kind::Net, Path::new("/proc/self/ns/net"));
                match crioxide_namespaces::pin_existing(&dir, &name, kind, own) {
                    Ok(path) => pinned.net = Some(path),
                    Err(error) => {
                        for path in [pinned.ipc, pinned.uts, pinned.user].iter().flatten() {
                            // The error that matters is the first one.
                            let _ = crioxide_namespaces::remove_pin(path);
                        }
                        return Err(error.into());
                    }
                }
            }
            let PinnedPaths {
                net,
                ipc,
                uts,
                user,
            } = pinned.into();
            Ok::<_, PortError>(NamespacePaths {
                net,
                ipc,
                uts,
                user,
                pid: None,
            })
        })
        .await
    }

    async fn create_pause_root(
        &self,
        dirs: &RecordDirs,
        owner: Option<Owner>,
    ) -> PortResult<PathBuf> {
        let root = dirs.run.join("pause");
        blocking::run(move || sandbox_files::create_pause_root(&root, owner)).await
    }

    async fn remove_namespaces(&self, pod: &PodId, known: &NamespacePaths) -> PortResult<()> {
        let (dir, name, known) = (self.namespaces_dir.clone(), pin_name(pod), known.clone());
        let spares = self.spares.clone();
        blocking::run(move || {
            spares.forget(&pin_path(&dir, Kind::Net, &name));
            crioxide_namespaces::remove_pinned(&dir, &name)?;
            // Pins that CRI-O made have names of their own.
            for path in [known.net, known.ipc, known.uts, known.user, known.pid]
                .into_iter()
                .flatten()
            {
                if path.starts_with(&dir) {
                    crioxide_namespaces::remove_pin(&path)?;
                }
            }
            Ok::<_, PortError>(())
        })
        .await
    }

    async fn create_files(
        &self,
        dirs: &RecordDirs,
        files: SandboxFiles,
    ) -> PortResult<SandboxPaths> {
        let run = dirs.run.clone();
        blocking::run(move || sandbox_files::create(&run, &files)).await
    }

    async fn remove_files(&self, dirs: &RecordDirs) -> PortResult<()> {
        let run = dirs.run.clone();
        blocking::run(move || sandbox_files::remove(&run)).await
    }

    async fn prepare_cgroup(&self, dirs: &RecordDirs, parent: &str) -> PortResult<()> {
        let (parents, driver) = (self.parents.clone(), self.driver);
        let (run, parent) = (dirs.run.clone(), parent.to_owned());
        blocking::run(move || parents.claim(driver, &run, &parent)).await
    }

    async fn release_cgroup(&self, dirs: &RecordDirs, parent: &str) -> PortResult<()> {
        let (parents, driver, run) = (self.parents.clone(), self.driver, dirs.run.clone());
        let parent = parent.to_owned();
        blocking::run(move || {
            crate::pod_cgroup::release_sandbox(driver, &run, &parent)?;
            parents.release(driver, &run)
        })
        .await
    }

    async fn create_log_dir(&self, path: &str) -> PortResult<()> {
        let path = PathBuf::from(path);
        blocking::run(move || {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path);
            made.map_err(|error| {
                PortError::from(format!(
                    "cannot make log directory {}: {error}",
                    path.display()
                ))
            })
        })
        .await
    }

    async fn mount_source(&self, path: &str, missing: MissingSource) -> PortResult<VolumeSource> {
        let path = PathBuf::from(path);
        blocking::run(move || mount_source::find(&path, missing)).await
    }

    async fn check_root(&self, rootfs: &Path) -> PortResult<()> {
        let rootfs = rootfs.to_owned();
        blocking::run(move || root_directories::check(&rootfs)).await
    }

    async fn create_in_root(
        &self,
        rootfs: &Path,
        directories: Vec<String>,
        owner: Option<Owner>,
    ) -> PortResult<()> {
        let rootfs = rootfs.to_owned();
        blocking::run(move || root_directories::create(&rootfs, &directories, owner)).await
    }

    async fn labels(&self, request: LabelRequest) -> PortResult<Labels> {
        self.selinux.labels(&request)
    }

    fn keep_label(&self, mount_label: &str) {
        self.selinux.keep(mount_label);
    }

    fn release_label(&self, mount_label: &str) {
        self.selinux.release(mount_label);
    }

    async fn relabel(&self, volume: &Path, label: &str) -> PortResult<()> {
        let (volume, label) = (volume.to_owned(), label.to_owned());
        blocking::run(move || relabel::volume(&volume, &label)).await
    }

    async fn confinement(&self, request: ConfinementRequest) -> PortResult<Confinement> {
        let profiles = self.profiles.clone();
        blocking::run(move || profiles.choose(&request)).await
    }

    async fn devices(&self, request: DevicesRequest) -> PortResult<Devices> {
        let settings = self.devices.clone();
        if !request.privileged
            && request.requested.is_empty()
            && request.annotated.is_empty()
            && settings.additional.is_empty()
        {
            return Ok(Devices::default());
        }
        blocking::run(move || settings.find(&request)).await
    }

    async fn hooks(&self, request: HooksRequest) -> PortResult<Option<oci_spec::runtime::Hooks>> {
        let dirs = self.hooks_dirs.clone();
        blocking::run(move || hooks::choose(&dirs, &request)).await
    }
}

fn id_ranges(mappings: &[oci_spec::runtime::LinuxIdMapping]) -> Vec<IdRange> {
    let range = |mapping: &oci_spec::runtime::LinuxIdMapping| IdRange {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        count: mapping.size(),
    };
    mappings.iter().map(range).collect()
}

/// The pins by kind.
struct PinnedPaths {
    net: Option<PathBuf>,
    ipc: Option<PathBuf>,
    uts: Option<PathBuf>,
    user: Option<PathBuf>,
}

impl From<crioxide_namespaces::PinnedNamespaces> for PinnedPaths {
    fn from(pinned: crioxide_namespaces::PinnedNamespaces) -> Self {
        Self {
            net: pinned.net,
            ipc: pinned.ipc,
            uts: pinned.uts,
            user: pinned.user,
        }
    }
}
