//! Exec, attach and port-forward by the streaming server, with clients of our own.

pub(crate) mod attach;
mod by_crictl;
pub(crate) mod exec;
pub(crate) mod forward;
mod killed;
mod tls;

use anyhow::{Context, Result};
use crioxide_test_support::TestNode;
use crioxide_test_support::streams::{Command, Wanted, connect};

/// Every protocol of exec and attach; those of WebSocket have `ws:` in front, and an empty name asks for none.
const PROTOCOLS: [&str; 11] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "",
    "ws:v5.channel.k8s.io",
    "ws:v4.channel.k8s.io",
    "ws:v4.base64.channel.k8s.io",
    "ws:channel.k8s.io",
    "ws:base64.channel.k8s.io",
    "ws:",
];

/// One of each transport that can end its input alone.
pub(crate) const NEWEST: [&str; 2] = ["v4.channel.k8s.io", "ws:v5.channel.k8s.io"];

const OUTPUTS: Wanted = Wanted {
    stdin: false,
    stderr: true,
    tty: false,
};

const ALL: Wanted = Wanted {
    stdin: true,
    stderr: true,
    tty: false,
};

const TERMINAL: Wanted = Wanted {
    stdin: true,
    stderr: false,
    tty: true,
};

async fn exec(
    node: &TestNode,
    container: &str,
    command: &[&str],
    protocol: &str,
    wanted: Wanted,
) -> Result<Command> {
    let url = node
        .client
        .exec_url(container, command, wanted)
        .await
        .context("Exec")?;
    Command::open(connect(&url, None).await?, protocol, wanted).await
}

async fn attach(
    node: &TestNode,
    container: &str,
    protocol: &str,
    wanted: Wanted,
) -> Result<Command> {
    let url = node
        .client
        .attach_url(container, wanted)
        .await
        .context("Attach")?;
    Command::open(connect(&url, None).await?, protocol, wanted).await
}
