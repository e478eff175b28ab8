//! From the configuration to the engine with its ports.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use crioxide_cgroups::Driver;
use crioxide_cni::{Cni, CniSettings, FallbackBridge, HostPorts, Preference, Timeouts};
use crioxide_cni_plugins::Builtin;
use crioxide_config::{
    CgroupManager, CheckpointLevel, Config, Detail, HostDefaults, ImageVolumes, ShortNameMode,
    config_template,
};
use crioxide_cri_api::v1;
use crioxide_cri_server::NodeInfo;
use crioxide_engine::{
    Engine, MetricGroup, Settings,
    ports::{Backend, CheckpointSupport, PortError, Ports, Stats},
};
use crioxide_pull::{Images, PinnedImages, PolicySource, PullSettings, Puller};
use crioxide_registry::AuthFiles;
use crioxide_runtime_spec::{
    SpecDefaults,
    capabilities::{self, InheritableSet},
    cgroups_path::CgroupManager as SpecManager,
    devices,
    mounts::fixed::Writability,
    rlimits, sysctls,
};
use crioxide_store::{Collected, StorageConf, Store, StoreOptions};
use tokio::sync::mpsc;

use crate::{
    StartError, Startup,
    adapters::{
        backend::{
            BackendEvent, BackendSettings, ByHandler, HandlerRuntime, Processes, ShimHandler, Shims,
        },
        checkpoints::StoreCheckpoints,
        host::{DeviceSettings, Host, Profiles, SELinux, load_default},
        images::StoreImages,
        namespaced_auth::NamespacedAuth,
        network::CniNetwork,
        records::StoreRecords,
        spares::Spares,
        stats::{GuestStats, KernelStats},
    },
    endpoints::inspect::Inspected,
    facts,
    handlers::{self, search},
};

/// Where CNI results are cached (libcni's default).
const CNI_CACHE: &str = "/var/lib/cni";
/// Names our own address range on a machine without any CNI configuration; unset, such a machine has no pod network.
const FALLBACK_SUBNET: &str = "CRIOXIDE_FALLBACK_SUBNET";
/// Overrides where CNI results are cached, for nodes side by side.
const CNI_CACHE_VARIABLE: &str = "CRIOXIDE_CNI_CACHE_DIR";

/// The parts, put together.
pub(crate) struct Assembled {
    pub(crate) engine: Engine,
    pub(crate) node: NodeInfo,
    pub(crate) events: mpsc::UnboundedReceiver<BackendEvent>,
    pub(crate) puller: Arc<Puller>,
    pub(crate) store: Arc<Store>,
    pub(crate) inspected: Inspected,
}

/// The cgroup manager in force: systemd only where it runs.
fn cgroup_manager(config: &Config) -> CgroupManager {
    if config.runtime.cgroup_manager == CgroupManager::Systemd
        && !Path::new("/run/systemd/system").exists()
    {
        tracing::warn!(
            "systemd does not run on this host: cgroups are managed directly instead (cgroupfs)"
        );
        return CgroupManager::Cgroupfs;
    }
    config.runtime.cgroup_manager
}

