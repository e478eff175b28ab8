//! What the table of a handler says holds for its pods, and for no others.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{NodeOptions, requirements, skip_unless};
use tonic::Code;

use crate::scene::{Scene, possible, refused};

/// A node with more handlers; each table is the name and the keys.
async fn start(handlers: &[(&str, &str)], state: &Path) -> Result<Scene> {
    let state = state.display();
    let tables = handlers.iter().map(|(name, keys)| {
        format!(
            "[crio.runtime.runtimes.{name}]\nruntime_root = \"{state}/{name}\"\nmonitor_cgroup = \"pod\"\n{keys}\n"
        )
    });
    let options = NodeOptions {
        more_tables: tables.collect(),
        ..NodeOptions::default()
    };
    Scene::start_with(options).await
}

fn limits(container: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    let linux = container.linux.get_or_insert_default();
    linux.resources.get_or_insert_default()
}

async fn output(scene: &Scene, id: &str, script: &str) -> Result<String> {
    let client = &scene.node.client;
    let done = client.exec(id, &["sh", "-c", script], 30).await?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// `platform_runtime_paths`: the container's program is another one for its whole life, over a restart, too.
#[tokio::test(flavor = "multi_thread")]
async fn programs_for_platforms() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    let runc = requirements::program("runc").map_err(anyhow::Error::msg)?;
    let state = tempfile::tempdir()?;
    let (program, calls) = (
        state.path().join("runc-of-platform"),
        state.path().join("calls"),
    );
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n",
        calls.display(),
        runc.display()
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let program = program.display();
    let here = format!(
        "runtime_path = \"builtin\"\nplatform_runtime_paths = {{ \"linux/amd64\" = \"{program}\", \"linux/arm64\" = \"{program}\" }}"
    );
    let elsewhere = format!(
        "runtime_path = \"builtin\"\nplatform_runtime_paths = {{ \"plan9/mips\" = \"{program}\" }}"
    );
    let missing = "runtime_path = \"builtin\"\nplatform_runtime_paths = { \"linux/amd64\" = \"/no/runtime\", \"linux/arm64\" = \"/no/runtime\" }";
    let handlers = [
        ("here", &*here),
        ("elsewhere", &elsewhere),
        ("missing", missing),
    ];
    let mut scene = start(&handlers, state.path()).await?;
    let container = scene
        .node
        .container("main", &scene.image, &["sleep", "600"]);
    let called = |verb: &str| {
        let calls = std::fs::read_to_string(&calls).unwrap_or_default();
        calls
            .lines()
            .any(|line| line.split(' ').any(|word| word == verb))
    };

    let node = &mut scene.node;
    node.run(&node.pod("elsewhere"), &container, "elsewhere")
        .await?;
    ensure!(!calls.exists(), "{:?}", std::fs::read_to_string(&calls));
    let (_, id) = node.run(&node.pod("here"), &container, "here").await?;
    node.kill().await?;
    node.start_again().await?;
    ensure!(output(&scene, &id, "echo hello").await? == "hello");
    let node = &scene.node;
    node.client.stop(&id, 0).await?;
    ensure!(node.exited(&id).await?.exit_code == 137);
    node.client.remove(&id).await?;
    for verb in ["create", "start", "exec", "kill", "delete"] {
        ensure!(
            called(verb),
            "{verb}: {:?}",
            std::fs::read_to_string(&calls)
        );
    }
    let pod = node.pod("missing");
    let pod_id = node.client.run_pod(&pod, "missing").await?;
    let made = node.client.create(&pod_id, &container, &pod).await;
    refused(made, &[Code::Unknown], &["/no/runtime"])?;
    scene.node.finish().await
}

/// youki's fails when processes take long to leave their cgroup: the second one goes well.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_fails_is_tried_again() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    let runc = requirements::program("runc").map_err(anyhow::Error::msg)?;
    let state = tempfile::tempdir()?;
    let (program, failed) = (state.path().join("program"), state.path().join("failed"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *delete*) [ -e {failed} ] || {{ touch {failed}; exit 1; }};; esac\nexec {} \"$@\"\n",
        runc.display(),
        failed = failed.display(),
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let failing = format!("runtime_path = \"{}\"", program.display());
    let scene = start(&[("failing", &failing)], state.path()).await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, id) = node
        .run(&node.pod("failing"), &container, "failing")
        .await?;
    node.client.stop(&id, 0).await?;
    node.client.remove(&id).await?;
    ensure!(failed.exists(), "its first delete has failed");
    scene.node.finish().await
}

