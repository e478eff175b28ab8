//! The metrics endpoint (`[crio.metrics]`).

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use crioxide_config::{Config, TlsVersion};
use crioxide_engine::ports::PortResult;
use crioxide_files::read_to_string_limited;
use crioxide_metrics::Now;
use crioxide_streaming::{Tls, TlsSettings};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
};

use super::{
    certificate,
    http::{self, Answer},
};
use crate::{StartError, blocking, socket};

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Page {
    collectors: BTreeSet<String>,
    default_runtime: String,
}

/// Opens the configured listeners and serves them from now on. Must run inside the tokio runtime.
pub(crate) async fn start(node: &Config) -> Result<(), StartError> {
    let config = &node.metrics;
    if !config.enable_metrics {
        return Ok(());
    }
    let tls = tls(node)
        .await
        .map_err(StartError::part("serve metrics by HTTPS"))?;
    let collectors = config.metrics_collectors.iter().map(|name| {
        let name = name.strip_prefix("container_runtime_").unwrap_or(name);
        name.strip_prefix("crio_").unwrap_or(name).to_owned()
    });
    let page = Arc::new(Page {
        collectors: collectors.collect(),
        default_runtime: node.runtime.default_runtime.clone(),
    });
    let address = (config.metrics_host.as_str(), config.metrics_port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(StartError::part(format!(
            "listen for metrics on {}:{}",
            address.0, address.1
        )))?;
    match listener.local_addr() {
        Ok(address) => {
            let scheme = if tls.is_some() { "https" } else { "http" };
            tracing::info!("Serving metrics on {scheme}://{address}");
        }
        Err(error) => tracing::info!("Serving metrics: {error}"),
    }
    let served = page.clone();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match &tls {
                    None => serve(stream, &served),
                    Some(tls) => serve_encrypted(stream, tls, &served),
                },
                Err(error) => pause(error).await,
            }
        }
    });
    if let Some(path) = &config.metrics_socket {
        let listener: UnixListener = socket::listen(path)?;
        tracing::info!("Serving metrics on {}", path.display());
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream, &page),
                    Err(error) => pause(error).await,
                }
            }
        });
    }
    Ok(())
}

/// What HTTPS needs, where it is configured.
async fn tls(node: &Config) -> PortResult<Option<Arc<Tls>>> {
    let metrics = &node.metrics;
    let files = metrics
        .metrics_cert
        .clone()
        .zip(metrics.metrics_key.clone());
    let Some((certificate, key)) = files else {
        return Ok(None);
    };
    let settings = TlsSettings {
        server: "metrics",
        certificate,
        key,
        client_authorities: None,
        only_tls13: node.api.tls_min_version == TlsVersion::Tls13,
        cipher_suites: node.api.tls_cipher_suites.clone(),
    };
    let loaded = blocking::run(move || -> PortResult<Tls> {
        certificate::make_if_missing(&settings.certificate, &settings.key)?;
        Ok(Tls::load(settings)?)
    });
    Ok(Some(Arc::new(loaded.await?)))
}

/// A client that is slow to agree keeps nobody waiting.
fn serve_encrypted(stream: TcpStream, tls: &Arc<Tls>, page: &Arc<Page>) {
    let (tls, page) = (tls.clone(), page.clone());
    tokio::spawn(async move {
        match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, &page),
            Ok(Err(error)) => tracing::debug!("No TLS with a client of the metrics: {error}"),
            Err(_) => tracing::debug!("A client of the metrics took too long to agree on TLS"),
        }
    });
}

async fn pause(error: std::io::Error) {
    tracing::warn!("Failed to accept a connection for metrics: {error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, page: &Arc<Page>) {
    let page = page.clone();
    tokio::spawn(http::serve(stream, move |path| {
        let page = page.clone();
        async move {
            match path.as_str() {
                "/metrics" => render(&page).await,
                _ => Answer::not_found(),
            }
        }
    }));
}

async fn render(page: &Page) -> Answer {
    let defunct = match page.collectors.contains("processes_defunct") {
        true => blocking::run(|| Ok::<_, std::io::Error>(defunct_processes())).await,
        false => Ok(0),
    };
    let now = Now {
        defunct_processes: defunct.unwrap_or(0),
        default_runtime: page.default_runtime.clone(),
    };
    let mut text = crioxide_metrics::get().render(&|name| page.collectors.contains(name), &now);
    text.push_str(&own_process());
    Answer::ok(TEXT, text)
}

/// Zombies on the node.
fn defunct_processes() -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let defunct = processes.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy()
            .starts_with(|c: char| c.is_ascii_digit())
            && read_to_string_limited(entry.path().join("stat"), 4096)
                .is_ok_and(|stat| state_of(&stat) == Some('Z'))
    });
    u64::try_from(defunct.count()).unwrap_or(u64::MAX)
}

/// The state in /proc/pid/stat, which comes after a name that may hold anything.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The usual metrics of the process itself, as Prometheus' clients name them.
fn own_process() -> String {
    let own = Path::new("/proc/self");
    let stat = read_to_string_limited(own.join("stat"), 4096).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Fields 14, 15, 20, 22, 23 and 24 of proc(5); the first here is the third there.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second();
    let seconds = |count: u64| count as f64 / ticks as f64;
    let boot = read_to_string_limited("/proc/stat", 1 << 20).unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: f64 = boot
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0);
    let open = fs::read_dir(own.join("fd")).into_iter().flatten().count();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit.current.map_or(f64::INFINITY, |limit| limit as f64);
    let rows: [(&str, &str, &str, f64); 7] = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            seconds(field(14) + field(15)),
        ),
        (
            "process_threads",
            "gauge",
            "Number of threads.",
            field(20) as f64,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            boot + seconds(field(22)),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            field(23) as f64,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            (field(24) * rustix::param::page_size() as u64) as f64,
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            open as f64,
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            limit,
        ),
    ];
    rows.iter()
        .map(|(name, kind, help, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_by_whatever_name() {
        assert_eq!(state_of("7 (a) b) Z 1 2"), Some('Z'));
        assert_eq!(state_of("7 (sh) S 1 2"), Some('S'));
        assert_eq!(state_of(""), None);
    }

    #[test]
    fn tells_of_itself() {
        let text = own_process();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 100_000.0);
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_start_time_seconds ") > 1e9);
    }
}