/// Makes all parts. Must run inside the tokio runtime.
pub(crate) fn assemble(startup: &Startup) -> Result<Assembled, StartError> {
    let config = &startup.config;
    let manager = cgroup_manager(config);
    let driver = if manager == CgroupManager::Systemd {
        Driver::Systemd
    } else {
        Driver::Cgroupfs
    };
    let store = Arc::new(open_store(config)?);
    let handlers =
        handlers::load(config, manager).map_err(StartError::part("check the runtime handlers"))?;
    let settings = settings(startup, manager, handlers.settings)?;

    let (events, receiver) = mpsc::unbounded_channel();
    let (backend, shims) = backend(startup, driver, handlers.runtimes, handlers.shims, events)?;
    let puller = Puller::new(pull_settings(startup, &store));
    let puller = Arc::new(puller.map_err(StartError::part("read the registries' configuration"))?);
    NamespacedAuth::remove_leftovers(&config.image.namespaced_auth_dir);
    let images = Arc::new(StoreImages {
        store: store.clone(),
        images: Arc::new(Images::new(&puller)),
        puller: puller.clone(),
        pinned: pinned_images(config),
        policy_dir: config.image.signature_policy_dir.clone(),
        auth_dir: config.image.namespaced_auth_dir.clone(),
        engine: OnceLock::new(),
    });
    load_default(&config.runtime.apparmor_profile);
    let plugins = Builtin::default();
    let cni = Arc::new(cni(config, plugins.clone())?);
    let ports = Ports {
        images: images.clone(),
        records: Arc::new(StoreRecords {
            store: store.clone(),
        }),
        network: Arc::new(CniNetwork::new(
            cni.clone(),
            plugins.clone(),
            config.network.cni_status_grace_period,
        )),
        host: Arc::new(Host {
            namespaces_dir: config.runtime.namespaces_dir.clone(),
            driver,
            parents: Arc::default(),
            profiles: Arc::new(profiles(config)),
            selinux: SELinux::new(
                config.runtime.selinux,
                config.runtime.hostnetwork_disable_selinux,
            ),
            devices: Arc::new(device_settings(config)?),
            hooks_dirs: config.runtime.hooks_dir.clone(),
            spares: Spares::start(cni, plugins),
        }),
        backend,
        checkpoints: Arc::new(StoreCheckpoints {
            store: store.clone(),
            driver,
        }),
        stats: stats(config, driver, &store, shims),
    };
    let engine = Engine::new(ports, settings);
    // Set once, right here.
    let _ = images.engine.set(engine.clone());
    let node = NodeInfo {
        cgroup_driver: match manager {
            CgroupManager::Systemd => v1::CgroupDriver::Systemd,
            CgroupManager::Cgroupfs => v1::CgroupDriver::Cgroupfs,
        },
        handlers: handlers.features,
        features: v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: true,
        },
        config: serde_json::json!({"sandboxImage": config.image.pause_image}).to_string(),
    };
    let inspected = inspected(config, driver, &store);
    Ok(Assembled {
        inspected,
        engine,
        node,
        events: receiver,
        puller,
        store,
    })
}

/// Monitors and runtimes; shims only where a handler has one.
fn backend(
    startup: &Startup,
    driver: Driver,
    handlers: BTreeMap<String, HandlerRuntime>,
    shims: BTreeMap<String, ShimHandler>,
    events: mpsc::UnboundedSender<BackendEvent>,
) -> Result<(Arc<dyn Backend>, Option<Shims>), StartError> {
    let config = &startup.config;
    let program = std::env::current_exe().map_err(StartError::part("find our own program"))?;
    let monitor_cgroup = |(name, shim): (&String, &ShimHandler)| {
        let cgroup = shim.monitor_cgroup.clone();
        (name.clone(), cgroup)
    };
    let settings = BackendSettings {
        handlers,
        shims: shims.iter().map(monitor_cgroup).collect(),
        exits_dir: directory(&config.runtime.container_exits_dir)?,
        attach_dir: directory(&config.runtime.container_attach_socket_dir)?,
        driver,
        no_pivot: config.runtime.no_pivot,
        log_size_max: u64::try_from(config.runtime.log_size_max).ok(),
        journal: config.runtime.log_to_journald,
        filter_agents_dir: config
            .api
            .listen
            .parent()
            .unwrap_or(Path::new("/"))
            .join("seccomp"),
        criu: search("criu"),
    };
    let limit = startup.child_open_files;
    let (closing, stdin_closed) = mpsc::unbounded_channel();
    let processes = Processes::start(settings, &program, limit, events.clone(), closing);
    let processes = Arc::new(processes.map_err(StartError::part("start the spawner"))?);
    if shims.is_empty() {
        return Ok((processes, None));
    }
    let shims = Shims::start(shims, processes.clone(), program, events, stdin_closed);
    let known = Some(shims.clone());
    Ok((Arc::new(ByHandler { processes, shims }), known))
}

