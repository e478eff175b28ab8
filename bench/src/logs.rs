//! What logs cost the process that writes them: our monitor and conmon in turn, in the same minutes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements};

use crate::processes;
use crate::report::Report;
use crate::samples::quantile;

/// Lines that containers write, by name and length with the newline; 0 is none at all.
const LINES: [(&str, usize); 4] = [
    ("80 B", 80),
    ("1 KiB", 1024),
    ("1 MB", 1_000_000),
    ("none", 0),
];
/// How often both take their turn.
const ROUNDS: usize = 5;
/// What the container says in the end, in a line of its own.
const END: &str = "that was all";

/// Who reads: its name in the report, and the handler.
const SIDES: [(&str, &str); 2] = [("ours", "runc"), ("conmon", "conmon")];

/// Processor time per megabyte of output; nothing where a program is missing.
pub(crate) async fn measure(
    node: &TestNode,
    image: &str,
    directory: &Path,
    mebibytes: usize,
    report: &mut Report,
) -> Result<()> {
    if mebibytes == 0 {
        return Ok(());
    }
    for program in ["runc", "conmon"] {
        if let Err(reason) = requirements::program(program) {
            println!("logs are left out: {reason}");
            return Ok(());
        }
    }
    let file = directory.join("output");
    for (name, length) in LINES {
        std::fs::write(&file, payload(length, mebibytes << 20)).context("write the output")?;
        let mut times = SIDES.map(|_| Vec::new());
        for round in 0..=ROUNDS {
            for (at, (side, handler)) in SIDES.into_iter().enumerate() {
                let took = one(node, image, &file, (side, handler)).await?;
                if round > 0 {
                    times[at].push(took);
                }
            }
        }
        let [ours, conmon] = times.map(|times| quantile(&times, 0.5));
        let of = |time: Duration| time.as_secs_f64() * 1e6 / mebibytes as f64;
        report.figure(
            &format!("log, lines of {name}: ours per MiB"),
            of(ours),
            "us",
        );
        report.figure(
            &format!("log, lines of {name}: conmon per MiB"),
            of(conmon),
            "us",
        );
        let ratio = ours.as_secs_f64() / conmon.as_secs_f64();
        report.figure(
            &format!("log, lines of {name}: ours of conmon's"),
            ratio * 100.0,
            "%",
        );
    }
    std::fs::remove_file(&file).context("remove the output")
}

fn payload(line: usize, size: usize) -> Vec<u8> {
    let byte = |at: usize| match line {
        0 => b'x',
        _ if (at + 1).is_multiple_of(line) => b'\n',
        _ => b'x',
    };
    (0..size).map(byte).collect()
}

/// The processor time of whoever reads the output of one container.
async fn one(
    node: &TestNode,
    image: &str,
    output: &Path,
    (side, handler): (&str, &str),
) -> Result<Duration> {
    let script = format!("cat /output; echo; echo '{END}'; exec sleep 3600");
    let mut container = node.container("main", image, &["sh", "-c", &script]);
    container.mounts.push(v1::Mount {
        container_path: "/output".to_owned(),
        host_path: output.display().to_string(),
        readonly: true,
        ..Default::default()
    });
    let pod = node.pod(&format!("logs-{side}"));
    let client = &node.client;
    let pod_id = client.run_pod(&pod, handler).await?;
    let id = client.create(&pod_id, &container, &pod).await?;
    let monitor = monitor_of(node, &id).await?;
    let before = processes::processor_time(monitor)?;
    client.start(&id).await?;
    let log = PathBuf::from(&pod.log_directory).join("main.log");
    eventually("the output is logged", async || {
        ensure!(ends_with(&log, END)?, "the log is not there yet");
        Ok(())
    })
    .await?;
    let took = processes::processor_time(monitor)?.saturating_sub(before);
    client.stop(&id, 0).await?;
    client.remove(&id).await?;
    client.stop_pod(&pod_id).await?;
    client.remove_pod(&pod_id).await?;
    std::fs::remove_file(&log).context("remove the log")?;
    Ok(took)
}

/// The parent of the container's process: who made it reads its output.
async fn monitor_of(node: &TestNode, container: &str) -> Result<u32> {
    let request = v1::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: true,
    };
    let mut runtime = node.client.runtime.clone();
    let answer = runtime.container_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("info")?)?;
    let pid = info["pid"].as_u64().context("its process")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a process's stat")?;
    let parent = rest.split(' ').nth(1).context("its parent")?;
    Ok(parent.parse()?)
}

fn ends_with(path: &Path, text: &str) -> Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(256)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).trim_end().ends_with(text))
}
