//! Under systemd, by the unit that is shipped: a restart of the service is none of its pods.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::ContainerState;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};

use crate::scene::{Scene, possible};

const SHIPPED: &str = include_str!("../../../../../contrib/systemd/crioxide.service");

#[tokio::test(flavor = "multi_thread")]
async fn pods_survive_a_restart_of_the_unit() -> Result<()> {
    skip_unless!(possible(), systemd());
    let mut scene = Scene::start().await?;
    scene.node.stop().await?;
    let unit = Unit::write(&scene.node)?;
    let node = &mut scene.node;
    // Returns when the daemon said that it is ready.
    unit.systemctl("start")?;
    let pod = node.pod("service");
    let script = "trap 'exit 7' TERM; while :; do sleep 1 & wait $!; done";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (_, id) = node.run(&pod, &container, "").await?;
    let started_at = node.client.container_status(&id).await?.started_at;
    let daemon = unit.main_process()?;

    unit.systemctl("restart")?;
    ensure!(unit.main_process()? != daemon, "it is another process");
    eventually("the new daemon answers", async || {
        Ok(node.client.version().await?)
    })
    .await?;
    let status = node.client.container_status(&id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning && status.started_at == started_at,
        "{status:?}"
    );
    // Its monitor lives on as well: it runs this, and sees the end.
    let done = node.client.exec(&id, &["echo", "here"], 30).await?;
    ensure!(done.stdout == b"here\n", "{done:?}");
    node.client.stop(&id, 30).await?;
    let ended = node.exited(&id).await?;
    ensure!(ended.exit_code == 7, "its trap ends it with 7: {ended:?}");

    unit.systemctl("stop")?;
    ensure!(
        unit.property("Result")? == "success",
        "the unit stopped as `{}`",
        unit.property("Result")?
    );
    drop(unit);
    node.start_again().await?;
    scene.node.finish().await
}

/// systemd manages this host.
pub(crate) fn systemd() -> Result<(), String> {
    if Path::new("/run/systemd/system").is_dir() {
        Ok(())
    } else {
        Err("needs systemd as the first process".to_owned())
    }
}

/// A unit of a node's own; gone with this value.
struct Unit {
    name: String,
    files: PathBuf,
}

impl Unit {
    fn write(node: &TestNode) -> Result<Self> {
        let program = requirements::daemon().map_err(anyhow::Error::msg)?;
        let place = node.place();
        let name = format!("{}.service", place.cgroup_name());
        let unit = Self {
            files: Path::new("/run/systemd/system").join(&name),
            name,
        };
        std::fs::write(&unit.files, SHIPPED).context("write the unit")?;
        let etc = place.base().join("etc");
        let (program, conf, etc) = (program.display(), place.conf(), etc.display());
        let settings = format!(
            "[Service]\nEnvironment=CONTAINERS_STORAGE_CONF={etc}/storage.conf\nExecStart=\n\
             ExecStart={program} --config {} --config-dir \"\" --registries-conf {etc}/registries.conf \
             --registries-conf-dir {etc}/registries.conf.d\n",
            conf.display()
        );
        let folder = unit.drop_ins();
        std::fs::create_dir_all(&folder).context("make the folder of drop-ins")?;
        std::fs::write(folder.join("node.conf"), settings).context("write the drop-in")?;
        systemctl(&["daemon-reload"])?;
        Ok(unit)
    }

    fn drop_ins(&self) -> PathBuf {
        self.files.with_extension("service.d")
    }

    fn systemctl(&self, verb: &str) -> Result<String> {
        systemctl(&[verb, &self.name]).with_context(|| {
            let journal = Command::new("journalctl")
                .args(["-n", "30", "-u", &self.name])
                .output();
            let journal = journal.map(|done| done.stdout).unwrap_or_default();
            String::from_utf8_lossy(&journal).into_owned()
        })
    }

    fn property(&self, property: &str) -> Result<String> {
        systemctl(&["show", "--value", "-p", property, &self.name])
    }

    fn main_process(&self) -> Result<String> {
        let pid = self.property("MainPID")?;
        ensure!(pid != "0", "the service runs");
        Ok(pid)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // Whatever the test came to: what is left shows in the comparison of the host.
        let _ = systemctl(&["stop", &self.name]);
        let _ = std::fs::remove_dir_all(self.drop_ins());
        let _ = std::fs::remove_file(&self.files);
        let _ = systemctl(&["daemon-reload"]);
    }
}

/// What `systemctl` prints; it must succeed.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String> {
    let done = Command::new("systemctl")
        .args(arguments)
        .output()
        .context("run systemctl")?;
    ensure!(
        done.status.success(),
        "systemctl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
