//! Making a container.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_monitor_protocol::{
    Checkpoint, CreateContainer, Failure, FailureKind, KeepStdio, Reply, RuntimeCommand, StdioMode,
};
use crioxide_sys::reap::Ending;
use rustix::net::SocketType;

use crate::children::oom::Kills;
use crate::clients::ReplyTo;
use crate::container::{Console, Container, Phase, validate};
use crate::control::Fifo;
use crate::monitor::Monitor;
use crate::runtime::builtin;
use crate::runtime::child::{Purpose, RuntimeChild, Work, failure};
use crate::socket;
use crate::streams::attach::Attach;
use crate::streams::log::{JOURNAL_SOCKET, Journal, LogFile};
use crate::streams::stdio::{ChildEnds, Stdio, null};
use crate::watcher::{ContainerKey, Source};

/// How long `delete --force` after a failed create may take.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(10);

impl Monitor {
    /// Prepares everything and starts the runtime; the answer follows when that has ended. With a checkpoint the container
    /// is restored.
    pub(crate) fn create_container(
        &mut self,
        request: &CreateContainer,
        checkpoint: Option<&Checkpoint>,
        reply: ReplyTo,
    ) -> Result<(), Failure> {
        let stdio = || match request.stdio {
            StdioMode::Pipes => Stdio::pipes(request.stdin),
            StdioMode::Terminal => Stdio::terminal(),
        };
        let (mut container, ends) = self.prepare(&KeepStdio::from(request), stdio)?;
        container.runtime = Some(request.runtime.clone());
        let key = container.key;
        let started = self.start_runtime(&mut container, (request, checkpoint), ends, reply);
        match started {
            Ok(child) => {
                self.children.push(child);
                self.containers.insert(key, container);
                Ok(())
            }
            Err(error) => {
                container.dismantle(&mut self.watcher);
                let _ = std::fs::remove_file(&request.log.path);
                Err(Failure::from_error(FailureKind::System, &error))
            }
        }
    }

    /// A container without a process, as it is wanted.
    pub(crate) fn prepare<T>(
        &mut self,
        request: &KeepStdio,
        stdio: impl FnOnce() -> io::Result<(Stdio, T)>,
    ) -> Result<(Container, T), Failure> {
        validate(request).map_err(|text| Failure::new(FailureKind::Protocol, text))?;
        if self.find(&request.id).is_some() {
            let text = format!("container {} exists in this monitor already", request.id);
            return Err(Failure::new(FailureKind::Exists, text));
        }
        let key = self.next_key;
        self.next_key += 1;
        let (mut container, ends) = prepare(key, request, stdio)?;
        container.kills = Kills::begin(container.cgroup.as_ref(), self.kills_counted);
        Ok((container, ends))
    }

    fn start_runtime(
        &mut self,
        container: &mut Container,
        (request, checkpoint): (&CreateContainer, Option<&Checkpoint>),
        ends: ChildEnds,
        reply: ReplyTo,
    ) -> io::Result<RuntimeChild> {
        let pid = rustix::process::getpid().as_raw_nonzero().to_string();
        std::fs::write(request.bundle.join("conmon-pidfile"), pid)?;
        if request.stdio == StdioMode::Terminal {
            container.console = Some(self.listen_for_console(container, request)?);
        }
        let console = container
            .console
            .as_ref()
            .map(|console| console.path.clone());
        let purpose = Purpose::Create {
            container: container.key,
            reply,
        };
        let deadline = Some(Instant::now() + Duration::from_millis(request.timeout_ms));
        let call = || match checkpoint {
            Some(checkpoint) => builtin::restore(request, checkpoint),
            None => builtin::create(request, console.as_deref()),
        };
        let work = match &request.runtime {
            RuntimeCommand::Builtin { .. } => Work::Call(&call),
            RuntimeCommand::Command { path, .. } => Work::Execute {
                path,
                args: create_args(request, checkpoint, console.as_ref()),
            },
        };
        RuntimeChild::start(&work, ends, &self.child_settings, purpose, deadline)
    }

    fn listen_for_console(
        &mut self,
        container: &Container,
        request: &CreateContainer,
    ) -> io::Result<Console> {
        // Through the link, because the bundle's own path is too long for a socket address.
        let path = request.attach_socket_dir.join(&request.id).join("console");
        let listener = socket::listen_at(&request.bundle.join("console"), SocketType::STREAM, 1)?;
        let token = self
            .watcher
            .add(&listener, Source::Console(container.key))?;
        Ok(Console {
            listener,
            token: Some(token),
            path,
        })
    }

