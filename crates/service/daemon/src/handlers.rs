//! Runtime handlers: from the configuration to something that can be called.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crioxide_config::{CgroupManager, Config, HandlerType, RuntimeBinary, RuntimeHandler};
use crioxide_cri_api::v1;
use crioxide_engine::{Handler, ports::PortError};
use crioxide_monitor_client::{RuntimeCommand, conmon::ConmonProgram};
use crioxide_oci_runtime_builtin::BuiltinRuntime;
use oci_spec::runtime::Features;

use crate::adapters::backend::{HandlerRuntime, Runtime, ShimHandler, by_command};

/// The `monitor_path` that names our own monitor.
const BUILTIN_MONITOR: &str = "builtin";
/// Least seconds that creating a container may take.
const CREATE_TIMEOUT_MIN: i64 = 30;

/// The usable handlers.
pub(crate) struct Handlers {
    /// For the backend.
    pub(crate) runtimes: BTreeMap<String, HandlerRuntime>,
    /// For the backend of shims.
    pub(crate) shims: BTreeMap<String, ShimHandler>,
    /// For the engine.
    pub(crate) settings: BTreeMap<String, Handler>,
    /// For the Status rpc.
    pub(crate) features: Vec<v1::RuntimeHandler>,
}

/// Checks every handler. A broken one is dropped with a warning, unless it is the default.
pub(crate) fn load(config: &Config, manager: CgroupManager) -> Result<Handlers, PortError> {
    let mut handlers = Handlers {
        runtimes: BTreeMap::new(),
        shims: BTreeMap::new(),
        settings: BTreeMap::new(),
        features: Vec::new(),
    };
    let default = &config.runtime.default_runtime;
    for ((name, handler), probed) in config.runtimes.iter().zip(probe_all(config, manager)) {
        let (loaded, features) = match probed {
            Ok(probed) => probed,
            Err(error) if name == default => {
                return Err(format!("runtime handler {name}: {error}").into());
            }
            Err(error) => {
                tracing::warn!("Runtime handler {name} is ignored: {error}");
                continue;
            }
        };
        let recursive_read_only = features
            .mount_options()
            .iter()
            .flatten()
            .any(|option| option == "rro");
        match loaded {
            Loaded::Runtime(loaded) => drop(handlers.runtimes.insert(name.clone(), loaded)),
            Loaded::Shim(loaded) => drop(handlers.shims.insert(name.clone(), loaded)),
        }
        let user_namespaces = maps_ids(&features);
        let mut settings = engine_handler(handler);
        settings.id_mapped_mounts = user_namespaces;
        handlers.settings.insert(name.clone(), settings);
        let entry = |name: &str| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: recursive_read_only,
                user_namespaces,
            }),
        };
        handlers.features.push(entry(name));
        if name == default {
            handlers.features.push(entry(""));
        }
    }
    if !handlers.settings.contains_key(default) {
        return Err(format!(
            "default_runtime set to \"{default}\", but no runtime entry table [crio.runtime.runtimes.{default}] was found"
        )
        .into());
    }
    Ok(handlers)
}

/// What each handler is and can, in their order. They are asked at the same time: one that hangs until its time is up
/// holds up nobody else.
fn probe_all(
    config: &Config,
    manager: CgroupManager,
) -> Vec<Result<(Loaded, Features), PortError>> {
    std::thread::scope(|scope| {
        let probes: Vec<_> = config
            .runtimes
            .iter()
            .map(|(name, handler)| scope.spawn(|| probe(name, handler, config, manager)))
            .collect();
        probes
            .into_iter()
            .map(|probe| {
                probe
                    .join()
                    .unwrap_or_else(|_| Err("asking it panicked".into()))
            })
            .collect()
    })
}

fn probe(
    name: &str,
    handler: &RuntimeHandler,
    config: &Config,
    manager: CgroupManager,
) -> Result<(Loaded, Features), PortError> {
    let loaded = load_one(name, handler, config, manager)?;
    let features = match &loaded {
        Loaded::Runtime(loaded) => loaded.runtime.features().unwrap_or_default(),
        Loaded::Shim(_) => Features::default(),
    };
    Ok((loaded, features))
}

/// Whether a runtime can map the ids of mounts.
fn maps_ids(features: &Features) -> bool {
    let linux = features.linux().as_ref();
    let extensions = linux.and_then(|linux| linux.mount_extensions().as_ref());
    let id_map = extensions.and_then(|extensions| extensions.idmap().as_ref());
    id_map.is_some_and(|id_map| *id_map.enabled() == Some(true))
}

fn engine_handler(handler: &RuntimeHandler) -> Handler {
    let minimum = handler.minimum_memory_bytes().unwrap_or(0);
    Handler {
        minimum_memory: i64::try_from(minimum).unwrap_or(i64::MAX),
        default_annotations: handler.default_annotations.clone(),
        allowed_annotations: handler.allowed_annotations.clone(),
        platform_programs: handler.platform_runtime_paths.clone(),
        exec_on_first_cpu: handler.exec_cpu_affinity == "first",
        id_mapped_mounts: false,
        foreign: handler.binary != RuntimeBinary::Builtin,
        shim: handler.runtime_type == HandlerType::Vm,
    }
}

/// A handler that can be used.
enum Loaded {
    Runtime(HandlerRuntime),
    Shim(ShimHandler),
}

fn load_one(
    name: &str,
    handler: &RuntimeHandler,
    config: &Config,
    manager: CgroupManager,
) -> Result<Loaded, PortError> {
    match handler.runtime_type {
        HandlerType::Vm => load_shim(name, handler, config).map(Loaded::Shim),
        _ => load_runtime(name, handler, config, manager).map(Loaded::Runtime),
    }
}

