//! Waiting for a condition, with a bound that only a fault reaches.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a wait may last at most where nothing else is said. Generous: it is a bound against hanging, not a budget.
pub const LIMIT: Duration = Duration::from_secs(60);

const FACTOR: &str = "CRIOXIDE_TEST_WAIT_FACTOR";
/// Between two looks: at first, and at most after a while, so that what is waited for gets the processor.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// `limit`, made longer on slow machines such as emulated ones by `CRIOXIDE_TEST_WAIT_FACTOR`.
#[must_use]
pub fn scaled(limit: Duration) -> Duration {
    let factor = std::env::var(FACTOR)
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(1);
    limit * factor.max(1)
}

/// Asks `probe` until it gives a value. It answers `Err(why not yet)` otherwise; the last reason is in the error.
///
/// # Errors
/// When there is no value within [`LIMIT`].
pub async fn eventually<T, F>(what: &str, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let limit = scaled(LIMIT);
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(reason) if started.elapsed() >= limit => {
                bail!("{what}: not within {} s: {reason:#}", limit.as_secs())
            }
            Err(_) => {
                let pause = (started.elapsed() / 20).clamp(PAUSE, LONGEST_PAUSE);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::eventually;

    #[tokio::test]
    async fn gives_the_first_value() {
        let mut asked = 0;
        let value = eventually("three", async || {
            asked += 1;
            anyhow::ensure!(asked == 3, "asked {asked} times");
            Ok(asked)
        })
        .await;
        assert_eq!(value.expect("a value"), 3);
    }
}