    /// Takes the terminal's master from the runtime.
    pub(crate) fn accept_console(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(connection) = container
            .console
            .as_ref()
            .and_then(|console| socket::accept(&console.listener))
        else {
            return;
        };
        // The runtime sends as soon as it is connected; waiting here is bounded by its being killed at the deadline.
        let _ = rustix::io::ioctl_fionbio(&connection, false);
        let mut name = [0; 4096];
        let Ok(mut packet) = crioxide_sys::messages::receive_packet(&connection, &mut name) else {
            return;
        };
        if let Some(master) = packet.descriptors.pop() {
            // A failure shows as a container without output.
            let _ = container.stdio.use_terminal(master, container.stdin_mode);
            container.close_console(&mut self.watcher);
        }
    }

    /// The runtime's `create` ended.
    pub(crate) fn create_ended(&mut self, child: RuntimeChild, ending: Ending) {
        let Purpose::Create {
            container: key,
            reply,
        } = child.purpose
        else {
            return;
        };
        // Its message may have come together with its end.
        if self
            .containers
            .get(&key)
            .is_some_and(|container| container.console.is_some())
        {
            self.accept_console(key);
        }
        let report = child.report();
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let created = if ending == Ending::Exited(0) && !child.timed_out {
            created(container, &report)
        } else {
            let said = container.stdio.take_stderr();
            Err(failure(child.timed_out, "creation", &report, &said))
        };
        let live = created.and_then(|(pid, warnings)| {
            container.close_console(&mut self.watcher);
            container
                .go_live(pid, &mut self.watcher)
                .map(|()| (pid, warnings))
                .map_err(|error| Failure::from_error(FailureKind::System, &error))
        });
        match live {
            Ok((pid, warnings)) => {
                self.clients
                    .reply(reply, Reply::Created { pid, warnings }, &mut self.watcher);
                if let Some(early) = self.take_early_ending(pid) {
                    self.container_ended(key, early);
                }
            }
            Err(failure) => self.clean_up(key, reply, failure),
        }
    }

    /// Lets the runtime forget what it made, then answers.
    fn clean_up(&mut self, key: ContainerKey, reply: ReplyTo, failure: Failure) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.phase = Phase::Creating;
        let id = container.id.clone();
        let Some(runtime) = container.runtime.clone() else {
            return self.answer_failed_create(key, reply, failure);
        };
        let ends = || -> io::Result<ChildEnds> {
            Ok(ChildEnds {
                stdin: null()?,
                stdout: null()?,
                stderr: null()?,
            })
        };
        let deadline = Some(Instant::now() + CLEAN_UP_PATIENCE);
        let call = || builtin::delete(&runtime, &id);
        let work = match &runtime {
            RuntimeCommand::Builtin { .. } => Work::Call(&call),
            RuntimeCommand::Command { path, .. } => {
                let mut args = global_args(&runtime);
                args.extend(["delete".into(), "--force".into(), id.clone().into()]);
                Work::Execute { path, args }
            }
        };
        let purpose = Purpose::CleanUp {
            container: key,
            reply,
            failure: failure.clone(),
        };
        match ends().and_then(|ends| {
            RuntimeChild::start(&work, ends, &self.child_settings, purpose, deadline)
        }) {
            Ok(child) => self.children.push(child),
            Err(_) => self.answer_failed_create(key, reply, failure),
        }
    }

    /// The clean-up ended, well or not: the first failure is what counts.
    pub(crate) fn clean_up_ended(&mut self, child: RuntimeChild) {
        if let Purpose::CleanUp {
            container,
            reply,
            failure,
        } = child.purpose
        {
            self.answer_failed_create(container, reply, failure);
        }
    }

    fn answer_failed_create(&mut self, key: ContainerKey, reply: ReplyTo, failure: Failure) {
        if let Some(mut container) = self.containers.remove(&key) {
            container.dismantle(&mut self.watcher);
            container.log.remove();
        }
        self.clients
            .reply(reply, Reply::Failed(failure), &mut self.watcher);
    }
}