/// Usage: the kernel's counters, and those of shims where there are any.
fn stats(
    config: &Config,
    driver: Driver,
    store: &Arc<Store>,
    shims: Option<Shims>,
) -> Arc<dyn Stats> {
    let period = u64::try_from(config.stats.collection_period).unwrap_or(0);
    let kernel = KernelStats::new(
        driver,
        store.clone(),
        Duration::from_secs(period),
        open_files_limit(),
    );
    match shims {
        Some(shims) => Arc::new(GuestStats::new(kernel, shims)),
        None => Arc::new(kernel),
    }
}

/// What the inspect endpoints tell of the configuration.
fn inspected(config: &Config, driver: Driver, store: &Store) -> Inspected {
    let all = serde_json::json!([{"container_id": 0, "host_id": 0, "size": u32::MAX}]);
    let image_store = config.root.imagestore.clone().unwrap_or_default();
    Inspected {
        config: config_template(config, &HostDefaults::default(), Detail::Everything),
        info: serde_json::json!({
            "storage_driver": store.driver_name(),
            "storage_image": image_store.to_string_lossy(),
            "storage_root": store.graph_root().to_string_lossy(),
            "cgroup_driver": match driver {
                Driver::Systemd => "systemd",
                Driver::Cgroupfs => "cgroupfs",
            },
            "default_id_mappings": {"uids": all, "gids": all},
        })
        .to_string(),
    }
}

/// How many descriptors the daemon may have.
fn open_files_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

fn open_store(config: &Config) -> Result<Store, StartError> {
    let shared = StorageConf::load()
        .map_err(StartError::part("read storage.conf"))?
        .store_options();
    let root = &config.root;
    let driver = if root.storage_driver.is_empty() {
        shared.driver
    } else {
        root.storage_driver.clone()
    };
    let store = Store::open(StoreOptions {
        graph_root: root.root.clone(),
        run_root: root.runroot.clone(),
        image_store: root.imagestore.clone().or(shared.image_store),
        driver,
        driver_options: root.storage_option.clone(),
        additional_image_stores: shared.additional_image_stores,
        partial_images: shared.partial_images,
    })
    .map_err(StartError::part(format!(
        "open the store at {}",
        root.root.display()
    )))?;
    // Content without a record is left by a crash. It costs space and nothing else: no reason not to start.
    match store.garbage_collect() {
        Ok(collected) if collected == Collected::default() => {}
        Ok(collected) => tracing::info!(
            "Removed {} layers and {} directories that no record mentions",
            collected.layers.len(),
            collected.paths.len()
        ),
        Err(error) => tracing::warn!(
            "Failed to remove what no record mentions: {}",
            crioxide_engine::chain(&error)
        ),
    }
    Ok(store)
}

/// A directory of ours, made if missing.
fn directory(path: &Path) -> Result<PathBuf, StartError> {
    std::fs::create_dir_all(path).map_err(StartError::part(format!(
        "make directory {}",
        path.display()
    )))?;
    Ok(path.to_owned())
}

