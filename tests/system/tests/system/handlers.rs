//! The same contract for every handler: the built-in runtime, runc and crun give the container the same world.

mod conmon;
mod options;
mod own_shim;
mod place;
mod shim;
mod youki;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{requirements, skip_unless};
use tonic::Code;

use crate::scene::{Scene, possible, refused};
use crate::smoke::crun_works_here;

#[tokio::test(flavor = "multi_thread")]
async fn builtin() -> Result<()> {
    skip_unless!(possible());
    contract("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    contract("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun() -> Result<()> {
    skip_unless!(possible(), requirements::program("crun"), crun_works_here());
    contract("crun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_handler_is_refused() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let answer = scene
        .node
        .client
        .run_pod(&scene.node.pod("unknown"), "no-such-handler")
        .await;
    refused(
        answer,
        &[
            Code::Unknown,
            Code::InvalidArgument,
            Code::NotFound,
            Code::Internal,
        ],
        &["no-such-handler"],
    )?;
    scene.node.finish().await
}

pub(crate) async fn contract(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("contract");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.envs.push(v1::KeyValue {
        key: "GREETING".to_owned(),
        value: "hello there".into(),
    });
    container.working_dir = "/var".to_owned();
    let shared = node.place().base().join("shared");
    std::fs::create_dir(&shared)?;
    for (target, readonly) in [("/writable", false), ("/readonly", true)] {
        container.mounts.push(v1::Mount {
            container_path: target.to_owned(),
            host_path: shared.display().to_string(),
            readonly,
            ..Default::default()
        });
    }
    let (_, id) = node.run(&pod, &container, handler).await?;
    for (what, script, expected) in EXPECTATIONS {
        let done = node
            .client
            .exec(&id, &["sh", "-c", script], 30)
            .await
            .context(*what)?;
        let seen = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(
            seen.trim() == *expected,
            "{handler}: {what}: expected `{expected}`, saw `{}` {errors}",
            seen.trim()
        );
    }
    ensure!(
        shared.join("made").exists(),
        "what the container wrote is on the host"
    );
    user_and_capabilities(&scene, handler).await?;
    privileged(&scene, handler).await?;
    not_startable(&scene, handler).await?;
    stopped_in_time(&scene, handler).await?;
    scene.node.finish().await
}

/// What, a script in the container, and what it prints.
const EXPECTATIONS: &[(&str, &str, &str)] = &[
    ("environment", "echo $GREETING", "hello there"),
    ("working directory", "pwd", "/var"),
    (
        "first process",
        "tr '\\0' ' ' < /proc/1/cmdline",
        "sleep 600",
    ),
    ("host name", "hostname", "contract"),
    (
        "capabilities",
        "grep -E 'CapEff' /proc/1/status | tr -s '\\t' ' '",
        "CapEff: 00000000000005fb",
    ),
    (
        "bounding set",
        "grep -E 'CapBnd' /proc/1/status | tr -s '\\t' ' '",
        "CapBnd: 00000000000005fb",
    ),
    (
        "seccomp is off unless asked for",
        "grep -E '^Seccomp:' /proc/1/status | tr -s '\\t' ' '",
        "Seccomp: 0",
    ),
    ("writable mount", "touch /writable/made && echo yes", "yes"),
    (
        "read-only mount",
        "touch /readonly/no 2>/dev/null || echo refused",
        "refused",
    ),
    ("masked path", "cat /proc/kcore 2>/dev/null | wc -c", "0"),
    (
        "masked folder",
        "find /proc/scsi /sys/firmware -mindepth 1 2>/dev/null | wc -l",
        "0",
    ),
    (
        "read-only path",
        "echo 1 > /proc/sys/kernel/domainname 2>/dev/null || echo refused",
        "refused",
    ),
    (
        "devices",
        "for d in null zero full random urandom tty; do test -c /dev/$d && printf '%s ' $d; done",
        "null zero full random urandom tty",
    ),
    (
        "no foreign device",
        "test -e /dev/kmsg && echo there || echo none",
        "none",
    ),
    (
        "shared memory",
        "df -k /dev/shm | tail -1 | awk '{print $2}'",
        "65536",
    ),
    (
        "sysfs is read-only",
        "touch /sys/x 2>/dev/null || echo refused",
        "refused",
    ),
    ("root is writable", "touch /here && echo yes", "yes"),
    ("exec gets the container's user", "id -u", "0"),
];

const FILTER_OF_EXEC: &str = "seccomp filter of an exec";
const REFUSED_BY_FILTER: &str = "a call the filter refuses";

async fn user_and_capabilities(scene: &Scene, handler: &str) -> Result<()> {
    let node = &scene.node;
    let pod = node.pod("user");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let security = container
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
        .context("a security context")?;
    security.run_as_user = Some(v1::Int64Value { value: 33 });
    security.run_as_group = Some(v1::Int64Value { value: 34 });
    security.supplemental_groups = vec![50_001];
    security.readonly_rootfs = true;
    security.no_new_privs = true;
    security.seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
    security.capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_ADMIN".to_owned()],
        drop_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    let (_, id) = node
        .run(&pod, &container, handler)
        .await
        .context("a container with a user")?;
    for (what, script, expected) in [
        ("ids", "echo $(id -u) $(id -g)", "33 34"),
        ("groups", "id -G | tr ' ' '\\n' | grep -c 50001", "1"),
        (
            "bounding set",
            "grep CapBnd /proc/self/status | awk '{print $2}'",
            "0000000000001000",
        ),
        (
            "no effective capability without root",
            "grep CapEff /proc/self/status | awk '{print $2}'",
            "0000000000000000",
        ),
        (
            "no new privileges",
            "grep NoNewPrivs /proc/self/status | awk '{print $2}'",
            "1",
        ),
        (
            "seccomp filter of the first process",
            "grep '^Seccomp:' /proc/1/status | awk '{print $2}'",
            "2",
        ),
        (
            FILTER_OF_EXEC,
            "grep '^Seccomp:' /proc/self/status | awk '{print $2}'",
            "2",
        ),
        (
            REFUSED_BY_FILTER,
            "unshare -m true 2>/dev/null || echo refused",
            "refused",
        ),
        (
            "read-only root",
            "touch /tmp/x 2>/dev/null || echo refused",
            "refused",
        ),
    ] {
        if handler == "youki" && [FILTER_OF_EXEC, REFUSED_BY_FILTER].contains(&what) {
            // youki 0.7 gives execs no filter.
            continue;
        }
        let done = node
            .client
            .exec(&id, &["sh", "-c", script], 30)
            .await
            .context(what)?;
        let seen = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        ensure!(
            seen == expected,
            "{handler}: {what}: expected `{expected}`, saw `{seen}`"
        );
    }
    Ok(())
}

async fn privileged(scene: &Scene, handler: &str) -> Result<()> {
    let node = &scene.node;
    let mut pod = node.pod("privileged");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let of_pod = pod
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    of_pod.context("a security context")?.privileged = true;
    let of_container = container
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    of_container.context("a security context")?.privileged = true;
    let (_, id) = node
        .run(&pod, &container, handler)
        .await
        .context("a privileged container")?;
    let script = "mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted; test -e /dev/kmsg && echo devices";
    let done = node.client.exec(&id, &["sh", "-c", script], 30).await?;
    ensure!(done.stdout == b"mounted\ndevices\n", "{handler}: {done:?}");
    Ok(())
}

async fn not_startable(scene: &Scene, handler: &str) -> Result<()> {
    let node = &scene.node;
    let pod = node.pod("broken");
    let pod_id = node.client.run_pod(&pod, handler).await?;
    let container = node.container("main", &scene.image, &["/no/such/command"]);
    // The runtime finds out at creation, like CRI-O's, or at start.
    let failed = match node.client.create(&pod_id, &container, &pod).await {
        Ok(id) => node.client.start(&id).await,
        Err(status) => Err(status),
    };
    refused(
        failed,
        &[
            Code::Unknown,
            Code::NotFound,
            Code::InvalidArgument,
            Code::Internal,
            Code::FailedPrecondition,
        ],
        &["/no/such/command"],
    )?;
    Ok(())
}

async fn stopped_in_time(scene: &Scene, handler: &str) -> Result<()> {
    let node = &scene.node;
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let pod = node.pod("stubborn");
    let (_, id) = node
        .run(
            &pod,
            &node.container("main", &scene.image, &["sh", "-c", script]),
            handler,
        )
        .await?;
    eventually("the trap is set", async || {
        ensure!(node.container_log(&pod, "main")?.contains_key("stdout"));
        Ok(())
    })
    .await?;
    node.client.stop(&id, 1).await?;
    let status = node.client.container_status(&id).await?;
    ensure!(status.exit_code == 137, "{handler}: {status:?}");
    Ok(())
}
