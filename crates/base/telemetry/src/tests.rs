use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::{debug, error, info, info_span, warn};

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    /// The lines without their times, each of which must be a time.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| {
                let (time, rest) = line
                    .strip_prefix("time=\"")
                    .unwrap()
                    .split_once("\" ")
                    .unwrap();
                time.parse::<jiff::Timestamp>().unwrap();
                assert_eq!(time.find('.'), Some(19), "{time}");
                rest.to_owned()
            })
            .collect()
    }
}

fn logged(level: Level, filter: &str, format: Format, body: impl FnOnce(&LogHandle)) -> Captured {
    let captured = Captured::default();
    let destination = LogDestination::Writer(Box::new(captured.clone()));
    let (subscriber, handle) = subscriber(LogSettings {
        level,
        filter: filter.to_owned(),
        format,
        destination,
    })
    .unwrap();
    tracing::subscriber::with_default(subscriber, || body(&handle));
    captured
}

#[test]
fn text_is_quoted_as_logrus_quotes() {
    let captured = logged(Level::Info, "", Format::Text, |_| {
        info!("plain");
        info!("two words");
        warn!(
            path = "/a/b",
            count = 3,
            odd = "a\"b",
            empty = "",
            "say \"hi\"\n\u{1}ü"
        );
        error!(fatal = true, "the end");
    });
    assert_eq!(
        captured.lines(),
        [
            "level=info msg=plain",
            "level=info msg=\"two words\"",
            "level=warning msg=\"say \\\"hi\\\"\\n\\x01ü\" count=3 empty= odd=\"a\\\"b\" path=/a/b",
            "level=fatal msg=\"the end\"",
        ]
    );
}

#[test]
fn spans_give_their_fields_outermost_first() {
    let captured = logged(Level::Warn, "", Format::Text, |_| {
        let rpc = info_span!(
            "rpc",
            id = "u-1",
            name = "/runtime.v1.RuntimeService/Version"
        )
        .entered();
        let _inner = info_span!("inner", name = "other", pod = tracing::field::Empty).entered();
        tracing::Span::current().record("pod", "p1");
        warn!("inside");
        drop(rpc);
    });
    assert_eq!(
        captured.lines(),
        ["level=warning msg=inside id=u-1 name=/runtime.v1.RuntimeService/Version pod=p1"]
    );
}

#[test]
fn debug_lines_name_their_source() {
    let captured = logged(Level::Debug, "", Format::Text, |_| debug!("here"));
    let lines = captured.lines();
    assert!(
        lines[0].starts_with("level=debug msg=here file=\"base/telemetry/src/tests.rs:"),
        "{lines:?}"
    );
}

#[test]
fn level_and_filter_change_while_running() {
    let captured = logged(Level::Info, "", Format::Text, |handle| {
        for _ in 0..2 {
            debug!("quiet");
            handle.set_level(Level::Debug);
        }
        handle.set_filter("^request").unwrap();
        info!("request one");
        info!("other");
        handle.set_filter("(").unwrap_err();
        info!("still filtered");
        handle.set_filter("").unwrap();
        handle.set_level(Level::Error);
        info!("too low");
        error!("last");
    });
    let messages: Vec<_> = captured
        .lines()
        .iter()
        .map(|line| line.split(" file=").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        messages,
        [
            "level=debug msg=quiet",
            "level=info msg=\"request one\"",
            "level=error msg=last"
        ]
    );
}

#[test]
fn fatal_level_hides_errors() {
    let captured = logged(Level::Fatal, "", Format::Text, |_| {
        error!("hidden");
        error!(fatal = true, "shown");
    });
    assert_eq!(captured.lines(), ["level=fatal msg=shown"]);
}

#[test]
fn other_crates_are_silent_below_trace() {
    let body = |_: &LogHandle| {
        debug!(target: "h2::codec", "frame");
        warn!(target: "h2::codec", "trouble");
    };
    assert_eq!(
        logged(Level::Debug, "", Format::Text, body).lines().len(),
        1
    );
    assert_eq!(
        logged(Level::Trace, "", Format::Text, body).lines().len(),
        2
    );
}

#[test]
fn json_has_the_same_keys() {
    let captured = logged(Level::Info, "", Format::Json, |_| {
        info!(count = 3, level = "x", "two \"words\"")
    });
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["msg"], "two \"words\"");
    assert_eq!(object["level"], "info");
    assert_eq!(object["count"], 3);
    assert_eq!(object["fields.level"], "x");
    assert!(object["time"].is_string());
    assert!(text.ends_with("}\n"));
}

#[test]
fn files_are_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crio.log");
    for message in ["one", "two"] {
        let destination = LogDestination::File(path.clone());
        let settings = LogSettings {
            level: Level::Info,
            filter: String::new(),
            format: Format::Text,
            destination,
        };
        let (subscriber, _) = subscriber(settings).unwrap();
        tracing::subscriber::with_default(subscriber, || info!("{message}"));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().filter(|line| line.contains("msg=")).count(),
        2,
        "{text}"
    );
}

#[test]
fn what_cannot_be_set_up_is_named() {
    let missing = LogDestination::File("/nonexistent/crio.log".into());
    let settings = LogSettings {
        level: Level::Info,
        filter: String::new(),
        format: Format::Text,
        destination: missing,
    };
    let error = subscriber(settings).map(|_| ()).unwrap_err();
    assert_eq!(
        chain(&error).to_string(),
        "failed to open log file `/nonexistent/crio.log`: No such file or directory (os error 2)"
    );
    assert_eq!(
        "loud".parse::<Level>().unwrap_err().to_string(),
        "not a valid logrus Level: \"loud\""
    );
    assert_eq!("WARN".parse::<Level>(), Ok(Level::Warn));
}