fn pull_settings(startup: &Startup, store: &Arc<Store>) -> PullSettings {
    let config = &startup.config.image;
    let mut settings = PullSettings::new(store.clone());
    let additional = &startup.config.runtime.additional_artifact_stores;
    settings.additional_artifact_stores.clone_from(additional);
    if let Some(file) = &startup.command_line.registries_conf {
        settings.registries.file.clone_from(file);
    }
    if let Some(dir) = &startup.command_line.registries_conf_dir {
        settings.registries.drop_ins.clone_from(dir);
    }
    settings.short_name_mode = Some(match config.short_name_mode {
        ShortNameMode::Enforcing => crioxide_registry::ShortNameMode::Enforcing,
        ShortNameMode::Disabled => crioxide_registry::ShortNameMode::Disabled,
    });
    if let Some(file) = &config.global_auth_file {
        settings.auth_files = AuthFiles::system().preferring(file.clone());
    }
    if !config.pull_progress_timeout.is_zero() {
        // CRI-O counts from the pull's start: a registry that does not answer makes no progress either.
        settings.client.response_timeout = config.pull_progress_timeout;
        settings.client.progress_timeout = config.pull_progress_timeout;
        settings.disk_timeout = config.pull_progress_timeout;
    }
    if let Some(file) = &config.signature_policy {
        settings.policy = PolicySource::File(file.clone());
    } else if !Path::new("/etc/containers/policy.json").exists() {
        // A machine without any policy is one without the containers packages; CRI-O cannot pull there at all.
        tracing::warn!(
            "There is no /etc/containers/policy.json: images are pulled without a signature policy"
        );
        settings.policy = PolicySource::AcceptAnything;
    }
    let keys = &startup.config.runtime.decryption_keys_path;
    settings.decryption_keys.clone_from(keys);
    if let Some(dir) = &config.big_files_temporary_dir {
        settings.scratch.clone_from(dir);
    }
    settings
}

fn pinned_images(config: &Config) -> PinnedImages {
    let own = std::iter::once(config.image.pause_image.as_str());
    PinnedImages::new(
        config
            .image
            .pinned_images
            .iter()
            .map(String::as_str)
            .chain(own),
    )
}

fn cni(config: &Config, plugins: Builtin) -> Result<Cni, StartError> {
    let cache_dir = std::env::var_os(CNI_CACHE_VARIABLE)
        .map_or_else(|| PathBuf::from(CNI_CACHE), PathBuf::from);
    let fallback = match std::env::var(FALLBACK_SUBNET) {
        Ok(text) => {
            let subnets = text
                .split(',')
                .map(|subnet| subnet.trim().parse())
                .collect::<Result<Vec<_>, _>>();
            let subnets =
                subnets.map_err(StartError::part(format!("read {FALLBACK_SUBNET}={text}")))?;
            Some(FallbackBridge::new(subnets, &cache_dir))
        }
        Err(_) => None,
    };
    Ok(Cni::new(CniSettings {
        conf_dir: config.network.network_dir.clone(),
        plugin_dirs: config.network.plugin_dirs.clone(),
        cache_dir,
        default_network: Some(config.network.cni_default_network.clone())
            .filter(|name| !name.is_empty()),
        builtin: Box::new(plugins),
        preference: Preference::default(),
        fallback_bridge: fallback,
        host_ports: if config.runtime.disable_hostport_mapping {
            HostPorts::Left
        } else {
            HostPorts::Mapped
        },
        timeouts: Timeouts::default(),
    }))
}

fn profiles(config: &Config) -> Profiles {
    Profiles {
        seccomp: config.runtime.seccomp_profile.clone(),
        privileged: config.runtime.privileged_seccomp_profile.clone(),
        of_handler: config
            .runtimes
            .iter()
            .filter_map(|(name, handler)| Some((name.clone(), handler.seccomp_profile.clone()?)))
            .collect(),
        apparmor: config.runtime.apparmor_profile.clone(),
    }
}

fn device_settings(config: &Config) -> Result<DeviceSettings, StartError> {
    let additional = config
        .runtime
        .additional_devices
        .iter()
        .map(|text| devices::parse(text))
        .collect::<Result<_, _>>();
    Ok(DeviceSettings {
        additional: additional.map_err(StartError::part("read additional_devices"))?,
        allowed: config.runtime.allowed_devices.clone(),
        owned_by_user: config.runtime.device_ownership_from_security_context,
        without_host_devices: config
            .runtimes
            .iter()
            .filter(|(_, handler)| handler.privileged_without_host_devices)
            .map(|(name, _)| name.clone())
            .collect(),
    })
}

