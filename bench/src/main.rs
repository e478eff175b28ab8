//! How far the daemon is from what the kernel itself costs.
//!
//! A floor program makes the same namespaces, links, mounts, cgroups and processes as a pod does, by direct system
//! calls and without a protocol, state or checks; the daemon makes real pods. Both run in turn in the same minutes on
//! the same machine, so the ratios mean something where absolute times do not.
#![forbid(unsafe_code)]

mod chart;
mod daemon;
mod floor;
mod lists;
mod logs;
mod many;
mod options;
mod processes;
mod pull;
mod report;
mod samples;
mod scale;

use std::process::ExitCode;

use std::time::Duration;

use anyhow::{Context, Result};
use crioxide_test_support::ScriptedRegistry;
use tokio::runtime::{Builder, Runtime};

use options::Options;
use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The floor forks and changes namespaces: it must be a process of one thread, so it is a role of this program.
    let outcome = if arguments.first().is_some_and(|word| word == floor::ROLE) {
        floor::serve()
    } else {
        run(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::parse(arguments)? else {
        println!("{}", options::USAGE);
        return Ok(());
    };
    let serving = Runtime::new().context("start the registry's runtime")?;
    let registry = serving.block_on(ScriptedRegistry::start())?;
    // The client has one thread: more of them would only hand its calls to each other.
    let client = Builder::new_current_thread().enable_all().build();
    let client = client.context("start the client's runtime")?;
    let mut report = Report::default();
    client.block_on(async {
        let mut node = daemon::Node::start(&options, registry).await?;
        let outcome = measure(&mut node, &options, &mut report).await;
        let finished = node.finish().await;
        // What went wrong first explains what is left.
        outcome.and(finished)
    })?;
    println!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json().to_string())
            .with_context(|| format!("write `{}`", path.display()))?;
    }
    if let Some(path) = &options.chart {
        std::fs::write(path, chart::draw(&report))
            .with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}

async fn measure(node: &mut daemon::Node, options: &Options, report: &mut Report) -> Result<()> {
    if options.lists_ended + options.lists_running > 0 {
        for times in lists::measure(node, options.lists_ended, options.lists_running).await? {
            println!("{times}");
        }
        return Ok(());
    }
    if options.rounds > 0 {
        one_at_a_time(node, options, report).await?;
        scale::execs(node, options, report).await?;
    }
    for _ in 0..options.batches {
        let (floor_up, floor_down) = floor::batch(options.pods)?;
        let (up, down) = node.batch(options.pods, options.at_once).await?;
        let name =
            |what: &str| format!("{} pods {what}, {} at once", options.pods, options.at_once);
        report.add(&name("up"), floor_up, up);
        report.add(&name("down"), floor_down, down);
    }
    if !options.scale.is_empty() {
        scale::measure(node, options, report).await?;
    }
    scale::soak(node, options, report).await?;
    node.logs(options.logs, report).await?;
    if options.pulls > 0 {
        pulls(node, options, report).await?;
    }
    Ok(())
}

/// Before each pod: what the kernel still does after the end of the last one is not this one's.
const PAUSE: Duration = Duration::from_millis(30);

/// Floor and daemon in turn, the first of each thrown away.
async fn one_at_a_time(node: &daemon::Node, options: &Options, report: &mut Report) -> Result<()> {
    let mut floor = floor::Floor::start()?;
    for round in 0..=options.rounds {
        tokio::time::sleep(PAUSE).await;
        let floor_pod = floor.pod(1)?;
        let floor_exec = floor.exec()?;
        tokio::time::sleep(PAUSE).await;
        let ours = node.pod(&format!("one{round}")).await?;
        if round > 0 {
            report.add("pod up, one at a time", floor_pod.up, ours.up);
            report.add("pod down, one at a time", floor_pod.down, ours.down);
            report.add("exec", floor_exec, ours.exec);
            for (name, took) in ours.calls {
                report.call(name, took);
            }
        }
    }
    Ok(())
}

async fn pulls(node: &daemon::Node, options: &Options, report: &mut Report) -> Result<()> {
    let image = pull::Image::make(options.image_mib)?;
    node.serve(&image);
    let (directory, pid) = (node.directory(), node.pid()?);
    let name = format!("pull of {} MiB", options.image_mib);
    let flushes = || processes::flushes(directory).unwrap_or_default();
    let mut spent = [0.0; 3];
    for round in 0..=options.pulls {
        let flushed = flushes();
        let floor = pull::floor(&image, &node.registry_host(), directory)?;
        let (between, seconds) = (flushes(), processes::processor_seconds(pid)?);
        let ours = node.pull().await?;
        if round > 0 {
            report.add(&name, floor, ours);
            spent[0] += processes::processor_seconds(pid)? - seconds;
            spent[1] += count(between - flushed);
            spent[2] += count(flushes() - between);
        }
    }
    let [seconds, floor, ours] = spent.map(|sum| sum / count(options.pulls as u64));
    report.figure(
        &format!("{name}, processor time of the daemon"),
        seconds,
        "s",
    );
    report.figure(&format!("{name}, flushes of the disk, floor"), floor, "");
    report.figure(&format!("{name}, flushes of the disk, daemon"), ours, "");
    many::pulls(node, report).await?;
    let peak = node.peak_memory_mib()?;
    report.figure("daemon, largest resident set", peak, "MiB");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn count(number: u64) -> f64 {
    number as f64
}
