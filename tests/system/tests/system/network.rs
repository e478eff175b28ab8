//! Pod networks of the whole daemon, in a network namespace that takes the host's place: dual stack,
//! host ports, firewall reloads, removals that fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, skip_unless};
use serde_json::json;
use tonic::Code;

use crate::scene::{Scene, possible, refused};

/// A network namespace that lives as long as this value.
struct Host {
    holder: Child,
}

impl Host {
    fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up; echo ready; exec sleep 900",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("its output")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "{line}");
        Ok(Self { holder })
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Runs `work` on a thread inside.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = std::fs::File::open(self.path())?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )?;
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The page that a web server at this address has.
    fn get(&self, address: &str, port: u16) -> Result<String> {
        let address: IpAddr = address.parse()?;
        self.inside(|| {
            let target = SocketAddr::new(address, port);
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (_, page) = answer.split_once("\r\n\r\n").context("an answer")?;
            Ok(page.to_owned())
        })
    }

    fn flush_rules(&self) -> Result<()> {
        self.inside(|| {
            let status = Command::new("nft").args(["flush", "ruleset"]).status()?;
            ensure!(status.success(), "nft: {status}");
            Ok(())
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn dual_stack(ipam: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "dual",
        "plugins": [
            {
                "type": "bridge", "bridge": "dual0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": ipam,
                    "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd88::/64"}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn host_port(port: i32) -> v1::PortMapping {
    v1::PortMapping {
        container_port: 8080,
        host_port: port,
        ..Default::default()
    }
}

const SERVE: [&str; 3] = [
    "sh",
    "-c",
    "mkdir -p /www && echo mapped > /www/index.html && exec httpd -f -p 8080 -h /www",
];

/// Everything that the flush of a firewall or a restart may take away.
async fn port_answers(host: &Host, what: &str) -> Result<()> {
    for address in ["127.0.0.1", "10.88.0.1", "fd88::1"] {
        eventually(&format!("host port at {address} {what}"), async || {
            let page = host.get(address, 9090)?;
            ensure!(page == "mapped\n", "{page}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dual_stack_pods_reach_each_other_the_host_and_host_ports() -> Result<()> {
    skip_unless!(possible());
    if Command::new("nft").arg("--version").output().is_err() {
        eprintln!("skipped: needs nft");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let host = Host::new()?;
    let mut scene = Scene::start_with(NodeOptions {
        network: Some(dual_stack(folder.path())),
        ..Default::default()
    })
    .await?;
    scene.node.stop().await?;
    scene.node.move_to_network(&host.path());
    scene.node.start_again().await?;

    let node = &scene.node;
    let mut server = node.pod("server");
    server.port_mappings.push(host_port(9090));
    let container = node.container("main", &scene.image, &SERVE);
    let (server_id, _) = node.run(&server, &container, "").await?;
    let client = node.pod("client");
    let sleeper = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, client_id) = node.run(&client, &sleeper, "").await?;

    let status = node.client.pod_status(&server_id).await?;
    let network = status.network.context("a network")?;
    ensure!(network.ip == "10.88.0.2", "{network:?}");
    ensure!(
        network.additional_ips.len() == 1 && network.additional_ips[0].ip == "fd88::2",
        "{network:?}"
    );

    // Pod to pod, pod to host port by the host's addresses, host to pod.
    let targets = [
        ("10.88.0.2", 8080),
        ("fd88::2", 8080),
        ("10.88.0.1", 9090),
        ("fd88::1", 9090),
    ];
    for (address, port) in targets {
        eventually(&format!("port {port} of {address}"), async || {
            let page = fetch(&scene, &client_id, address, port).await?;
            ensure!(page == "mapped\n", "{page}");
            Ok(())
        })
        .await?;
    }
    for address in ["10.88.0.2", "fd88::2"] {
        ensure!(host.get(address, 8080)? == "mapped\n", "{address}");
    }
    pod_reaches_host(&scene, &host, &client_id).await?;
    port_answers(&host, "").await?;

    // A second pod cannot have the port, and is told who has it.
    let mut second = node.pod("second");
    second.port_mappings.push(host_port(9090));
    let codes = [Code::Unknown, Code::Internal];
    let taken = format!("tcp port 9090 of the host is taken by dual/{server_id}/eth0");
    refused(node.client.run_pod(&second, "").await, &codes, &[&taken])?;

    // A firewall is reloaded: while the daemon runs, and while it does not.
    host.flush_rules()?;
    port_answers(&host, "after a flush").await?;
    scene.node.stop().await?;
    host.flush_rules()?;
    ensure!(host.get("127.0.0.1", 9090).is_err(), "the rules are gone");
    scene.node.start_again().await?;
    port_answers(&host, "after a restart").await?;

    scene.node.remove_pods().await?;
    ensure!(
        host.get("127.0.0.1", 9090).is_err(),
        "nobody has the port any more"
    );
    scene.node.finish().await
}

/// The page at an address, as a container sees it.
async fn fetch(scene: &Scene, container: &str, address: &str, port: u16) -> Result<String> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port}");
    let client = &scene.node.client;
    let answer = client.exec(container, &["sh", "-c", &script], 10).await?;
    let text = String::from_utf8(answer.stdout)?;
    let (_, page) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no answer: {text} {:?}", answer.stderr))?;
    Ok(page.to_owned())
}

async fn pod_reaches_host(scene: &Scene, host: &Host, client: &str) -> Result<()> {
    let listener = host.inside(|| Ok(TcpListener::bind("[::]:7070")?))?;
    let answering = std::thread::spawn(move || {
        for _ in 0..2 {
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhost\n");
            }
        }
    });
    for address in ["10.88.0.1", "fd88::1"] {
        let page = fetch(scene, client, address, 7070).await?;
        ensure!(page == "host\n", "{address}: {page}");
    }
    let _ = answering.join();
    Ok(())
}

fn plugin(folder: &Path, name: &str, script: &str) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    Ok(std::fs::set_permissions(
        &path,
        PermissionsExt::from_mode(0o755),
    )?)
}

/// The kubelet forgets the pod; the daemon does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_is_tried_again() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    let count = folder.path().join("failures");
    let script = format!(
        r#"if [ "$CNI_COMMAND" = ADD ]; then echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.0.0.9/24"}}]}}'; exit; fi
[ "$CNI_COMMAND" = DEL ] || exit 0
[ "$(cat {0} 2>/dev/null | wc -c)" -ge 3 ] && exit 0
printf x >> {0}; exit 1"#,
        count.display()
    );
    plugin(folder.path(), "sticky", &script)?;
    let scene = Scene::start_with(NodeOptions {
        network: Some(
            r#"{"cniVersion":"1.0.0","name":"sticky","plugins":[{"type":"sticky"}]}"#.to_owned(),
        ),
        plugin_directories: vec![folder.path().to_owned()],
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let before = node.snapshot();
    let id = node.client.run_pod(&node.pod("forgotten"), "").await?;
    refused(
        node.client.stop_pod(&id).await,
        &[Code::Unknown, Code::Internal],
        &["sticky"],
    )?;
    let results = node.place().cni_cache().join("results");
    eventually("the record goes without a further request", async || {
        ensure!(std::fs::read_dir(&results)?.next().is_none(), "it is there");
        Ok(())
    })
    .await?;
    ensure!(std::fs::read(&count)?.len() == 3, "three tries failed");
    node.remove_pods().await?;
    node.nothing_left(&before).await?;
    scene.node.finish().await
}

/// The daemon dies inside ADD, once in front of, once between and once behind the plugins that take
/// something. The plugin that runs goes on, until the next daemon ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_inside_add_leaves_nothing() -> Result<()> {
    skip_unless!(possible());
    for step in 1..=3 {
        let folder = tempfile::tempdir()?;
        let orphan = folder.path().join("orphan");
        for number in 1..=3 {
            let dies = if number == step {
                // Once only. `exec` keeps the environment, by which the plugin is known.
                format!(
                    "[ -e {0} ] || {{ echo $$ > {0}; kill -9 $PPID; exec sleep 600; }}",
                    orphan.display()
                )
            } else {
                String::new()
            };
            // The first has no previous result to pass on.
            let script = format!(
                r#"[ "$CNI_COMMAND" = ADD ] || exit 0
{dies}
config=$(cat)
case "$config" in *'"prevResult":'*) echo "$config" | sed 's/.*"prevResult"://; s/,"runtimeConfig".*//; s/,"type":"step.*//; s/}}$//';;
*) echo '{{"cniVersion":"1.0.0"}}';; esac"#
            );
            plugin(folder.path(), &format!("step{number}"), &script)?;
        }
        let list = json!({"cniVersion": "1.0.0", "name": "steps", "plugins": [
            {"type": "step1"},
            {"type": "bridge", "bridge": format!("steps{step}"), "isDefaultGateway": true, "ipMasq": true,
             "ipam": {"type": "host-local", "dataDir": folder.path().join("ipam"), "ranges": [[{"subnet": format!("10.89.{step}.0/24")}]]}},
            {"type": "step2"},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "step3"},
        ]});
        let host = Host::new()?;
        let mut scene = Scene::start_with(NodeOptions {
            network: Some(list.to_string()),
            plugin_directories: vec![folder.path().to_owned()],
            ..Default::default()
        })
        .await?;
        scene.node.stop().await?;
        scene.node.move_to_network(&host.path());
        scene.node.start_again().await?;
        let before = scene.node.snapshot();
        let mut pod = scene.node.pod("cut-off");
        pod.port_mappings.push(host_port(9091));
        ensure!(scene.node.client.run_pod(&pod, "").await.is_err());
        let _ = scene.node.kill().await;
        let orphan: u32 = std::fs::read_to_string(&orphan)?.trim().parse()?;
        ensure!(alive(orphan), "step {step}: the plugin outlives the daemon");

        scene.node.start_again().await?;
        ensure!(!alive(orphan), "step {step}: the plugin was ended");
        scene.node.nothing_left(&before).await?;
        let left = std::fs::read_dir(folder.path().join("ipam/steps"))
            .into_iter()
            .flatten()
            .filter(|entry| {
                entry
                    .as_ref()
                    .is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("10."))
            })
            .count();
        ensure!(left == 0, "step {step}: an address is left");
        host.inside(|| {
            let rules = Command::new("nft").args(["list", "ruleset"]).output()?;
            let rules = String::from_utf8(rules.stdout)?;
            ensure!(!rules.contains("/eth0"), "step {step}: {rules}");
            let links = Command::new("ip").args(["-o", "link"]).output()?;
            let links = String::from_utf8(links.stdout)?;
            ensure!(!links.contains("veth"), "step {step}: {links}");
            Ok(())
        })?;
        // The same pod, again.
        scene.node.client.run_pod(&pod, "").await.context("again")?;
        scene.node.remove_pods().await?;
        scene.node.finish().await?;
    }
    Ok(())
}

/// Whether the process is there and no zombie.
fn alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}
