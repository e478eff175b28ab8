//! Sessions whose clients die leave nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;
use futures_util::future::join_all;

use super::{ALL, NEWEST, TERMINAL, exec};
use crate::scene::held::Held;
use crate::scene::{Scene, possible};

/// Sessions at a time.
const AT_ONCE: usize = 25;

/// How many sessions in all, when `CRIOXIDE_TEST_SESSIONS` does not say.
const SESSIONS: usize = 200;

fn sessions() -> usize {
    std::env::var("CRIOXIDE_TEST_SESSIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SESSIONS)
}

async fn one(scene: &Scene, id: &str, number: usize) -> Result<()> {
    let protocol = NEWEST[number % 2];
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    let [kind, delay] = random;
    // Silent, flooding us, reading nothing of what we type, in a terminal.
    let (script, wanted) = match kind % 4 {
        0 => ("exec sleep 3600", ALL),
        1 => ("exec cat /dev/zero", ALL),
        2 => ("exec sleep 3600", ALL),
        _ => ("cat; exec sleep 3600", TERMINAL),
    };
    let mut session = exec(&scene.node, id, &["sh", "-c", script], protocol, wanted).await?;
    let typing = async {
        if kind % 4 == 2 {
            // More than is taken in before reading stops. The end of a connection arrives behind its data, so with
            // more than the kernels hold it would arrive when the client's kernel gives up, after a minute.
            for _ in 0..7 {
                let _ = session.writer.send(&[b'x'; 32 << 10]).await;
            }
        }
        std::future::pending::<()>().await;
    };
    // Any moment from before the process runs until well after is good.
    let _ = tokio::time::timeout(Duration::from_millis(u64::from(delay) * 2), typing).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_die_leave_nothing() -> Result<()> {
    skip_unless!(possible());
    let sessions = sessions();
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "7200"]);
    let (_, id) = node.run(&node.pod("killed"), &container, "").await?;
    // What stays with the first sessions (threads, buffers, connections) is no growth.
    join_all((0..10).map(|number| one(&scene, &id, number))).await;
    let quiet = async || -> Result<()> {
        // A session's `cat` outlives its shell by a moment, and then stays a zombie: `sleep`, the first process of the
        // container, reaps nobody.
        let living = ["sh", "-c", "grep -L '^State:.Z' /proc/[0-9]*/status"];
        eventually("no process of a session is left", async || {
            let seen = node.client.exec(&id, &living, 30).await?;
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            // The container's own, the shell that looks, and its `grep`.
            ensure!((2..=3).contains(&seen.lines().count()), "{seen}");
            Ok(())
        })
        .await
    };
    quiet().await?;
    let before = Held::now(node).await?;
    let mut number = 0;
    while number < sessions {
        let batch = AT_ONCE.min(sessions - number);
        for outcome in join_all((number..number + batch).map(|n| one(&scene, &id, n))).await {
            outcome?;
        }
        number += batch;
    }
    quiet().await?;
    let after = before.again(node).await?;
    eprintln!("{sessions} sessions: {before:?}, then {after:?}");
    scene.node.finish().await
}