/// What a runtime says by `features` is what the node says of the handler; one that cannot be asked is left out.
#[tokio::test(flavor = "multi_thread")]
async fn features_are_asked_for() -> Result<()> {
    skip_unless!(possible());
    let state = tempfile::tempdir()?;
    let able = r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","mountOptions":["ro","rro"],
        "linux":{"mountExtensions":{"idmap":{"enabled":true}}}}"#;
    let plain = r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.0.2","mountOptions":["ro"]}"#;
    let mut tables = Vec::new();
    for (name, features) in [
        ("able", format!("echo '{able}'")),
        ("plain", format!("echo '{plain}'")),
        // As runtimes from before there was such a command.
        ("old", "exit 1".to_owned()),
        ("broken", "exit 1".to_owned()),
    ] {
        let version = if name == "broken" {
            "exit 1"
        } else {
            "echo v1"
        };
        let program = state.path().join(name);
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *features) {features};; *--version) {version};; *) exit 1;; esac\n"
        );
        std::fs::write(&program, script)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        tables.push((name, format!("runtime_path = \"{}\"", program.display())));
    }
    let tables: Vec<_> = tables.iter().map(|(name, keys)| (*name, &**keys)).collect();
    let scene = start(&tables, state.path()).await?;
    let mut runtime = scene.node.client.runtime.clone();
    let status = runtime.status(v1::StatusRequest::default()).await?;
    let said = status.into_inner().runtime_handlers;
    let of = |name: &str| {
        let handler = said.iter().find(|handler| handler.name == name)?;
        let features = handler.features.as_ref()?;
        Some((
            features.recursive_read_only_mounts,
            features.user_namespaces,
        ))
    };
    for (name, expected) in [
        ("able", Some((true, true))),
        ("plain", Some((false, false))),
        ("old", Some((false, false))),
        ("broken", None),
        ("builtin", Some((true, true))),
    ] {
        ensure!(of(name) == expected, "{name}: {said:?}");
    }
    scene.node.finish().await
}

/// `container_min_memory`, `inherit_default_runtime`, `seccomp_profile` and `default_annotations`.
#[tokio::test(flavor = "multi_thread")]
async fn limits_profiles_and_inheritance() -> Result<()> {
    skip_unless!(possible());
    let state = tempfile::tempdir()?;
    let profile = state.path().join("profile.json");
    let rules = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 88}]}"#;
    std::fs::write(&profile, rules)?;
    let profile = profile.display();
    let own = format!(
        "inherit_default_runtime = true\nruntime_path = \"/not/used\"\n\
         container_min_memory = \"100MiB\"\nseccomp_profile = \"{profile}\"\n\
         default_annotations = {{ \"given.example/by\" = \"handler\", \"given.example/pod\" = \"handler\" }}"
    );
    let scene = start(&[("own", &own)], state.path()).await?;
    let node = &scene.node;
    let mut pod = node.pod("own");
    pod.annotations
        .insert("given.example/pod".to_owned(), "pod".to_owned());
    let pod_id = node.client.run_pod(&pod, "own").await?;
    let other = node.pod("other");
    let other_id = node.client.run_pod(&other, "").await?;

    let mut container = node.container("small", &scene.image, &["sleep", "600"]);
    limits(&mut container).memory_limit_in_bytes = (100 << 20) - 4096;
    let made = node.client.create(&pod_id, &container, &pod).await;
    refused(made, &[Code::Unknown], &["set memory limit", "too low"])?;
    node.client.create(&other_id, &container, &other).await?;

    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let linux = container.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
    for (pod_id, pod, made) in [(&pod_id, &pod, false), (&other_id, &other, true)] {
        let id = node.client.create(pod_id, &container, pod).await?;
        node.client.start(&id).await.context("start")?;
        let done = node.client.exec(&id, &["mkdir", "/made"], 30).await?;
        ensure!((done.exit_code == 0) == made, "{done:?}");
    }
    let annotations = node.client.pod_status(&pod_id).await?.annotations;
    ensure!(
        annotations["given.example/by"] == "handler",
        "{annotations:?}"
    );
    ensure!(annotations["given.example/pod"] == "pod", "{annotations:?}");
    scene.node.finish().await
}

/// The type `pod` names conmon-rs, whose part our own monitor plays.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_type_pod_have_our_monitor() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    let runc = requirements::program("runc").map_err(anyhow::Error::msg)?;
    let state = tempfile::tempdir()?;
    let keys = format!(
        "runtime_type = \"pod\"\nruntime_path = \"{}\"\nmonitor_path = \"/usr/bin/conmonrs\"",
        runc.display()
    );
    let scene = start(&[("of-pods", &keys)], state.path()).await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, id) = node.run(&node.pod("main"), &container, "of-pods").await?;
    ensure!(output(&scene, &id, "echo hello").await? == "hello");
    let log = node.log();
    ensure!(log.contains("/usr/bin/conmonrs is not used"), "{log}");
    scene.node.finish().await
}

/// `exec_cpu_affinity = "first"`: for containers with whole processors of their own.
#[tokio::test(flavor = "multi_thread")]
async fn execs_on_the_first_processor() -> Result<()> {
    let several = match std::thread::available_parallelism() {
        Ok(count) if count.get() > 1 => Ok(()),
        _ => Err("needs two processors".to_owned()),
    };
    skip_unless!(possible(), several);
    let state = tempfile::tempdir()?;
    let keys = "runtime_path = \"builtin\"\nexec_cpu_affinity = \"first\"";
    let scene = start(&[("first", keys)], state.path()).await?;
    let node = &scene.node;
    const CPUS: &str = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    for (name, handler, shares, expected) in [
        ("whole", "first", 2048, "0"),
        ("part", "first", 1500, "0-1"),
        ("usual", "", 2048, "0-1"),
    ] {
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        let limits = limits(&mut container);
        (limits.cpu_shares, limits.cpuset_cpus) = (shares, "0-1".to_owned());
        let (_, id) = node.run(&node.pod(name), &container, handler).await?;
        let of_init = output(&scene, &id, &CPUS.replace("self", "1")).await?;
        ensure!(of_init == "0-1", "{name}: {of_init}");
        let of_exec = output(&scene, &id, CPUS).await?;
        ensure!(of_exec == expected, "{name}: {of_exec}");
    }
    scene.node.finish().await
}
