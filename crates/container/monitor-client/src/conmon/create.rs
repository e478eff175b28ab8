//! Making a container through a conmon of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crioxide_monitor_protocol::{CreateContainer, MonitorCgroup, Program};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Conmon, ConmonProgram, arguments, find, orphan::end_orphans};
use crate::{MonitorError, Spawner};

/// How long conmon's first process may take to fork the one that stays.
const FORK_PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of conmon's answer: a runtime's error text is in it.
const ANSWER_MAX: u64 = 1 << 20;

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum ConmonError {
    /// The built-in runtime brings a monitor of its own.
    #[error("conmon `{}` cannot run the built-in runtime", path.display())]
    NoRuntimeProgram {
        /// The conmon.
        path: PathBuf,
    },
    /// The pipes to it cannot be made or read.
    #[error("cannot talk to conmon of container {id}")]
    Talk {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be run.
    #[error("cannot run conmon `{}`", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Why.
        source: MonitorError,
    },
    /// It gave up before it forked.
    #[error("conmon `{}` ended with code {code}; its reason is on the daemon's standard error", path.display())]
    Refused {
        /// The program.
        path: PathBuf,
        /// Its exit code.
        code: i32,
    },
    /// It ended without a word.
    #[error("error reading container (probably exited) json message")]
    NoAnswer,
    /// Its answer is none.
    #[error("error reading container (probably exited) json message")]
    BadAnswer {
        /// Why.
        source: serde_json::Error,
    },
    /// The runtime refused.
    #[error("{message}")]
    Runtime {
        /// The runtime's own words.
        message: String,
    },
    /// It took too long. conmon and runtime were killed.
    #[error("create container timeout")]
    TimedOut,
    /// It did not write who it is.
    #[error("conmon of container {id} is gone right after the container was made")]
    Lost {
        /// The container.
        id: String,
    },
}

/// A container with its conmon.
#[derive(Debug)]
pub struct MadeByConmon {
    /// Host pid of the container's first process.
    pub pid: i32,
    /// The conmon that stays with it.
    pub conmon: Conmon,
}

/// What conmon says on its sync pipe.
#[derive(Deserialize)]
struct Answer {
    pid: i32,
    #[serde(default)]
    message: String,
}

impl ConmonProgram {
    /// Makes a container, up to its start. `name` is for the journal; `cgroup` is where conmon is born.
    ///
    /// # Errors
    /// There is no conmon then; the runtime may still hold something of the container.
    pub async fn create(
        &self,
        spawner: &Spawner,
        name: &str,
        request: &CreateContainer,
        cgroup: Option<MonitorCgroup>,
    ) -> Result<MadeByConmon, ConmonError> {
        let args = arguments::create(self, name, request).ok_or_else(|| {
            ConmonError::NoRuntimeProgram {
                path: self.path.clone(),
            }
        })?;
        let program = Program {
            path: self.path.clone(),
            args,
            env: arguments::environment(self, |key| std::env::var(key).ok()),
            directory: request.bundle.clone(),
            cgroup,
            stdio: false,
        };
        // An old one would be taken for the answer.
        for file in [super::process::PID_FILE, "pidfile"] {
            let _ = std::fs::remove_file(request.bundle.join(file));
        }
        let talk = |source| ConmonError::Talk {
            id: request.id.clone(),
            source,
        };
        let killed_if_given_up = KillOnDrop(Some(request));
        let limit = Duration::from_millis(request.timeout_ms);
        let made = tokio::time::timeout(limit, async {
            let (ours, theirs) = pair().map_err(talk)?;
            let (start, wait) = pair().map_err(talk)?;
            // It is born in its cgroup, so there is nothing to hold it back for.
            rustix::io::write(&start, &[0]).map_err(|error| talk(error.into()))?;
            let ends = [theirs.as_fd(), wait.as_fd()];
            let run = spawner.run(program, &ends, FORK_PATIENCE).await;
            let code = run.map_err(|source| ConmonError::Run {
                path: self.path.clone(),
                source,
            })?;
            drop((theirs, wait));
            let answer = tokio::select! {
                answer = answer(ours) => answer.map_err(talk)?,
                never = end_orphans(&request.bundle, &request.id) => match never {},
            };
            if answer.is_empty() && code != 0 {
                return Err(ConmonError::Refused {
                    path: self.path.clone(),
                    code,
                });
            }
            if answer.is_empty() {
                return Err(ConmonError::NoAnswer);
            }
            let answer: Answer = serde_json::from_slice(&answer)
                .map_err(|source| ConmonError::BadAnswer { source })?;
            if answer.pid <= 0 {
                let message = match answer.message.trim() {
                    "" => "the runtime ended without a word".to_owned(),
                    message => message.to_owned(),
                };
                return Err(ConmonError::Runtime { message });
            }
            let conmon = find(&request.bundle, &request.id).ok_or_else(|| ConmonError::Lost {
                id: request.id.clone(),
            })?;
            Ok(MadeByConmon {
                pid: answer.pid,
                conmon,
            })
        })
        .await
        .unwrap_or(Err(ConmonError::TimedOut))?;
        killed_if_given_up.disarm();
        Ok(made)
    }
}

/// Ends the conmon of a container that did not come to be.
struct KillOnDrop<'a>(Option<&'a CreateContainer>);

impl KillOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        let conmon = self
            .0
            .and_then(|request| find(&request.bundle, &request.id));
        if let Some(conmon) = conmon {
            conmon.kill();
        }
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// The first line of what conmon says.
async fn answer(socket: OwnedFd) -> io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let stream = UnixStream::from_std(socket.into())?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_MAX))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}