fn settings(
    startup: &Startup,
    manager: CgroupManager,
    handlers: BTreeMap<String, crioxide_engine::Handler>,
) -> Result<Settings, StartError> {
    let config = &startup.config;
    let runtime = &config.runtime;
    let host = facts::host().map_err(StartError::part("read facts about the node"))?;
    let sysctls = runtime
        .default_sysctls
        .iter()
        .map(|text| sysctls::parse(text))
        .collect::<Result<_, _>>();
    Ok(Settings {
        version: crate::VERSION.to_owned(),
        default_handler: runtime.default_runtime.clone(),
        handlers,
        workloads: config
            .workloads
            .values()
            .map(|workload| {
                let activation = workload.activation_annotation.clone();
                (activation, workload.allowed_annotations.clone())
            })
            .collect(),
        log_dir: config.root.log_dir.to_string_lossy().into_owned(),
        pod_events: runtime.enable_pod_events,
        pod_metrics: MetricGroup::set(config.stats.included_pod_metrics.iter().map(String::as_str)),
        sysctls: sysctls.map_err(StartError::part("read default_sysctls"))?,
        node_hostname: facts::hostname(),
        rejected_mount_sources: runtime.absent_mount_sources_to_reject.clone(),
        infra_cpuset: runtime.infra_ctr_cpuset.clone(),
        pause_image: config.image.pause_image.clone(),
        always_pause: !runtime.drop_infra_ctr,
        image_volumes: match config.image.image_volumes {
            ImageVolumes::Mkdir => crioxide_engine::ImageVolumes::Mkdir,
            ImageVolumes::Bind => crioxide_engine::ImageVolumes::Bind,
            ImageVolumes::Ignore => crioxide_engine::ImageVolumes::Ignore,
        },
        artifact_mounts: config.image.oci_artifact_mount_support,
        checkpoints: checkpoint_support(config),
        cgroups: host.cgroup,
        host,
        defaults: spec_defaults(config, manager)
            .map_err(StartError::part("read the defaults of containers"))?,
    })
}

/// As CRI-O: without criu the configuration's level is none.
fn checkpoint_support(config: &Config) -> CheckpointSupport {
    let level = config.checkpoint_restore.container_level_enabled;
    if level == CheckpointLevel::None {
        tracing::info!("Checkpoint/restore support disabled via configuration");
        return CheckpointSupport::None;
    }
    match search("criu") {
        Some(_) if level == CheckpointLevel::CheckpointOnly => CheckpointSupport::Checkpoint,
        Some(_) => CheckpointSupport::Restore,
        None => {
            tracing::info!("Checkpoint/restore support disabled: CRIU binary not found in $PATH");
            CheckpointSupport::None
        }
    }
}

fn spec_defaults(config: &Config, manager: CgroupManager) -> Result<SpecDefaults, PortError> {
    let runtime = &config.runtime;
    let capabilities = runtime
        .default_capabilities
        .iter()
        .map(|name| capabilities::parse(name, "add"));
    Ok(SpecDefaults {
        capabilities: capabilities.collect::<Result<_, _>>()?,
        inheritable: match runtime.add_inheritable_capabilities {
            true => InheritableSet::AsPermitted,
            false => InheritableSet::Empty,
        },
        env: runtime.default_env.clone(),
        rlimits: runtime
            .default_ulimits
            .iter()
            .map(|text| rlimits::parse(text))
            .collect::<Result<_, _>>()?,
        pids_limit: runtime.pids_limit,
        rootfs: if runtime.read_only {
            Writability::ReadOnly
        } else {
            Writability::ReadWrite
        },
        cgroup_manager: match manager {
            CgroupManager::Systemd => SpecManager::Systemd,
            CgroupManager::Cgroupfs => SpecManager::Cgroupfs,
        },
        ..SpecDefaults::default()
    })
}
