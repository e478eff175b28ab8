//! AppArmor: profiles that really deny. In the VM tier, as most build machines have no AppArmor.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, security_profile::ProfileType};
use crioxide_test_support::{requirements, skip_unless};
use tonic::Code;

use super::{denied, output, security};
use crate::scene::{Scene, possible, refused};

fn enabled() -> Result<(), String> {
    let state = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    match state {
        Ok(text) if text.starts_with('Y') => requirements::program("apparmor_parser").map(drop),
        _ => Err("needs AppArmor".to_owned()),
    }
}

/// A profile of the test's, loaded until it is dropped.
struct Loaded(String);

impl Loaded {
    fn new(name: &str, rules: &str) -> Result<Self> {
        let loaded = Self(format!("profile {name} {{\n{rules}\n}}\n"));
        loaded.parser("--replace")?;
        Ok(loaded)
    }

    fn parser(&self, action: &str) -> Result<()> {
        let mut parser = Command::new("apparmor_parser")
            .args([action, "--skip-cache"])
            .stdin(Stdio::piped())
            .spawn()?;
        parser
            .stdin
            .take()
            .context("an input")?
            .write_all(self.0.as_bytes())?;
        ensure!(parser.wait()?.success(), "apparmor_parser {action} failed");
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = self.parser("--remove") {
            eprintln!("unload a profile: {error:#}");
        }
    }
}

fn profile(kind: ProfileType, name: &str) -> v1::SecurityProfile {
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: name.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builtin_is_confined() -> Result<()> {
    skip_unless!(possible(), enabled());
    confined("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_is_confined() -> Result<()> {
    skip_unless!(possible(), enabled(), requirements::program("runc"));
    confined("runc").await
}

async fn confined(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let own = format!("crioxide-test-{handler}-{}", std::process::id());
    let _own = Loaded::new(
        &own,
        "  file,\n  network,\n  capability,\n  mount,\n  signal,\n  deny /tmp/** w,",
    )?;
    let mount = "mkdir -p /m && mount -t tmpfs t /m";
    for (name, wanted, label, may_mount, may_write) in [
        ("default", None, "crio-default (enforce)", false, true),
        (
            "runtime",
            Some(profile(ProfileType::RuntimeDefault, "")),
            "crio-default (enforce)",
            false,
            true,
        ),
        (
            "unconfined",
            Some(profile(ProfileType::Unconfined, "")),
            "unconfined",
            true,
            true,
        ),
        (
            "own",
            Some(profile(ProfileType::Localhost, &own)),
            &*format!("{own} (enforce)"),
            true,
            false,
        ),
    ] {
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        let context = security(&mut container);
        context.apparmor = wanted;
        // So that only the profile is in the way.
        context.capabilities = Some(v1::Capability {
            add_capabilities: vec!["SYS_ADMIN".to_owned()],
            ..Default::default()
        });
        let (_, id) = node
            .run(&node.pod(name), &container, handler)
            .await
            .context(name)?;
        for process in ["1", "self"] {
            let seen = output(node, &id, &format!("cat /proc/{process}/attr/current")).await?;
            ensure!(seen == label, "{name}: {process} has {seen}");
        }
        if may_mount {
            output(node, &id, mount).await.context(name)?;
        } else {
            denied(node, &id, mount, "ermission denied")
                .await
                .context(name)?;
        }
        if may_write {
            output(node, &id, "touch /tmp/x").await.context(name)?;
        } else {
            denied(node, &id, "touch /tmp/x", "ermission denied")
                .await
                .context(name)?;
        }
        // A stop reaches the process across profiles.
        node.client.stop(&id, 30).await?;
        node.remove_pods().await?;
    }
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, handler).await?;
    let mut container = node.container("main", &scene.image, &["true"]);
    security(&mut container).apparmor = Some(profile(ProfileType::Localhost, "no-such-profile"));
    let answer = node.client.create(&pod_id, &container, &pod).await;
    refused(answer, &[Code::Unknown], &["no-such-profile", "not loaded"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_it_ignore_the_field() -> Result<()> {
    skip_unless!(
        possible(),
        match enabled() {
            Ok(()) => Err("this node has AppArmor".to_owned()),
            Err(_) => Ok(()),
        }
    );
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    security(&mut container).apparmor = Some(profile(ProfileType::RuntimeDefault, ""));
    node.run(&node.pod("ignored"), &container, "").await?;
    scene.node.finish().await
}
