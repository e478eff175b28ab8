//! Daemon, monitors, runtimes and containers are killed at random while pods are used: what is reported stays true, a
//! request that failed succeeds when it is repeated, nothing is stuck, and in the end nothing is left.

mod kills;
mod pool;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::ContainerState;
use crioxide_test_support::waiting::{LIMIT, scaled};
use crioxide_test_support::{requirements, skip_unless};

use crate::scene::{Scene, possible};
use crate::smoke::crun_works_here;
use kills::Victim;
use pool::{Operation, Pool};

const ROUNDS: &str = "CRIOXIDE_TEST_KILLS";
const SEED: &str = "CRIOXIDE_TEST_SEED";
/// Kills when nothing is said: few enough for every run of the tests.
const FEW: u64 = 15;
/// A kill comes within this after the operation began; most operations take as long.
const WITHIN: Duration = Duration::from_millis(150);

/// Marsaglia's xorshift: the same moments for the same seed, as far as the machine is the same.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper bits are the better ones; a limit fits in them.
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    fn moment(&mut self) -> Duration {
        WITHIN.mul_f64(self.below(1000) as f64 / 1000.0)
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> Result<u64> {
    if let Some(given) = setting(SEED) {
        return Ok(given | 1);
    }
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    Ok(u64::from(u32::from_le_bytes(bytes)) | 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_untrue_stuck_or_left() -> Result<()> {
    skip_unless!(possible());
    let (rounds, seed) = (setting(ROUNDS).unwrap_or(FEW), seed()?);
    eprintln!("{rounds} kills with {SEED}={seed}");
    let mut random = Random(seed);
    let handlers = handlers();
    eprintln!("handlers: {handlers:?}");
    let mut scene = Scene::start().await?;
    let before = scene.node.snapshot();
    let mut pool = Pool::new(&scene.image, &handlers);
    pool.fill(&scene.node).await?;
    for round in 0..rounds {
        let place = random.below(pool.slots());
        let operation = *random.of(&Operation::ALL).context("an operation")?;
        let victim = *random.of(&Victim::ALL).context("a victim")?;
        let story = format!(
            "{SEED}={seed}, round {round}: {victim:?} killed during {operation:?} of {place}"
        );
        one(
            &mut scene,
            &mut pool,
            &mut random,
            (place, operation, victim),
        )
        .await
        .with_context(|| format!("{story}\nlog of the daemon:\n{}", scene.node.log_tail(60)))?;
    }
    scene.node.remove_pods().await?;
    scene.node.nothing_left(&before).await?;
    scene.node.finish().await
}

/// Those that this machine has the programs for.
fn handlers() -> Vec<&'static str> {
    let has = |program| requirements::program(program).is_ok();
    let runtimes = [
        (has("runc"), "runc", "conmon"),
        (
            has("crun") && crun_works_here().is_ok(),
            "crun",
            "conmon-crun",
        ),
        (has("youki"), "youki", "conmon-youki"),
    ];
    let mut handlers = vec![""];
    for (here, by_itself, under_conmon) in runtimes {
        if here {
            handlers.push(by_itself);
            if has("conmon") {
                handlers.push(under_conmon);
            }
        }
    }
    if requirements::shim().is_ok() {
        handlers.push("shim");
    }
    handlers
}

async fn one(
    scene: &mut Scene,
    pool: &mut Pool,
    random: &mut Random,
    (place, operation, victim): (usize, Operation, Victim),
) -> Result<()> {
    let moment = random.moment();
    let plan = pool.plan(place, operation);
    let aim = pool.aim(&scene.node, place, victim, random)?;
    let bystanders = pool.bystanders(place, operation, &aim);
    let node = &scene.node;
    let disturbed = tokio::time::timeout(scaled(LIMIT), plan.run(node));
    let kill = async {
        // This is no synchronisation: any moment is right, also one after the end.
        tokio::time::sleep(moment).await;
        aim.kill().await
    };
    let (first, killed) = tokio::join!(disturbed, kill);
    let killed = killed?;
    let first = first.context("the disturbed operation is stuck")?;
    if victim == Victim::Daemon {
        scene.node.kill().await?;
        scene.node.start_again().await?;
    }
    if let Err(error) = &first {
        ensure!(killed, "nothing was killed, and yet: {error:#}");
        // What an exec did whose monitor died nobody knows, and the client is told so.
        let status = error.downcast_ref::<tonic::Status>();
        ensure!(
            (operation, victim) != (Operation::Exec, Victim::Monitor)
                || status.is_some_and(|status| status.code() == tonic::Code::Unavailable),
            "of an exec without its monitor: {error:#}"
        );
    }
    pool.is_true(&scene.node, killed.then_some((place, &aim)))
        .await
        .context("after the kill")?;
    for id in bystanders {
        let status = scene
            .node
            .client
            .container_status(&id)
            .await
            .context("of a bystander")?;
        ensure!(
            status.state() == ContainerState::ContainerRunning,
            "it was not meant: {status:?}"
        );
    }
    let again = tokio::time::timeout(scaled(LIMIT), plan.run(&scene.node));
    again
        .await
        .context("the repeated operation is stuck")?
        .with_context(|| format!("repeated after {first:?}"))?;
    pool.fill(&scene.node).await.context("fill up")?;
    pool.is_true(&scene.node, None)
        .await
        .context("after the repetition")
}
