//! The daemon's life: restore, answer, end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crioxide_config::{ApiConfig, TlsVersion};
use crioxide_cri_server::{MessageLimits, ServeError, Services, Serving};
use crioxide_engine::Engine;
use crioxide_pull::Puller;
use crioxide_store::{MountError, Store, UnmountForce};
use crioxide_streaming::{StreamServer, StreamSettings, TlsSettings};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    StartError, Startup, VERSION,
    adapters::backend::BackendEvent,
    assemble::{Assembled, assemble},
    lifecycle::{self, CleanShutdown},
    socket,
};

/// Largest message when the configuration says 0 or less, bytes.
const MESSAGE_MAX: usize = 80 << 20;
/// How long calls under way may take to end after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(startup: Startup) -> Result<(), StartError> {
    let config = &startup.config;
    let mut signals = Signals::listen()?;
    let listener = socket::listen(&config.api.listen)?;
    let Assembled {
        engine,
        node,
        events,
        puller,
        store,
        inspected,
    } = assemble(&startup)?;
    let news = tokio::spawn(follow(engine.clone(), events));

    let root = &config.root;
    let rebooted = lifecycle::is_outdated(root.version_file.as_deref(), VERSION);
    let (marker, clean) = CleanShutdown::begin(root.clean_shutdown_file.as_deref())
        .map_err(StartError::part("take away the clean-shutdown marker"))?;
    if !clean {
        tracing::warn!("The last shutdown was not clean; looking at what it left");
    }
    restore(&engine, rebooted && root.internal_wipe).await?;
    for file in [&root.version_file, &root.version_file_persist] {
        lifecycle::record_version(file.as_deref(), VERSION)
            .map_err(StartError::part("record our version"))?;
    }

    let limits = MessageLimits {
        receive: message_limit(config.api.grpc_max_recv_msg_size),
        send: message_limit(config.api.grpc_max_send_msg_size),
    };
    let streams = StreamServer::bind(stream_settings(&config.api))
        .await
        .map_err(StartError::part("start the streaming server"))?;
    let streaming = streams.streaming();
    let streams = tokio::spawn(streams.serve(Arc::new(engine.clone())));
    let (stop, stopped) = oneshot::channel::<()>();
    crate::endpoints::prometheus::start(config).await?;
    let (http, connections) = mpsc::unbounded_channel();
    let inspecting = tokio::spawn(crate::endpoints::inspect::run(
        connections,
        engine.clone(),
        inspected,
    ));
    let services = Services {
        engine: engine.clone(),
        node,
        streaming,
        limits,
        http,
    };
    let mut server = crioxide_cri_server::serve(listener, services, async {
        let _ = stopped.await;
    })
    .map_err(StartError::part("start the thread that serves calls"))?;
    tracing::info!("Serving CRI on {}", config.api.listen.display());
    crate::watchdog::start(config.api.listen.clone())?;
    notify(&[sd_notify::NotifyState::Ready]);
    let ended = loop {
        tokio::select! {
            result = &mut server => break Some(result),
            signal = signals.next() => match signal {
                Asked::Reload => reload(&startup, &puller),
                Asked::Dump => {
                    let own = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                    tracing::info!("SIGUSR1: {} tasks alive", own + server.tasks_alive());
                }
                Asked::Nothing => {}
                Asked::End(name) => {
                    tracing::info!("Got signal {name}; shutting down");
                    break None;
                }
            },
        }
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    let result = match ended {
        Some(result) => result,
        None => finish(server, &engine, stop).await,
    };
    streams.abort();
    news.abort();
    inspecting.abort();
    if let Some(socket) = &config.metrics.metrics_socket {
        let _ = std::fs::remove_file(socket);
    }
    let _ = std::fs::remove_file(&config.api.listen);
    release(store).await;
    if let Some(marker) = marker {
        marker
            .finish()
            .map_err(StartError::part("set the clean-shutdown marker"))?;
    }
    result.map_err(|error| StartError::Serve {
        source: error.into(),
    })
}

/// Has the server end, and waits for the calls under way.
async fn finish(
    mut server: Serving,
    engine: &Engine,
    stop: oneshot::Sender<()>,
) -> Result<(), ServeError> {
    // Their readers would keep the server from ending.
    engine.close_events();
    // The receiver is gone only if the server has ended, which is what we want.
    let _ = stop.send(());
    match tokio::time::timeout(GRACE, &mut server).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(
                "Calls still under way after {} s are cut off",
                GRACE.as_secs()
            );
            Ok(())
        }
    }
}

