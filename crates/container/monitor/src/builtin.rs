//! The built-in runtime, called in a forked child.

use std::path::Path;

use crioxide_monitor_protocol::{CreateContainer, RuntimeCommand};

pub(crate) fn create(request: &CreateContainer, _console: Option<&Path>) -> Result<String, String> {
    Err(format!("no built-in runtime for {}", request.id))
}

pub(crate) fn exec(
    _runtime: &RuntimeCommand,
    id: &str,
    _process: &Path,
    _console: Option<&Path>,
) -> Result<String, String> {
    Err(format!("no built-in runtime for {id}"))
}

pub(crate) fn delete(_runtime: &RuntimeCommand, id: &str) -> Result<String, String> {
    Err(format!("no built-in runtime for {id}"))
}

/// Pid and warnings from a report.
pub(crate) fn parse_report(report: &str) -> Result<(i32, Vec<String>), String> {
    serde_json::from_str(report)
        .map_err(|error| format!("the built-in runtime's report is malformed: {error}"))
}
