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

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use crioxide_demo_image::Part;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    // From here on a signal is only noted, so that nothing is left halfway.
    let mut interrupts = Interrupts::listen()?;
    let mut report = Report::on_stdout();
    report.title("crioxide demo: a pod from nothing to nothing");
    let claimed = report.step("look at this machine", async { Place::claim() });
    let place = match claimed.await {
        Ok(place) => place,
        Err(error) => {
            report.failure(&error, &[]);
            bail!("the demo cannot run here");
        }
    };
    let mut daemon = None;
    let shown = tokio::select! {
        shown = scenario::play(&mut report, &place, &mut daemon) => shown,
        name = interrupts.next() => Err(anyhow::anyhow!("interrupted by {name}")),
    };
    let kept = match (shown, &mut daemon) {
        (Ok(()), Some(daemon)) if keep => {
            report.kept(&place);
            tokio::select! {
                _ = interrupts.next() => Ok(()),
                end = daemon.ended() => Err(end),
            }
        }
        (shown, _) => shown,
    };
    if let Err(error) = &kept {
        report.failure(error, &place.log_tail(LOG_TAIL));
    }
    report.heading("Take everything away");
    let removed = teardown::take_away(&mut report, &place, daemon).await;
    kept.and(removed).context("the demo failed")
}

/// The signals that ask for an early end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
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
