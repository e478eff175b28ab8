//! Who a container's process is and what it may do: capabilities, users and groups, no_new_privs, seccomp.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, SupplementalGroupsPolicy, security_profile::ProfileType};
use crioxide_test_support::image::{Format, ImageBuilder};
use crioxide_test_support::{TestNode, requirements, skip_unless};
use serde_json::json;
use tonic::Code;

use super::{denied, output, pod_security, security};
use crate::scene::{Scene, possible, refused};

const ANY: &[Code] = &[Code::Unknown];
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;
const CHOWN: u64 = 1;

type Change = fn(&mut v1::LinuxContainerSecurityContext);

/// A running container with a change of its security context.
async fn changed(
    node: &TestNode,
    image: &str,
    name: &str,
    handler: &str,
    change: Change,
) -> Result<String> {
    let mut pod = node.pod(name);
    let mut container = node.container("main", image, &["sleep", "600"]);
    change(security(&mut container));
    pod_security(&mut pod).privileged = security(&mut container).privileged;
    let (_, id) = node
        .run(&pod, &container, handler)
        .await
        .context(name.to_owned())?;
    Ok(id)
}

fn capabilities(add: &[&str], drop: &[&str]) -> v1::Capability {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    v1::Capability {
        add_capabilities: words(add),
        drop_capabilities: words(drop),
        ..Default::default()
    }
}

