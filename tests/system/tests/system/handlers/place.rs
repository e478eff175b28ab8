//! Which cgroup our own monitor is in: it counts as part of its pod, and is not frozen with it.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::skip_unless;

use crate::scene::{Scene, possible};
use crate::survival::restart::{container_pid, parent_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_part_of_what_its_pod_uses() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (pod, id) = node.run(&node.pod("place"), &container, "").await?;
    let init = container_pid(node, &id).await?;
    let (monitor, init) = (groups(parent_of(init)?)?, groups(init)?);
    for controller in ["memory", "cpu", "cpuacct", "pids", "name=systemd", ""] {
        let (Some(monitor), Some(init)) = (path(&monitor, controller), path(&init, controller))
        else {
            continue;
        };
        let unified = controller.is_empty();
        if unified && path(&groups(1)?, "memory").is_some() {
            // The tree without controllers beside version 1.
            continue;
        }
        let above = init.rsplit_once('/').context("a group of its own")?.0;
        let inside = monitor == above || monitor.starts_with(&format!("{above}/crio-conmon-{pod}"));
        ensure!(inside, "`{controller}`: {monitor} beside {init}");
    }
    if let (Some(monitor), Some(init)) = (path(&monitor, "freezer"), path(&init, "freezer")) {
        let above = init.rsplit_once('/').context("a group of its own")?.0;
        ensure!(
            above == "/" || monitor != above || node.place().cgroup_driver() == "systemd",
            "frozen with the pod: {monitor}"
        );
    }
    scene.node.finish().await
}

fn groups(pid: i32) -> Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?)
}

/// The path in the hierarchy of a controller, or in that of version 2 for none.
fn path<'t>(groups: &'t str, controller: &str) -> Option<&'t str> {
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let found = controllers.split(',').any(|name| name == controller);
        found.then_some(path)
    })
}