/// Log, sockets, pipes: everything but the process. What was made is taken back on failure.
fn prepare<T>(
    key: ContainerKey,
    request: &KeepStdio,
    stdio: impl FnOnce() -> io::Result<(Stdio, T)>,
) -> Result<(Container, T), Failure> {
    let fail = |what: &str, path: &std::path::Path, error: io::Error| {
        Failure::new(
            FailureKind::System,
            format!("cannot {what} `{}`: {error}", path.display()),
        )
    };
    let bundle = &request.bundle;
    let is_new = !request.log.path.exists();
    let mut log = LogFile::open(&request.log.path, request.log.size_max)
        .map_err(|error| fail("open the log", &request.log.path, error))?;
    if let Some(name) = &request.log.journal {
        let path = Path::new(JOURNAL_SOCKET);
        let journal = Journal::new(path, &request.id, name);
        log.copy_to(journal.map_err(|error| fail("send to", path, error))?);
    }
    let rest = || -> Result<_, Failure> {
        let attach = Attach::listen(key, &request.id, bundle, &request.attach_socket_dir)
            .map_err(|error| fail("make the attach socket of", bundle, error))?;
        let control =
            Fifo::control(bundle).map_err(|error| fail("make `ctl` in", bundle, error))?;
        let window_size =
            Fifo::window_size(bundle).map_err(|error| fail("make `winsz` in", bundle, error))?;
        Ok((
            attach,
            control,
            window_size,
            stdio().map_err(|error| fail("make the pipes for", bundle, error))?,
        ))
    };
    let (attach, control, window_size, (stdio, ends)) = rest().inspect_err(|_| {
        if is_new {
            let _ = std::fs::remove_file(&request.log.path);
        }
        for name in ["attach", "ctl", "winsz"] {
            let _ = std::fs::remove_file(bundle.join(name));
        }
        let _ = std::fs::remove_file(request.attach_socket_dir.join(&request.id));
    })?;
    let container = Container {
        key,
        id: request.id.clone(),
        pid: 0,
        phase: Phase::Creating,
        bundle: bundle.clone(),
        persist_dir: request.persist_dir.clone(),
        exit_dir: request.exit_dir.clone(),
        runtime: None,
        stdin_mode: request.stdin,
        stdin_closed: false,
        sync_log: request.log.sync,
        stdio,
        log,
        attach,
        control,
        window_size,
        console: None,
        cgroup: cgroup_of(request),
        oom_watch: None,
        kills: Kills::default(),
        hung_up_until: None,
        log_retry_at: None,
    };
    Ok((container, ends))
}

/// Without a readable place there are no out-of-memory reports; the runtime will complain about the path itself.
fn cgroup_of(request: &KeepStdio) -> Option<Cgroup> {
    let driver = if request.systemd_cgroup {
        Driver::Systemd
    } else {
        Driver::Cgroupfs
    };
    let path = CgroupPath::parse(request.cgroup.as_deref()?, driver).ok()?;
    Some(Cgroup::at(CgroupLayout::host().ok()?, path))
}

fn create_args(
    request: &CreateContainer,
    checkpoint: Option<&Checkpoint>,
    console: Option<&PathBuf>,
) -> Vec<OsString> {
    let mut args = global_args(&request.runtime);
    match checkpoint {
        None => args.push("create".into()),
        Some(checkpoint) => {
            args.extend(["restore", "--detach", "--file-locks"].map(OsString::from));
            for (flag, path) in [
                ("--image-path", &checkpoint.images),
                ("--work-path", &checkpoint.work),
            ] {
                args.push(flag.into());
                args.push(path.into());
            }
        }
    }
    args.push("--bundle".into());
    args.push(request.bundle.clone().into());
    args.push("--pid-file".into());
    args.push(request.bundle.join("pidfile").into());
    if request.no_pivot {
        args.push("--no-pivot".into());
    }
    if let Some(console) = console {
        args.push("--console-socket".into());
        args.push(console.clone().into());
    }
    args.push(request.id.clone().into());
    args
}

/// `--root`, `--systemd-cgroup` and the configured ones, before the subcommand.
pub(crate) fn global_args(runtime: &RuntimeCommand) -> Vec<OsString> {
    let RuntimeCommand::Command {
        root,
        systemd_cgroup,
        args,
        ..
    } = runtime
    else {
        return Vec::new();
    };
    let mut all = Vec::with_capacity(args.len() + 2);
    if *systemd_cgroup {
        all.push("--systemd-cgroup".into());
    }
    all.extend(args.iter().map(OsString::from));
    let mut flag = OsString::from("--root=");
    flag.push(root);
    all.push(flag);
    all
}

/// Pid and warnings of a container whose runtime succeeded.
fn created(container: &Container, report: &str) -> Result<(i32, Vec<String>), Failure> {
    if let Some(RuntimeCommand::Builtin { .. }) = container.runtime {
        return builtin::parse_report(report)
            .map_err(|text| Failure::new(FailureKind::Runtime, text));
    }
    read_pid(&container.bundle.join("pidfile")).map(|pid| (pid, Vec::new()))
}

/// The pid a runtime wrote.
pub(crate) fn read_pid(path: &std::path::Path) -> Result<i32, Failure> {
    let problem = match crioxide_files::read_to_string_limited(path, 64) {
        Ok(text) => match text.trim().parse::<i32>() {
            Ok(pid) if pid > 1 => return Ok(pid),
            _ => "it holds no process id".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    Err(Failure::new(
        FailureKind::Runtime,
        format!(
            "cannot read the runtime's pid file `{}`: {problem}",
            path.display()
        ),
    ))
}