/// The sets of a process: inheritable, permitted, effective, bounding, ambient.
fn sets(status: &str) -> Result<[u64; 5]> {
    let set = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Ok(u64::from_str_radix(
            line.context(name.to_owned())?.trim(),
            16,
        )?)
    };
    Ok([
        set("CapInh:")?,
        set("CapPrm:")?,
        set("CapEff:")?,
        set("CapBnd:")?,
        set("CapAmb:")?,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_of_builtin() -> Result<()> {
    skip_unless!(possible());
    capability_sets("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_of_runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    capability_sets("runc").await
}

async fn capability_sets(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let host = sets(&std::fs::read_to_string("/proc/self/status")?)?[3];
    let cases: [(&str, Change, u64, u64); 6] = [
        ("default", |_| {}, CHOWN, NET_RAW | SYS_ADMIN),
        (
            "add",
            |s| s.capabilities = Some(capabilities(&["NET_RAW", "SYS_ADMIN"], &["CHOWN"])),
            NET_RAW | SYS_ADMIN,
            CHOWN,
        ),
        (
            "prefix",
            |s| s.capabilities = Some(capabilities(&["CAP_NET_RAW"], &[])),
            NET_RAW | CHOWN,
            SYS_ADMIN,
        ),
        (
            "none",
            |s| s.capabilities = Some(capabilities(&[], &["ALL"])),
            0,
            u64::MAX,
        ),
        (
            "one",
            |s| s.capabilities = Some(capabilities(&["NET_RAW"], &["ALL"])),
            NET_RAW,
            !NET_RAW,
        ),
        (
            "all",
            |s| s.capabilities = Some(capabilities(&["ALL"], &["CHOWN"])),
            SYS_ADMIN | NET_RAW,
            CHOWN,
        ),
    ];
    for (name, change, has, lacks) in cases {
        let id = changed(node, &scene.image, name, handler, change).await?;
        // The first process and a later one alike.
        for script in ["cat /proc/1/status", "cat /proc/self/status"] {
            let [inheritable, permitted, effective, bounding, ambient] =
                sets(&output(node, &id, script).await?)?;
            ensure!(
                inheritable == 0 && ambient == 0,
                "{name}: {inheritable:x} {ambient:x}"
            );
            ensure!(
                permitted == effective && effective == bounding,
                "{name}: {permitted:x}"
            );
            ensure!(effective & has == has & host, "{name}: has {effective:x}");
            ensure!(effective & lacks == 0, "{name}: has {effective:x}");
        }
        node.remove_pods().await?;
    }
    let mut container = node.container("main", &scene.image, &["true"]);
    security(&mut container).capabilities = Some(capabilities(&["MAKE_COFFEE"], &[]));
    let answer = node.run(&node.pod("unknown"), &container, handler).await;
    let error = format!(
        "{:#}",
        answer.err().context("an unknown capability is refused")?
    );
    ensure!(error.contains("MAKE_COFFEE"), "{error}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_containers_are_nearly_the_host() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let id = changed(node, &scene.image, "privileged", "", |s| {
        s.privileged = true
    })
    .await?;
    let host = sets(&std::fs::read_to_string("/proc/self/status")?)?[3];
    let status = output(node, &id, "cat /proc/self/status").await?;
    ensure!(sets(&status)?[2] == host, "{status}");
    ensure!(status.contains("Seccomp:\t0"), "{status}");
    output(node, &id, "test -c /dev/full && test -w /proc/sys/kernel/hostname && mount -t tmpfs t /mnt 2>/dev/null || mkdir /m && mount -t tmpfs t /m").await?;
    let seen = output(node, &id, "ls /dev | wc -l").await?;
    let host_devices = std::fs::read_dir("/dev")?.count();
    ensure!(
        seen.parse::<usize>()? + 8 > host_devices,
        "{seen} of {host_devices} devices"
    );
    // A pod that is not privileged has no privileged containers.
    let pod = node.pod("plain");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let mut container = node.container("main", &scene.image, &["true"]);
    security(&mut container).privileged = true;
    let answer = node.client.create(&pod_id, &container, &pod).await;
    refused(answer, ANY, &["no privileged container allowed in sandbox"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_groups() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let cases: [(&str, Change, &str); 7] = [
        ("default", |_| {}, "0 0 0"),
        (
            "uid",
            |s| s.run_as_user = Some(v1::Int64Value { value: 33 }),
            "33 33 33 50000",
        ),
        (
            "unknown",
            |s| s.run_as_user = Some(v1::Int64Value { value: 4242 }),
            "4242 0 0",
        ),
        (
            "group",
            |s| {
                s.run_as_user = Some(v1::Int64Value { value: 33 });
                s.run_as_group = Some(v1::Int64Value { value: 44 });
            },
            "33 44 44 50000",
        ),
        (
            "name",
            |s| s.run_as_username = "web".to_owned(),
            "33 33 33 50000",
        ),
        (
            "merge",
            |s| {
                s.run_as_user = Some(v1::Int64Value { value: 33 });
                s.supplemental_groups = vec![1234];
            },
            "33 33 33 1234 50000",
        ),
        (
            "strict",
            |s| {
                s.run_as_user = Some(v1::Int64Value { value: 33 });
                s.supplemental_groups = vec![1234];
                s.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
            },
            "33 33 33 1234",
        ),
    ];
    for (name, change, expected) in cases {
        let id = changed(node, &scene.image, name, "", change).await?;
        let seen = output(
            node,
            &id,
            "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n)",
        )
        .await?;
        ensure!(seen == expected, "{name}: {seen} instead of {expected}");
        let first = output(
            node,
            &id,
            "grep ^Groups: /proc/1/status | cut -f2 | tr ' ' '\\n' | sort -n",
        )
        .await?;
        let groups: Vec<&str> = expected.split(' ').skip(2).collect();
        let first: Vec<&str> = first.split_whitespace().collect();
        ensure!(first == groups, "{name}: the first process has {first:?}");
        let status = node.client.container_status(&id).await?;
        let user = status
            .user
            .and_then(|user| user.linux)
            .context("a user in the status")?;
        ensure!(
            user.uid.to_string() == expected.split(' ').next().unwrap_or_default(),
            "{user:?}"
        );
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_nobody_knows() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    // A user without an account gets a line in /etc/passwd, and can find itself.
    let id = changed(node, &scene.image, "account", "", |s| {
        s.run_as_user = Some(v1::Int64Value { value: 4242 });
    })
    .await?;
    let seen = output(node, &id, "grep -c ':4242:' /etc/passwd; whoami").await?;
    ensure!(seen.starts_with('1'), "{seen}");
    node.remove_pods().await?;
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let refusals: [(Change, &str); 4] = [
        (
            |s| s.run_as_group = Some(v1::Int64Value { value: 1 }),
            "user group is specified without user or username",
        ),
        (|s| s.run_as_username = "stranger".to_owned(), "stranger"),
        (
            |s| s.run_as_user = Some(v1::Int64Value { value: 1 << 33 }),
            "8589934592",
        ),
        (|s| s.run_as_user = Some(v1::Int64Value { value: -1 }), "-1"),
    ];
    for (change, part) in refusals {
        let mut container = node.container("main", &scene.image, &["true"]);
        change(security(&mut container));
        refused(
            node.client.create(&pod_id, &container, &pod).await,
            ANY,
            &[part],
        )?;
    }
    for user in [
        "4294967296",
        "2147483648:4294967296",
        "-1",
        "1e3",
        "web\n0:0",
    ] {
        let name = scene.registry.add(
            "test/user",
            &user.len().to_string(),
            &ImageBuilder::busybox(Format::Oci)?
                .configure("User", json!(user))
                .build()?,
        );
        node.client.pull(&name).await?;
        let container = node.container("main", &name, &["id"]);
        let answer = node.client.create(&pod_id, &container, &pod).await;
        refused(answer, ANY, &[]).with_context(|| format!("user {user:?}"))?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_new_privileges_is_set_only_when_asked() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let cases: [(&str, Change, &str); 2] = [
        ("without", |_| {}, "0"),
        ("with", |s| s.no_new_privs = true, "1"),
    ];
    for (name, change, expected) in cases {
        let id = changed(node, &scene.image, name, "", change).await?;
        for process in ["1", "self"] {
            let script = format!("grep ^NoNewPrivs: /proc/{process}/status | cut -f2");
            ensure!(
                output(node, &id, &script).await? == expected,
                "{name} {process}"
            );
        }
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

fn profile(kind: ProfileType, file: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: file.to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn seccomp_profiles() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let file = node.place().base().join("no-chmod.json");
    let rules = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["chmod", "fchmod", "fchmodat", "fchmodat2"],
            "action": "SCMP_ACT_ERRNO",
        }],
    });
    std::fs::write(&file, rules.to_string())?;
    let file = file.display().to_string();
    for (name, wanted, mode, chmod, unshare) in [
        ("none", None, "0", true, true),
        (
            "default",
            profile(ProfileType::RuntimeDefault, ""),
            "2",
            true,
            false,
        ),
        (
            "unconfined",
            profile(ProfileType::Unconfined, ""),
            "0",
            true,
            true,
        ),
        (
            "own",
            profile(ProfileType::Localhost, &file),
            "2",
            false,
            true,
        ),
    ] {
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        security(&mut container).seccomp = wanted;
        let (_, id) = node
            .run(&node.pod(name), &container, "")
            .await
            .context(name)?;
        let seen = output(node, &id, "grep ^Seccomp: /proc/self/status | cut -f2").await?;
        ensure!(seen == mode, "{name}: {seen}");
        if chmod {
            output(node, &id, "chmod 700 /tmp").await?;
        } else {
            denied(node, &id, "chmod 700 /tmp", "not permitted").await?;
        }
        // As a user without capabilities, to whom the kernel itself allows it.
        let done = node
            .client
            .exec(&id, &["unshare", "-U", "true"], 30)
            .await?;
        ensure!(
            (done.exit_code == 0) == unshare,
            "{name}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        node.remove_pods().await?;
    }
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, "").await?;
    for (wanted, part) in [("/no/such/profile.json", "/no/such/profile.json"), ("", "")] {
        let mut container = node.container("main", &scene.image, &["true"]);
        security(&mut container).seccomp = profile(ProfileType::Localhost, wanted);
        refused(
            node.client.create(&pod_id, &container, &pod).await,
            ANY,
            &[part],
        )?;
    }
    scene.node.finish().await
}
