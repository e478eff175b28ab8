//! What the demo shows: steps with their times, tables and blocks of text; with colours on a terminal, plain elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::place::Place;

const TEXT_WIDTH: usize = 30;

/// Writes to standard output. A reader that went away keeps nothing from being taken down.
#[derive(Debug)]
pub(super) struct Report {
    style: Style,
    steps: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Terminal,
}

impl Report {
    pub(super) fn on_stdout() -> Self {
        let plain = !io::stdout().is_terminal()
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            style: if plain { Style::Plain } else { Style::Terminal },
            steps: 0,
        }
    }

    pub(super) fn title(&self, text: &str) {
        self.put(&format!("{}\n\n", self.painted(BOLD, text)));
    }

    pub(super) fn heading(&self, text: &str) {
        self.put(&format!("\n{}\n", self.painted(BOLD, text)));
    }

    /// One line as it is.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        self.put(&format!("{text}\n"));
        Ok(())
    }

    /// Does a step and shows how long it took and what came of it.
    pub(super) async fn step<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> anyhow::Result<T> {
        self.steps += 1;
        let number = self.steps;
        if self.style == Style::Terminal {
            self.put(&format!("  {number:>2}  {what:<TEXT_WIDTH$}"));
        }
        let start = Instant::now();
        let outcome = work.await;
        let time = shown_time(start.elapsed());
        let (mark, detail) = match &outcome {
            Ok((_, detail)) => (self.painted(GREEN, "ok"), detail.clone()),
            Err(_) => (self.painted(RED, "failed"), String::new()),
        };
        let back = if self.style == Style::Terminal {
            "\r"
        } else {
            ""
        };
        let line = format!(
            "{back}  {number:>2}  {what:<TEXT_WIDTH$} {time:>10}  {mark}  {}",
            self.painted(DIM, &detail)
        );
        self.put(&format!("{}\n", line.trim_end()));
        outcome
            .map(|(value, _)| value)
            .map_err(|error| error.context(what.to_owned()))
    }

    /// Aligned columns; the first row is the head.
    pub(super) fn table(&self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (number, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            let line = format!("  {}", cells.join("  "));
            let line = line.trim_end();
            self.put(&format!(
                "{}\n",
                if number == 0 {
                    self.painted(DIM, line)
                } else {
                    line.to_owned()
                }
            ));
        }
    }

    /// A heading with lines of text below it.
    pub(super) fn block(&self, title: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        self.heading(title);
        for line in lines {
            self.put(&format!(
                "  {} {}\n",
                self.painted(DIM, "|"),
                printable(line.as_ref())
            ));
        }
    }

    /// What went wrong, with the daemon's last words.
    pub(super) fn failure(&self, error: &anyhow::Error, log: &[String]) {
        self.put(&format!(
            "\n{}\n  {error:#}\n",
            self.painted(RED, "It did not work")
        ));
        if !log.is_empty() {
            self.block("The end of the daemon's log", log);
        }
    }

    /// How to look at a demo that stays up.
    pub(super) fn kept(&self, place: &Place) {
        let program = std::env::current_exe()
            .map_or_else(|_| "crioxide".to_owned(), |path| path.display().to_string());
        let socket = format!("unix://{}", place.socket().display());
        self.block(
            "It stays up. Try in another terminal, as root",
            [
                format!("crictl -r {socket} -i {socket} pods"),
                format!(
                    "export CONTAINER_RUNTIME_ENDPOINT={socket} IMAGE_SERVICE_ENDPOINT={socket}"
                ),
                "crictl ps".to_owned(),
                "crictl images".to_owned(),
                "crictl stats".to_owned(),
                "crictl logs $(crictl ps -q)".to_owned(),
                format!(
                    "crictl exec -s $(crictl ps -q) {}",
                    crioxide_demo_image::Part::Inside.command().join(" ")
                ),
                format!("tail -f {}", place.log().display()),
            ],
        );
        self.block(
            "To take it down",
            [
                "Ctrl-C here, or".to_owned(),
                format!("{program} demo --down {}", place.base().display()),
            ],
        );
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        match self.style {
            Style::Terminal if !text.is_empty() => format!("{colour}{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    fn put(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";

fn shown_time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Text of a container, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc"), "a?[2Jb\tc");
    }

    #[tokio::test]
    async fn a_step_gives_its_value_or_its_name() {
        let mut report = Report {
            style: Style::Plain,
            steps: 0,
        };
        let value = report
            .step("count", async { Ok((7, "found".to_owned())) })
            .await
            .unwrap();
        assert_eq!((value, report.steps), (7, 1));
        let failed: anyhow::Result<()> = report.step("break", async { anyhow::bail!("no") }).await;
        assert_eq!(format!("{:#}", failed.unwrap_err()), "break: no");
    }
}
