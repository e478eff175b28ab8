//! `demo`: a pod from nothing to nothing on this machine, to see with one's own eyes that everything works.
//!
//! The daemon runs as it would on a node, only with all its files below one private directory, a bridge and a cgroup
//! of its own, and an image made from this very program. Whatever happens, all of it is taken away at the end.

mod client;
mod daemon;
mod host;
mod image;
mod network;
mod place;
mod report;
mod scenario;
mod teardown;
mod web;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use crioxide_demo_image::Part;
use tokio::signal::unix::{SignalKind, signal};

use client::Client;
use daemon::Daemon;
use place::Place;
use report::Report;

/// Lines of the daemon's log that are shown when something fails.
const LOG_TAIL: usize = 25;

/// The grammar of the command.
pub(crate) fn command() -> Command {
    Command::new("demo")
        .about("Run a pod in private directories, show what happens and remove everything again")
        .arg(
            Arg::new("keep")
                .long("keep")
                .action(ArgAction::SetTrue)
                .help(
                    "Leave the pod and the daemon up until Ctrl-C, and print how to look at them",
                ),
        )
        .arg(
            Arg::new("down")
                .long("down")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("keep")
                .help("Take down the demo in this directory, which was kept or cut off"),
        )
}

/// Plays a part of the demo's image, inside its container.
pub(crate) fn play(part: Part) -> ExitCode {
    match part.play(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", crioxide_telemetry::chain(&error));
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(options: &ArgMatches) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the demo's event loop")?;
    match options.get_one::<PathBuf>("down") {
        Some(directory) => runtime.block_on(take_down(directory)),
        None => runtime.block_on(show(options.get_flag("keep"))),
    }
}

async fn show(keep: bool) -> anyhow::Result<()> {
    let mut report = Report::on_stdout();
    report.title("crioxide demo: a pod from nothing to nothing");
    let place = report
        .step("look at this machine", async { Place::claim() })
        .await?;
    let mut daemon = None;
    let shown = tokio::select! {
        shown = scenario::play(&mut report, &place, &mut daemon) => shown.map(|()| Ended::Shown),
        name = interrupted() => name.map(Ended::Interrupted),
    };
    let outcome = match shown {
        Ok(Ended::Shown) if keep => wait_until_told(&report, &place, daemon.as_mut()).await,
        Ok(Ended::Shown) => Ok(()),
        Ok(Ended::Interrupted(name)) => Err(anyhow::anyhow!("interrupted by {name}")),
        Err(error) => {
            report.failure(&error, &place.log_tail(LOG_TAIL));
            Err(error)
        }
    };
    report.heading("Take everything away");
    let removed = teardown::take_away(&mut report, &place, daemon).await;
    outcome.and(removed)
}

/// How the main part came to its end.
enum Ended {
    Shown,
    Interrupted(&'static str),
}

/// Until somebody wants the end of what was kept.
async fn wait_until_told(
    report: &Report,
    place: &Place,
    daemon: Option<&mut Daemon>,
) -> anyhow::Result<()> {
    report.kept(place);
    let Some(daemon) = daemon else { return Ok(()) };
    tokio::select! {
        name = interrupted() => name.map(drop),
        end = daemon.ended() => Err(end),
    }
}

/// The signal that asks for an early end.
async fn interrupted() -> anyhow::Result<&'static str> {
    let on = |kind| signal(kind).context("listen for signals");
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hang_up = on(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

/// Ends a demo that runs elsewhere, or removes what one left that was killed.
async fn take_down(directory: &Path) -> anyhow::Result<()> {
    let mut report = Report::on_stdout();
    let Some(place) = place::reopen(directory).await? else {
        return report.line(&format!(
            "The demo in {} has ended and taken everything away.",
            directory.display()
        ));
    };
    report.title(&format!("crioxide demo: take away {}", directory.display()));
    let daemon = Daemon::of_socket(&place.socket())?;
    teardown::take_away(&mut report, &place, daemon).await
}
