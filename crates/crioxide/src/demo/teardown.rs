//! Taking a demo away, whatever state it is in. Every step is tried; what fails is told at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use tokio::time::timeout;

use super::{Client, Daemon, Place, Report};

/// How long the daemon may take for one call.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Takes away pods, daemon, processes, mounts, network, cgroups and files.
///
/// # Errors
/// With everything that could not be taken away.
pub(super) async fn take_away(
    report: &mut Report,
    place: &Place,
    daemon: Option<Daemon>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    if let Some(daemon) = daemon {
        let removed = remove_pods(report, place).await;
        failures.note("remove the pods", removed);
        let stopped = report
            .step("stop the daemon", async {
                Ok((daemon.stop().await?, String::new()))
            })
            .await;
        failures.note("", stopped);
    }
    let rest = report
        .step("remove what is left", async {
            Ok((remove_rest(place), String::new()))
        })
        .await;
    failures.0.extend(
        rest.map(|rest| rest.0)
            .unwrap_or_else(|error| vec![format!("{error:#}")]),
    );
    failures.0.extend(left(place));
    if failures.0.is_empty() {
        return report
            .line("\nNothing is left: no process, mount, network, cgroup or file of this demo.");
    }
    report.block("What could not be taken away", &failures.0);
    bail!(
        "{} things could not be taken away; see above",
        failures.0.len()
    )
}

#[derive(Debug, Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, what: &str, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            self.0.push(if what.is_empty() {
                format!("{error:#}")
            } else {
                format!("{what}: {error:#}")
            });
        }
    }
}

async fn remove_pods(report: &mut Report, place: &Place) -> anyhow::Result<()> {
    if std::os::unix::net::UnixStream::connect(place.socket()).is_err() {
        // It never came up, or has ended: what there is of pods goes with the rest.
        return Ok(());
    }
    let mut client = Client::connect(&place.socket()).await?;
    for pod in timeout(CALL_LIMIT, client.pods())
        .await
        .context("no answer in time")??
    {
        report
            .step("StopPodSandbox", async {
                timeout(CALL_LIMIT, client.stop_pod(&pod.id))
                    .await
                    .context("no answer in time")??;
                Ok(((), String::new()))
            })
            .await?;
        report
            .step("RemovePodSandbox", async {
                timeout(CALL_LIMIT, client.remove_pod(&pod.id))
                    .await
                    .context("no answer in time")??;
                Ok(((), String::new()))
            })
            .await?;
    }
    Ok(())
}

/// All that a daemon leaves by design, and all that one which failed left.
fn remove_rest(place: &Place) -> Failures {
    let mut failures = Failures::default();
    // Also ends every process of the demo that is still there.
    let cgroup = place.cgroup().and_then(|cgroup| Ok(cgroup.remove()?));
    failures.note("remove the cgroups", cgroup);
    failures.note("unmount", unmount_all(place.base()));
    let network = crioxide_cni_plugins::remove_network(&place.network(), &place.bridge());
    failures.note("", network.map_err(anyhow::Error::new));
    for (path, value) in &place.forwarding {
        failures.note("", restore_switch(path, value));
    }
    if failures.0.is_empty() {
        // With a mount still there this could reach what is mounted.
        let base = place.base();
        let removed =
            std::fs::remove_dir_all(base).with_context(|| format!("remove `{}`", base.display()));
        failures.note("", removed);
    }
    failures
}

fn restore_switch(path: &Path, before: &str) -> anyhow::Result<()> {
    let what = || format!("set `{}` back to {before}", path.display());
    if std::fs::read_to_string(path).with_context(what)?.trim() == before {
        return Ok(());
    }
    std::fs::write(path, before).with_context(what)
}

/// Unmounts everything at and below `base`, the newest first.
fn unmount_all(base: &Path) -> anyhow::Result<()> {
    for path in mounts(base)?.into_iter().rev() {
        match unmount(&path, UnmountFlags::DETACH) {
            // Gone with the one that it was on.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    Ok(())
}

/// The mount points at and below `base`, oldest first.
fn mounts(base: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points
        .map(PathBuf::from)
        .filter(|path| path.starts_with(base))
        .collect())
}

/// What is still there of the demo.
fn left(place: &Place) -> Vec<String> {
    let mut found: Vec<String> = mounts(place.base())
        .unwrap_or_default()
        .iter()
        .map(|path| format!("mount {}", path.display()))
        .collect();
    if place.base().exists() {
        found.push(format!("directory {}", place.base().display()));
    }
    if Path::new("/sys/class/net").join(place.bridge()).exists() {
        found.push(format!("bridge {}", place.bridge()));
    }
    let cgroups = place
        .cgroup()
        .map(|cgroup| cgroup.directories())
        .unwrap_or_default();
    found.extend(
        cgroups
            .iter()
            .filter(|path| path.exists())
            .map(|path| format!("cgroup {}", path.display())),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_those_at_and_below() {
        let proc = mounts(Path::new("/proc")).unwrap();
        assert_eq!(proc.first().map(PathBuf::as_path), Some(Path::new("/proc")));
        assert!(mounts(Path::new("/pro")).unwrap().is_empty());
    }
}
