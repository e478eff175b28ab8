//! The few D-Bus calls to systemd's manager object.

use std::time::{Duration, Instant};

use rustbus::connection::Timeout;
use rustbus::connection::ll_conn::force_finish_on_error;
use rustbus::message_builder::{MarshalledMessage, MessageType};
use rustbus::{MessageBuilder, RpcConn};

use super::SystemdError;
use super::properties::Entry;

/// systemd answers in milliseconds; under memory pressure it has been seen to take seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the system bus.
pub(super) struct Systemd {
    bus: RpcConn,
}

impl Systemd {
    pub(super) fn connect() -> Result<Self, SystemdError> {
        RpcConn::system_conn(Timeout::Duration(PATIENCE))
            .map(|bus| Self { bus })
            .map_err(|source| SystemdError::Connect { source })
    }

    /// Starts a transient unit and waits for its job to end.
    pub(super) fn start_transient(
        &mut self,
        unit: &str,
        properties: &[Entry],
    ) -> Result<(), SystemdError> {
        const METHOD: &str = "StartTransientUnit";
        // Signals about jobs only come to those who asked for them.
        self.call("Subscribe", unit, manager_call("Subscribe"))?;
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let mut watch = rustbus::standard_messages::add_match(rule);
        self.send("AddMatch", unit, &mut watch)?;
        let mut message = manager_call(METHOD);
        let auxiliary: Vec<(String, Vec<Entry>)> = Vec::new();
        message
            .body
            .push_param4(unit, "replace", properties, auxiliary)
            .map_err(|error| SystemdError::Encode {
                method: METHOD,
                unit: unit.into(),
                reason: error.to_string(),
            })?;
        let answer = self.call(METHOD, unit, message)?;
        let job = answer
            .body
            .parser()
            .get::<rustbus::wire::ObjectPath<&str>>()
            .map(|path| path.as_ref().to_owned());
        match job {
            Ok(job) => self.wait_for_job(unit, &job),
            Err(error) => Err(SystemdError::Encode {
                method: METHOD,
                unit: unit.into(),
                reason: error.to_string(),
            }),
        }
    }

    pub(super) fn stop(&mut self, unit: &str) -> Result<(), SystemdError> {
        let mut message = manager_call("StopUnit");
        push(&mut message, "StopUnit", unit, &[unit, "replace"])?;
        self.call("StopUnit", unit, message).map(drop)
    }

    pub(super) fn reset_failed(&mut self, unit: &str) -> Result<(), SystemdError> {
        let mut message = manager_call("ResetFailedUnit");
        push(&mut message, "ResetFailedUnit", unit, &[unit])?;
        self.call("ResetFailedUnit", unit, message).map(drop)
    }

    fn wait_for_job(&mut self, unit: &str, job: &str) -> Result<(), SystemdError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let signal = self
                .bus
                .wait_signal(Timeout::Duration(left))
                .map_err(|source| SystemdError::Transport {
                    method: "JobRemoved",
                    unit: unit.into(),
                    source,
                })?;
            if signal.dynheader.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut parser = signal.body.parser();
            let Ok(_number) = parser.get::<u32>() else {
                continue;
            };
            let Ok(path) = parser.get::<rustbus::wire::ObjectPath<&str>>() else {
                continue;
            };
            let (Ok(_unit), Ok(result)) = (parser.get::<&str>(), parser.get::<&str>()) else {
                continue;
            };
            if path.as_ref() != job {
                continue;
            }
            return match result {
                "done" => Ok(()),
                other => Err(SystemdError::Job {
                    unit: unit.into(),
                    result: other.into(),
                }),
            };
        }
    }

    fn send(
        &mut self,
        method: &'static str,
        unit: &str,
        message: &mut MarshalledMessage,
    ) -> Result<u32, SystemdError> {
        let fail = |source| SystemdError::Transport {
            method,
            unit: unit.into(),
            source,
        };
        self.bus
            .send_message(message)
            .map_err(fail)?
            .write_all()
            .map_err(force_finish_on_error)
            .map_err(fail)
    }

    fn call(
        &mut self,
        method: &'static str,
        unit: &str,
        mut message: MarshalledMessage,
    ) -> Result<MarshalledMessage, SystemdError> {
        let serial = self.send(method, unit, &mut message)?;
        let answer = self
            .bus
            .wait_response(serial, Timeout::Duration(PATIENCE))
            .map_err(|source| SystemdError::Transport {
                method,
                unit: unit.into(),
                source,
            })?;
        if answer.typ != MessageType::Error {
            return Ok(answer);
        }
        Err(SystemdError::Refused {
            method,
            unit: unit.into(),
            name: answer.dynheader.error_name.clone().unwrap_or_default(),
            message: answer
                .body
                .parser()
                .get::<&str>()
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

fn manager_call(method: &str) -> MarshalledMessage {
    MessageBuilder::new()
        .call(method)
        .with_interface("org.freedesktop.systemd1.Manager")
        .on("/org/freedesktop/systemd1")
        .at("org.freedesktop.systemd1")
        .build()
}

fn push(
    message: &mut MarshalledMessage,
    method: &'static str,
    unit: &str,
    texts: &[&str],
) -> Result<(), SystemdError> {
    for text in texts {
        message
            .body
            .push_param(*text)
            .map_err(|error| SystemdError::Encode {
                method,
                unit: unit.into(),
                reason: error.to_string(),
            })?;
    }
    Ok(())
}
