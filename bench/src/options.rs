//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--rounds N] [--pods N] [--at-once N] [--batches N] [--pulls N] [--image-mib N]
                         [--handler NAME] [--json FILE] [--directory DIR]
                         [--lists-ended N --lists-running N]

Images are unpacked below DIR by floor and daemon; put it on a journaled file system.
Needs root. The daemon is $CRIOXIDE_TEST_BINARY, or what was built last.";

/// How much to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// Pods one after the other.
    pub(crate) rounds: usize,
    /// Pods in a batch.
    pub(crate) pods: usize,
    /// Requests under way at a time in a batch.
    pub(crate) at_once: usize,
    /// Batches; 0 leaves them out.
    pub(crate) batches: usize,
    /// Pulls; with 0 one is made and not counted.
    pub(crate) pulls: usize,
    /// Size of the pulled image before compression.
    pub(crate) image_mib: usize,
    /// The runtime handler, empty for the default.
    pub(crate) handler: String,
    /// Pods that have ended and are listed; with 0 and 0 lists are left out, otherwise everything else is.
    pub(crate) lists_ended: usize,
    /// Pods that run and are listed.
    pub(crate) lists_running: usize,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where images are unpacked, by both sides.
    pub(crate) directory: PathBuf,
}

impl Options {
    /// None when help was asked for.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 30,
            pods: 50,
            at_once: 10,
            batches: 3,
            pulls: 5,
            image_mib: 64,
            handler: String::new(),
            lists_ended: 0,
            lists_running: 0,
            json: None,
            directory: std::env::temp_dir(),
        };
        let mut words = arguments.iter();
        while let Some(name) = words.next() {
            if matches!(name.as_str(), "--help" | "-h") {
                return Ok(None);
            }
            let value = words
                .next()
                .with_context(|| format!("`{name}` wants a value"))?;
            let number = || {
                value
                    .parse()
                    .with_context(|| format!("`{name} {value}`: not a number"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = number()?,
                "--pods" => options.pods = number()?,
                "--at-once" => options.at_once = number()?,
                "--batches" => options.batches = number()?,
                "--pulls" => options.pulls = number()?,
                "--image-mib" => options.image_mib = number()?,
                "--lists-ended" => options.lists_ended = number()?,
                "--lists-running" => options.lists_running = number()?,
                "--handler" => options.handler.clone_from(value),
                "--json" => options.json = Some(value.into()),
                "--directory" => options.directory = value.into(),
                other => bail!("no option `{other}`\n{USAGE}"),
            }
        }
        Ok(Some(options))
    }
}
