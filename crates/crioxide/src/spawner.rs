//! The spawner's process: its control socket is standard input.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Lowers the limit of open files to what containers are to get, and serves the daemon until it closes the socket.
pub(crate) fn run(open_files: &str) -> ExitCode {
    if let Some(limit) = parse(open_files) {
        // Without it containers get the daemon's raised limit, which is no reason to have none.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    );
    if null
        .and_then(|null| rustix::stdio::dup2_stdin(&null))
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    super::exit_code(crioxide_monitor::spawner::run(control))
}

/// `soft:hard`, each a number or `unlimited`.
fn parse(text: &str) -> Option<Rlimit> {
    let (soft, hard) = text.split_once(':')?;
    let number = |text: &str| match text {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Rlimit {
        current: number(soft)?,
        maximum: number(hard)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let limit = parse("1024:unlimited").unwrap();
        assert_eq!((limit.current, limit.maximum), (Some(1024), None));
        assert!(parse("").is_none() && parse("x:1").is_none());
    }
}
