//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--rounds N] [--pods N] [--at-once N] [--batches N] [--pulls N] [--image-mib N]
                         [--scale N,N,...] [--soak N] [--logs MIB] [--handler NAME] [--json FILE] [--chart FILE.svg]
                         [--directory DIR] [--profile NAME]
                         [--lists-ended N --lists-running N]

Images are unpacked below DIR by floor and daemon; put it on a journaled file system.
Needs root. The daemon is $CRIOXIDE_TEST_BINARY, or built by the profile (release, or the quickly built profiling).
--scale measures everything again with so many pods beside, and restarts the daemon with the most; --soak makes so many
pods in batches and watches the daemon's memory. After the pulls of one image twenty different ones are pulled at once, and lists
measured meanwhile. --logs is how much a container writes for each kind of lines, once to our
monitor and once to conmon. 0 rounds, batches, pulls or logs leave that part out.";

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
    /// Pulls; 0 leaves them out.
    pub(crate) pulls: usize,
    /// Size of the pulled image before compression.
    pub(crate) image_mib: usize,
    /// Numbers of pods at which everything is measured again, ascending.
    pub(crate) scale: Vec<usize>,
    /// Pods made in batches to see what stays behind.
    pub(crate) soak: usize,
    /// Megabytes of output that are logged; 0 leaves them out.
    pub(crate) logs: usize,
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
    /// Where they go as a picture.
    pub(crate) chart: Option<PathBuf>,
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
            scale: vec![1, 50],
            soak: 0,
            logs: 256,
            handler: String::new(),
            lists_ended: 0,
            lists_running: 0,
            json: None,
            directory: std::env::temp_dir(),
            chart: None,
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
                "--logs" => options.logs = number()?,
                "--soak" => options.soak = number()?,
                "--scale" => options.scale = numbers(name, value)?,
                "--handler" => options.handler.clone_from(value),
                "--json" => options.json = Some(value.into()),
                "--directory" => options.directory = value.into(),
                "--chart" => options.chart = Some(value.into()),
                other => bail!("no option `{other}`\n{USAGE}"),
            }
        }
        Ok(Some(options))
    }
}

fn numbers(name: &str, text: &str) -> Result<Vec<usize>> {
    let words = text.split(',').filter(|word| !word.is_empty());
    let mut numbers: Vec<usize> = words
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{name} {text}`: not numbers with commas between"))?;
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(words: &str) -> anyhow::Result<Option<Options>> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn sizes_and_files() {
        let options = parse("--rounds 3 --scale 50,1 --chart a.svg").expect("these options");
        let options = options.expect("not the help");
        assert_eq!((options.rounds, options.scale), (3, vec![1, 50]));
        assert_eq!(options.chart.as_deref(), Some("a.svg".as_ref()));
        assert!(parse("--help").expect("the help").is_none());
        for bad in ["--scale 1,x", "--rounds", "--rounds x", "--unknown 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
