//! The requests of the daemon.

use crioxide_monitor_protocol::{
    Failure, FailureKind, OLDEST_VERSION, REPORTS_PER_PAGE, Reply, Request, VERSION,
};

use crate::clients::Incoming;
use crate::monitor::Monitor;

impl Monitor {
    /// Takes one request from a client and answers it, now or when it is done.
    pub(crate) fn serve(&mut self, client: u32) {
        let Some(incoming) = self
            .clients
            .receive(client, &mut self.watcher, &mut self.buffer)
        else {
            return;
        };
        let to = incoming.to;
        let answer = if matches!(incoming.request, Request::Hello { .. })
            || self.clients.has_greeted(client)
        {
            self.answer(incoming)
        } else {
            Err(Failure::new(
                FailureKind::Protocol,
                "the first request has to be `hello`",
            ))
        };
        match answer {
            Ok(Some(reply)) => self.clients.reply(to, reply, &mut self.watcher),
            Ok(None) => {}
            Err(failure) => self
                .clients
                .reply(to, Reply::Failed(failure), &mut self.watcher),
        }
    }

    /// The reply, or `None` when it comes later.
    fn answer(&mut self, incoming: Incoming) -> Result<Option<Reply>, Failure> {
        let to = incoming.to;
        match incoming.request {
            Request::Hello { version } if version < OLDEST_VERSION => Err(Failure::new(
                FailureKind::Version,
                format!(
                    "protocol version {version} is too old, this monitor needs {OLDEST_VERSION}"
                ),
            )),
            Request::Hello { .. } => {
                self.clients.greet(to.client);
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                Ok(Some(Reply::Hello {
                    version: VERSION,
                    pid,
                }))
            }
            Request::List { from } => Ok(Some(self.list(from))),
            Request::CreateContainer(request) => {
                let made = self.create_container(&request, None, to);
                made.map(|()| None)
            }
            Request::RestoreContainer(request) => {
                let made = self.create_container(&request.container, Some(&request.checkpoint), to);
                made.map(|()| None)
            }
            Request::KeepStdio(request) => self.keep_stdio(&request).map(done),
            Request::Made { id, pid } => self.kept_made(&id, pid).map(done),
            Request::Ended {
                id,
                exit_code,
                finished_at_ns,
            } => self.kept_ended(&id, exit_code, finished_at_ns).map(done),
            Request::Exec(request) => self.exec(&request, incoming.descriptors, to).map(|()| None),
            Request::KillExec { exec, signal } => self.kill_exec(&exec, signal).map(done),
            Request::ReopenLog { id } => {
                self.with_container(&id, |container| container.log.reopen())
            }
            Request::Resize { id, width, height } => {
                self.with_container(&id, |container| container.stdio.resize(width, height))
            }
            Request::CloseStdin { id } => self.close_stdin(&id).map(done),
            Request::Remove { id } => self.remove(&id).map(done),
            Request::Shutdown => self.shut_down().map(done),
        }
    }

    fn list(&self, from: usize) -> Reply {
        let known = self
            .containers
            .values()
            .filter_map(|container| container.report());
        let mut containers: Vec<_> = known.skip(from).take(REPORTS_PER_PAGE + 1).collect();
        let next = (containers.len() > REPORTS_PER_PAGE).then(|| from + REPORTS_PER_PAGE);
        containers.truncate(REPORTS_PER_PAGE);
        Reply::Containers { containers, next }
    }

    fn with_container(
        &mut self,
        id: &str,
        act: impl FnOnce(&mut crate::container::Container) -> std::io::Result<()>,
    ) -> Result<Option<Reply>, Failure> {
        let container = self.find(id).ok_or_else(|| not_found(id))?;
        act(container).map_err(|error| {
            Failure::new(FailureKind::System, format!("container {id}: {error}"))
        })?;
        Ok(Some(Reply::Done))
    }

    fn close_stdin(&mut self, id: &str) -> Result<(), Failure> {
        let container = self
            .containers
            .values_mut()
            .find(|container| container.id == id);
        let container = container.ok_or_else(|| not_found(id))?;
        container.end_stdin(&mut self.watcher);
        let key = container.key;
        self.tell_closed_stdin(key);
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let (key, live) = self
            .find(id)
            .map(|c| (c.key, c.is_live()))
            .ok_or_else(|| not_found(id))?;
        if live {
            return Err(Failure::new(
                FailureKind::State,
                format!("container {id} still runs"),
            ));
        }
        if let Some(mut container) = self.containers.remove(&key) {
            container.dismantle(&mut self.watcher);
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<(), Failure> {
        if self.has_living() {
            return Err(Failure::new(
                FailureKind::State,
                "containers still run under this monitor",
            ));
        }
        for container in self.containers.values_mut() {
            container.dismantle(&mut self.watcher);
        }
        self.finished = true;
        Ok(())
    }
}

fn done((): ()) -> Option<Reply> {
    Some(Reply::Done)
}

pub(crate) fn not_found(id: &str) -> Failure {
    Failure::new(
        FailureKind::NotFound,
        format!("no container {id} in this monitor"),
    )
}