/// A containerd shim, which is asked for nothing before there is a container for it.
fn load_shim(
    name: &str,
    handler: &RuntimeHandler,
    config: &Config,
) -> Result<ShimHandler, PortError> {
    let path = match &handler.binary {
        RuntimeBinary::Builtin => return Err("a handler of the type vm needs a shim".into()),
        RuntimeBinary::Path(path) => path.clone(),
        RuntimeBinary::Search(program) => {
            search(program).ok_or_else(|| format!("{program} is not in $PATH"))?
        }
    };
    if !is_program(&path) {
        return Err(format!("{} is not an executable file", path.display()).into());
    }
    if let Some(file) = &handler.runtime_config_path
        && !file.is_file()
    {
        return Err(format!("runtime_config_path {} is no file", file.display()).into());
    }
    tracing::info!("Runtime handler {name}: shim {}", path.display());
    let seconds = handler.container_create_timeout.max(CREATE_TIMEOUT_MIN);
    Ok(ShimHandler {
        path,
        config_path: handler.runtime_config_path.clone(),
        pull_image: handler.runtime_pull_image,
        env: handler.monitor_env.clone(),
        create_timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        sync_log: !handler.no_sync_log,
        monitor_cgroup: handler.monitor_cgroup.clone(),
        debug: matches!(config.runtime.log_level.as_str(), "debug" | "trace"),
    })
}

fn load_runtime(
    name: &str,
    handler: &RuntimeHandler,
    config: &Config,
    manager: CgroupManager,
) -> Result<HandlerRuntime, PortError> {
    let root = handler.runtime_root.clone();
    let systemd_cgroup = manager == CgroupManager::Systemd;
    let (runtime, command): Runtime = match &handler.binary {
        RuntimeBinary::Builtin => (
            Arc::new(BuiltinRuntime::new(&root)),
            RuntimeCommand::Builtin {
                root,
                systemd_cgroup,
            },
        ),
        RuntimeBinary::Path(path) => external(path.clone(), root, systemd_cgroup)?,
        RuntimeBinary::Search(program) => {
            let path = search(program).ok_or_else(|| format!("{program} is not in $PATH"))?;
            external(path, root, systemd_cgroup)?
        }
    };
    let conmon = conmon(name, handler, config)?;
    let version = runtime.version()?;
    match &conmon {
        None => tracing::info!("Runtime handler {name}: {version}, watched by our own monitor"),
        Some(program) => tracing::info!(
            "Runtime handler {name}: {version}, watched by {} ({})",
            conmon_version(&program.path)?,
            program.path.display()
        ),
    }
    if *name == config.runtime.default_runtime && (conmon.is_some() || !is_builtin(handler)) {
        tracing::info!(
            "The configuration names the programs of handler {name}, so they are used. With \
             default_runtime = \"builtin\" and a table [crio.runtime.runtimes.builtin] that says \
             runtime_path = \"builtin\", new pods start and answer probes faster and take less memory; \
             see docs/migration.md"
        );
    }
    for (platform, path) in &handler.platform_runtime_paths {
        if !is_program(Path::new(path)) {
            tracing::warn!(
                "Runtime handler {name}: containers for {platform} cannot be made, as {path} is not an executable file"
            );
        }
    }
    let seconds = handler.container_create_timeout.max(CREATE_TIMEOUT_MIN);
    Ok(HandlerRuntime {
        runtime,
        command,
        create_timeout_ms: u64::try_from(seconds).unwrap_or(0).saturating_mul(1000),
        sync_log: !handler.no_sync_log,
        monitor_cgroup: handler.monitor_cgroup.clone(),
        conmon,
    })
}

fn is_builtin(handler: &RuntimeHandler) -> bool {
    handler.binary == RuntimeBinary::Builtin
}

/// The conmon that the handler names; none means our own monitor.
fn conmon(
    name: &str,
    handler: &RuntimeHandler,
    config: &Config,
) -> Result<Option<ConmonProgram>, PortError> {
    let path = match &handler.monitor_path {
        None => return Ok(None),
        Some(path) if path.as_os_str() == BUILTIN_MONITOR => return Ok(None),
        Some(path) => path,
    };
    let instead = match handler.runtime_type {
        _ if is_builtin(handler) => Some("the built-in runtime brings its own monitor"),
        HandlerType::Pod => Some("our own monitor watches all containers of a pod"),
        _ => None,
    };
    if let Some(reason) = instead {
        tracing::warn!(
            "Runtime handler {name}: {} is not used: {reason}",
            path.display()
        );
        return Ok(None);
    }
    if !is_program(path) {
        return Err(format!("monitor {} is not an executable file", path.display()).into());
    }
    Ok(Some(ConmonProgram {
        path: path.clone(),
        env: handler.monitor_env.clone(),
        log_level: config.runtime.log_level.as_str().to_owned(),
        journald: config.runtime.log_to_journald,
    }))
}

/// What conmon says of itself. A monitor that cannot say it cannot watch containers either.
fn conmon_version(path: &Path) -> Result<String, PortError> {
    let output = std::process::Command::new(path)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next().map(str::trim) {
        Some(line) if output.status.success() && line.starts_with("conmon version") => {
            Ok(line.replacen("conmon version", "conmon", 1))
        }
        _ => Err(format!("{} does not say which conmon it is", path.display()).into()),
    }
}

fn external(path: PathBuf, root: PathBuf, systemd_cgroup: bool) -> Result<Runtime, PortError> {
    if !is_program(&path) {
        return Err(format!("{} is not an executable file", path.display()).into());
    }
    Ok(by_command(path, root, systemd_cgroup))
}

pub(crate) fn search(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
