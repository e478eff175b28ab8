//! System calls that change the store, and processes that are killed at one of them.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Calls that change what is on disk, or make it durable.
const CALLS: &str = "open,openat,creat,write,pwrite64,writev,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,\
symlink,symlinkat,mkdir,mkdirat,mknod,mknodat,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,fchmod,chmod,fchmodat,fchown,chown,\
lchown,fchownat,utimensat,setxattr,lsetxattr,fsetxattr,copy_file_range";

/// How many steps are tried when nobody wants all.
const SAMPLE: usize = 6;

/// Before the `nth` such call that a thread makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    call: String,
    nth: usize,
}

/// What became of a process.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) killed: bool,
    /// It said that it was done.
    pub(super) acknowledged: bool,
    _output: String,
}

/// Whether processes can be stopped at a call here; says so if not.
pub(super) fn possible() -> bool {
    let traced = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .status();
    let possible = traced.is_ok_and(|status| status.success());
    if !possible {
        println!("skipped: strace is not installed, or may not trace");
    }
    possible
}

/// Runs a command, killed before it takes a step.
pub(super) fn run(command: Command, kill: Option<&Step>) -> Run {
    let mut command = match kill {
        None => command,
        Some(Step { call, nth }) => {
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            traced(
                &command,
                &[
                    "-o",
                    "/dev/null",
                    "-e",
                    &format!("trace={call}"),
                    "-e",
                    &inject,
                ],
            )
        }
    };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Run {
        killed: !output.status.success(),
        acknowledged: text.contains("acknowledged"),
        _output: text + &String::from_utf8_lossy(&output.stderr),
    }
}

/// Runs a command to its end; every call by which it changes something in `place`.
pub(super) fn all(command: Command, place: &Path) -> Vec<Step> {
    let log = place.with_extension("strace");
    let arguments = [
        "-y",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &format!("trace={CALLS}"),
    ];
    let output = traced(&command, &arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let place = place.to_str().unwrap();
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    let mut steps = BTreeSet::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !CALLS.split(',').any(|known| known == call) {
            continue;
        }
        let count = counts
            .entry((thread.to_owned(), call.to_owned()))
            .or_default();
        *count += 1;
        let changes = !call.starts_with("open") || arguments.contains("O_CREAT");
        if changes && arguments.contains(place) {
            steps.insert(Step {
                call: call.to_owned(),
                nth: *count,
            });
        }
    }
    steps.into_iter().collect()
}

fn traced(command: &Command, arguments: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-q"])
        .args(arguments)
        .arg("--")
        .arg(command.get_program());
    traced.args(command.get_args());
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap());
    }
    traced
}

/// Some steps, or all of them if `CRIOXIDE_TEST_STEPS` says `all`.
pub(super) fn sample(steps: &[Step]) -> Vec<Step> {
    let wanted = std::env::var("CRIOXIDE_TEST_STEPS").unwrap_or_default();
    let count = match wanted.as_str() {
        "all" => return steps.to_vec(),
        number => number.parse().unwrap_or(SAMPLE),
    };
    let seed = std::env::var("CRIOXIDE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("CRIOXIDE_TEST_SEED={seed}");
    let (mut left, mut chosen, mut state) = (steps.to_vec(), Vec::new(), seed | 1);
    while chosen.len() < count && !left.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chosen.push(left.swap_remove(usize::try_from(state % left.len() as u64).unwrap()));
    }
    chosen
}
