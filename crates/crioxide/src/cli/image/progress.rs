//! What a pull shows: a bar per layer on a terminal, a line per event elsewhere.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use crioxide_pull::{LayerState, Progress, ProgressEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows progress and can be told that it is over.
pub(super) trait ShownProgress: Progress {
    fn finish(&self);
}

/// The way of showing that fits standard error.
pub(super) fn shown_progress(name: &str) -> Arc<dyn ShownProgress> {
    if std::io::stderr().is_terminal() {
        Arc::new(Bars::default())
    } else {
        Arc::new(Lines(name.to_owned()))
    }
}

/// A bar per layer.
#[derive(Default)]
struct Bars {
    area: MultiProgress,
    layers: Mutex<Vec<ProgressBar>>,
}

impl fmt::Debug for Bars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bars")
    }
}

const BAR: &str = "{prefix} [{bar:30}] {bytes:>11}/{total_bytes:<11} {msg}";

impl Progress for Bars {
    fn report(&self, event: &ProgressEvent) {
        let mut bars = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::Resolved { layers, .. } => {
                let style = ProgressStyle::with_template(BAR)
                    .expect("the template is a constant that is valid");
                *bars = layers
                    .iter()
                    .map(|(digest, size)| {
                        let bar = self
                            .area
                            .add(ProgressBar::new(*size).with_style(style.clone()));
                        bar.with_prefix(short(&digest.to_string()))
                    })
                    .collect();
            }
            ProgressEvent::Layer {
                index, done, state, ..
            } => {
                if let Some(bar) = bars.get(*index) {
                    bar.set_position(*done);
                    match state {
                        LayerState::Fetching => {}
                        LayerState::Reused => bar.finish_with_message("already there"),
                        LayerState::Unpacked => bar.finish_with_message("done"),
                    }
                }
            }
            ProgressEvent::Committing => {}
        }
    }
}

impl ShownProgress for Bars {
    fn finish(&self) {
        for bar in self
            .layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            // A bar of a layer that failed stays where it is.
            bar.abandon();
        }
    }
}

/// A line per event that matters.
#[derive(Debug)]
struct Lines(String);

impl Progress for Lines {
    fn report(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Resolved { source, layers } => {
                let word = if layers.len() == 1 { "layer" } else { "layers" };
                eprintln!("{}: {} {word} from {source}", self.0, layers.len());
            }
            ProgressEvent::Layer {
                digest,
                total,
                state,
                ..
            } => match state {
                LayerState::Fetching => {}
                LayerState::Reused => eprintln!("{}: already there", short(&digest.to_string())),
                LayerState::Unpacked => {
                    eprintln!("{}: done, {total} bytes", short(&digest.to_string()))
                }
            },
            ProgressEvent::Committing => eprintln!("{}: recording the image", self.0),
        }
    }
}

impl ShownProgress for Lines {
    fn finish(&self) {}
}

/// The first digits of a digest, as other tools show them.
fn short(digest: &str) -> String {
    digest
        .split_once(':')
        .map_or(digest, |(_, hex)| hex)
        .chars()
        .take(12)
        .collect()
}
