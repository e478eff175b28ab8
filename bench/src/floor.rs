//! The floor of a pod: what the kernel asks for namespaces, a network, a root, cgroups, confinement and a process.
//!
//! It runs in a process of its own with one thread, driven by lines on its stdin: `pod N` makes N pods and takes them
//! down, `exec` runs a command in a pod kept for that. Answers are nanoseconds.

mod cgroup;
mod child;
mod host;
mod link;
mod pod;
mod root;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use cgroup::Hierarchies;
use host::Host;
use pod::Pod;

/// The first argument that makes this program the floor.
pub(crate) const ROLE: &str = "floor";
/// Processes that share a batch: the kernel's own locks leave little for more.
const WORKERS: usize = 2;

/// A floor process.
#[derive(Debug)]
pub(crate) struct Floor {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How long a pod, or several one after the other, took.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) up: Duration,
    pub(crate) down: Duration,
}

impl Floor {
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut process = Command::new(program)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the floor")?;
        let requests = process.stdin.take().context("the pipe just asked for")?;
        let answers = BufReader::new(process.stdout.take().context("the pipe just asked for")?);
        Ok(Self {
            process,
            requests,
            answers,
        })
    }

    /// `count` pods up, then all of them down.
    pub(crate) fn pod(&mut self, count: usize) -> Result<Times> {
        self.ask(&format!("pod {count}"))?;
        self.answer()
    }

    /// A command in a running pod.
    pub(crate) fn exec(&mut self) -> Result<Duration> {
        self.ask("exec")?;
        Ok(self.answer()?.up)
    }

    fn ask(&mut self, request: &str) -> Result<()> {
        writeln!(self.requests, "{request}").context("ask the floor")
    }

    fn answer(&mut self) -> Result<Times> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("hear from the floor")?;
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(up)), Some(Ok(down))) = (numbers.next(), numbers.next()) else {
            bail!("the floor program failed, see above");
        };
        Ok(Times {
            up: Duration::from_nanos(up),
            down: Duration::from_nanos(down),
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It ends at the end of its input; a process that hangs is ended here.
        let _ = writeln!(self.requests, "end");
        let _ = self.process.wait();
    }
}

/// `pods` pods by a few floor processes at the same time: the time until the last was up, and until it was down.
pub(crate) fn batch(pods: usize) -> Result<(Duration, Duration)> {
    let mut workers: Vec<Floor> = (0..WORKERS)
        .map(|_| Floor::start())
        .collect::<Result<_>>()?;
    for worker in &mut workers {
        // So that none of them measures its own start.
        worker.pod(1)?;
    }
    for worker in &mut workers {
        worker.ask(&format!("pod {}", pods.div_ceil(WORKERS)))?;
    }
    let mut slowest = (Duration::ZERO, Duration::ZERO);
    for worker in &mut workers {
        let times = worker.answer()?;
        slowest = (slowest.0.max(times.up), slowest.1.max(times.down));
    }
    Ok(slowest)
}

/// The floor process.
pub(crate) fn serve() -> Result<()> {
    let mut host = Host::prepare()?;
    let mut kept: Option<Pod> = None;
    let mut outcome = Ok(());
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a request")?;
        let times = match line.split_once(' ') {
            Some(("pod", count)) => pods(&mut host, count.parse().context("a number of pods")?),
            None if line == "exec" => exec(&mut host, &mut kept),
            None if line == "end" => break,
            _ => bail!("no request `{line}`"),
        };
        match times {
            Ok(times) => println!("{} {}", times.up.as_nanos(), times.down.as_nanos()),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    if let Some(pod) = kept {
        pod.down()?;
    }
    host.take_away()?;
    outcome
}

fn pods(host: &mut Host, count: usize) -> Result<Times> {
    let mut up = Vec::with_capacity(count);
    let started = Instant::now();
    for _ in 0..count {
        up.push(Pod::up(host)?);
    }
    let up_time = started.elapsed();
    let started = Instant::now();
    for pod in up {
        pod.down()?;
    }
    Ok(Times {
        up: up_time,
        down: started.elapsed(),
    })
}

fn exec(host: &mut Host, kept: &mut Option<Pod>) -> Result<Times> {
    let pod = match kept {
        Some(pod) => pod,
        None => kept.insert(Pod::up(host)?),
    };
    let started = Instant::now();
    let output = child::exec(host, pod)?;
    let took = started.elapsed();
    ensure!(output == b"ok\n", "the command printed {output:?}");
    Ok(Times {
        up: took,
        down: Duration::ZERO,
    })
}
