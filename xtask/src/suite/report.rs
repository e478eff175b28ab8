//! The account of a test run: how many passed and failed, and what skipped itself for which reason.

use std::collections::BTreeMap;
use std::fmt;

/// How a test says that it did not test: a line of its output that begins so.
const SKIPPED: &str = "skipped:";

/// Counts over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    /// Reason to number of tests.
    pub(crate) skipped: BTreeMap<String, usize>,
    pending_skips: usize,
}

impl Report {
    /// Reads nextest's JUnit account, in which each test's output is kept.
    pub(crate) fn from_junit(text: &str) -> Self {
        let mut report = Self::default();
        for case in text.split("<testcase ").skip(1) {
            let name = attribute(case, "name");
            let binary = attribute(case, "classname");
            if case.contains("<failure") || case.contains("<error") {
                report.failed.push(format!("{binary} {name}"));
                continue;
            }
            let reason = case.lines().find_map(|line| {
                let (_, reason) = line.split_once(SKIPPED)?;
                let reason = reason.split("</").next().unwrap_or(reason);
                Some(unescape(reason.trim()))
            });
            report.count(reason);
        }
        report
    }

    /// Takes one line of `cargo test -- --show-output`.
    pub(crate) fn add_line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let mut words = counts.split([' ', ';']).filter(|word| !word.is_empty());
            let passed = words
                .by_ref()
                .find_map(|word| word.parse::<usize>().ok())
                .unwrap_or(0);
            // Tests that skipped themselves are printed before, and counted among, those their binary passed.
            self.passed += passed.saturating_sub(self.pending_skips);
            self.pending_skips = 0;
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        } else if let Some(reason) = line.trim_start().strip_prefix(SKIPPED) {
            *self.skipped.entry(reason.trim().to_owned()).or_default() += 1;
            self.pending_skips += 1;
        }
    }

    fn count(&mut self, skipped: Option<String>) {
        match skipped {
            Some(reason) => *self.skipped.entry(reason).or_default() += 1,
            None => self.passed += 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        write!(
            f,
            "tests: {} passed, {} failed, {skipped} skipped",
            self.passed,
            self.failed.len()
        )?;
        for (reason, count) in &self.skipped {
            write!(f, "\n  skipped {count}: {reason}")?;
        }
        for name in &self.failed {
            write!(f, "\n  failed: {name}")?;
        }
        Ok(())
    }
}

fn attribute(case: &str, name: &str) -> String {
    let marker = format!("{name}=\"");
    let value = case.split('>').next().and_then(|head| {
        let at = head.find(&marker)?;
        // `classname="` ends with `name="`: only a match after a space or at the start is the attribute.
        let at = if at > 0 && !head[..at].ends_with(' ') {
            at + marker.len() + head[at + marker.len()..].find(&format!(" {marker}"))? + 1
        } else {
            at
        };
        head[at + marker.len()..].split('"').next()
    });
    unescape(value.unwrap_or("?"))
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn reads_a_junit_account() {
        let text = r#"<testsuites name="n" tests="3"><testsuite name="crate-a" tests="3">
<testcase name="works" classname="crate-a" time="0.1"></testcase>
<testcase name="no_root" classname="crate-a" time="0.1">
<system-out>running 1 test
skipped: needs root &amp; overlayfs
test no_root ... ok</system-out></testcase>
<testcase classname="crate-a" name="broken" time="0.1"><failure type="t">skipped: no</failure></testcase>
</testsuite></testsuites>"#;
        let report = Report::from_junit(text);
        assert_eq!(report.passed, 1);
        assert_eq!(report.failed, ["crate-a broken"]);
        assert_eq!(
            report.skipped.into_iter().collect::<Vec<_>>(),
            [("needs root & overlayfs".to_owned(), 1)]
        );
    }

    #[test]
    fn reads_the_output_of_cargo_test() {
        let mut report = Report::default();
        for line in [
            "test a ... ok",
            "test b ... FAILED",
            "skipped: needs root",
            "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            report.add_line(line);
        }
        assert_eq!(report.failed, ["b"]);
        assert_eq!(
            report.to_string().lines().next(),
            Some("tests: 5 passed, 1 failed, 1 skipped")
        );
    }
}