/// Gives up the store's own mount, as CRI-O does: not while containers have their roots on it, for the next daemon to
/// go on with.
async fn release(store: Arc<Store>) {
    let released = tokio::task::spawn_blocking(move || store.shut_down(UnmountForce::One)).await;
    match released {
        Ok(Ok(()) | Err(MountError::StillMounted { .. } | MountError::Held { .. })) => {}
        Ok(Err(error)) => tracing::warn!(
            "Failed to release the store: {}",
            crioxide_engine::chain(&error)
        ),
        Err(error) => tracing::warn!("Failed to release the store: {error}"),
    }
}

async fn restore(engine: &Engine, wipe: bool) -> Result<(), StartError> {
    if wipe {
        let wiped = engine
            .wipe()
            .await
            .map_err(StartError::part("wipe containers of before the reboot"))?;
        if wiped > 0 {
            tracing::info!("Wiped {wiped} pods and containers of before the reboot");
        }
    }
    let found = engine
        .restore()
        .await
        .map_err(StartError::part("restore pods and containers"))?;
    if found != crioxide_engine::Restored::default() {
        tracing::info!(
            "Restored {} pods and {} containers, removed {} records that a crash cut off",
            found.pods,
            found.containers,
            found.removed
        );
    }
    Ok(())
}

/// Hands on what monitors tell.
async fn follow(engine: Engine, mut events: mpsc::UnboundedReceiver<BackendEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            BackendEvent::Exited(report) => engine.container_exited(report).await,
            BackendEvent::MonitorLost(pod) => engine.monitor_lost(&pod).await,
            BackendEvent::CallHeld(id, call) => engine.call_held(&id, &call),
        }
    }
}

fn stream_settings(api: &ApiConfig) -> StreamSettings {
    let tls = |(certificate, key): (PathBuf, PathBuf)| TlsSettings {
        server: "streaming server",
        certificate,
        key,
        client_authorities: api.stream_tls_ca.clone(),
        only_tls13: api.tls_min_version == TlsVersion::Tls13,
        cipher_suites: api.tls_cipher_suites.clone(),
    };
    // The configuration was checked: with TLS there are both.
    let files = api.stream_tls_cert.clone().zip(api.stream_tls_key.clone());
    StreamSettings {
        address: api.stream_address.clone(),
        port: api.stream_port.0,
        idle_timeout: api.stream_idle_timeout.duration(),
        creation_timeout: StreamSettings::CREATION_TIMEOUT,
        tls: files.filter(|_| api.stream_enable_tls).map(tls),
    }
}

fn message_limit(configured: i64) -> usize {
    usize::try_from(configured)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(MESSAGE_MAX)
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("Failed to notify systemd: {error}");
    }
}

/// Applies the reloadable keys that live in the daemon itself. The first failure stops, as in CRI-O.
fn reload(startup: &Startup, puller: &Puller) {
    tracing::info!("Reloading configuration");
    let applied = (|| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let loaded = startup.source.load()?;
        let level = loaded.config.runtime.log_level;
        startup.log.set_level(level.as_str().parse()?);
        tracing::info!("Set config log_level to \"{}\"", level.as_str());
        startup.log.set_filter(&loaded.config.runtime.log_filter)?;
        puller.set_decryption_keys(&loaded.config.runtime.decryption_keys_path);
        puller.reload_registries()?;
        tracing::info!("Applied new registry configuration");
        Ok(())
    })();
    match applied {
        Ok(()) => tracing::info!("Configuration reload completed"),
        Err(error) => tracing::error!(
            "Unable to reload configuration: {}",
            crioxide_engine::chain(error.as_ref())
        ),
    }
}

/// What a signal asks for.
enum Asked {
    End(&'static str),
    Reload,
    Dump,
    Nothing,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn listen() -> Result<Self, StartError> {
        let on = |kind| signal(kind).map_err(StartError::part("listen for signals"));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
            user1: on(SignalKind::user_defined1())?,
            user2: on(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End("terminated"),
            _ = self.interrupt.recv() => Asked::End("interrupt"),
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::Dump,
            // Forces a garbage collection in CRI-O; there is none here.
            _ = self.user2.recv() => Asked::Nothing,
        }
    }
}
