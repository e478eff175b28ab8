//! Log content.

use std::fs;

use serde_json::json;

use crate::bundle::process;
use crate::pod::{Pod, Runtime, eventually, lines_of};

pub(crate) async fn output_is_logged_by_line_and_stream(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    // A file opened through /dev/stdout must reach the same pipe.
    pod.run(
        "talk",
        "echo out; echo err >&2; echo again > /dev/stdout; echo -n rest",
    )
    .await;
    pod.exit("talk").await;
    let lines = pod.log_lines("talk");
    let stdout: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("stdout"))
        .collect();
    assert_eq!(stdout, ["stdout F out", "stdout F again", "stdout P rest"]);
    assert!(lines.contains(&"stderr F err".to_owned()));

    // More than a pipe holds, in one line, ending at once.
    pod.run("big", "head -c 300000 /dev/zero | tr '\\0' 'x'; echo")
        .await;
    pod.exit("big").await;
    let joined: String = pod
        .log_lines("big")
        .iter()
        .map(|line| &line["stdout F ".len()..])
        .collect();
    assert_eq!(joined.len(), 300_000);
    assert!(pod.log_lines("big").last().unwrap().starts_with("stdout F"));
}

pub(crate) async fn rotation_loses_nothing(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    pod.run("count", "seq 1 200000").await;
    let log = pod.log("count");
    let mut files = Vec::new();
    for number in 0..20 {
        let rotated = log.with_extension(number.to_string());
        fs::rename(&log, &rotated).unwrap();
        pod.monitor.reopen_log(&pod.id("count")).await.unwrap();
        files.push(rotated);
    }
    pod.exit("count").await;
    files.push(log);
    // Reads may cut a number in two: parts are joined until a full record.
    let (mut numbers, mut part) = (Vec::new(), String::new());
    for line in files.iter().flat_map(|file| lines_of(file)) {
        part.push_str(&line["stdout F ".len()..]);
        if line.starts_with("stdout F ") {
            numbers.push(std::mem::take(&mut part).parse::<u32>().unwrap());
        }
    }
    assert!(numbers.into_iter().eq(1..=200_000));
}

pub(crate) async fn terminal_output_is_logged(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    // busybox prints nothing for a size of 0 by 0.
    let script = "echo started; while [ -z \"$(stty size 2> /dev/null)\" ]; do sleep 0.01; done; stty size; exit 5";
    let request = pod.request("tty", process(script, true), json!({}));
    pod.create(request).await.unwrap();
    pod.start_created("tty").await;
    eventually(|| !pod.log_lines("tty").is_empty()).await;
    pod.monitor.resize(&pod.id("tty"), 132, 43).await.unwrap();
    assert_eq!(pod.exit("tty").await.exit_code, 5);
    let lines = joined(&pod.log_lines("tty"));
    assert_eq!(lines.first().unwrap().trim_end(), "started");
    assert_eq!(lines.last().unwrap().trim_end(), "43 132");
}

/// The lines of stdout: a terminal may hand over a line and its end in two parts, each a record of its own.
fn joined(records: &[String]) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for record in records {
        line.push_str(&record["stdout F ".len()..]);
        if record.starts_with("stdout F ") {
            lines.push(std::mem::take(&mut line));
        }
    }
    lines
}
