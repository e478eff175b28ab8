//! Pressure stall information: time that tasks lost waiting for a resource.

/// Both lines of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Stalled,
    /// While all tasks waited.
    pub full: Stalled,
}

/// How much time was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalled {
    /// Share of the last 10 seconds, percent.
    pub avg10: f64,
    /// Share of the last minute, percent.
    pub avg60: f64,
    /// Share of the last five minutes, percent.
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

impl Pressure {
    /// Reads `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the `full` line; `None` if there is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut pressure = Self::default();
        let mut found = false;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let stalled = match words.next() {
                Some("some") => &mut pressure.some,
                Some("full") => &mut pressure.full,
                _ => continue,
            };
            found = true;
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key {
                    "avg10" => stalled.avg10 = value.parse().unwrap_or(0.0),
                    "avg60" => stalled.avg60 = value.parse().unwrap_or(0.0),
                    "avg300" => stalled.avg300 = value.parse().unwrap_or(0.0),
                    "total" => stalled.total = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        found.then_some(pressure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.10 total=67\n";
        let pressure = Pressure::parse(text).unwrap();
        assert_eq!(
            pressure.some,
            Stalled {
                avg10: 1.5,
                avg60: 0.25,
                avg300: 0.0,
                total: 12345
            }
        );
        assert_eq!((pressure.full.avg300, pressure.full.total), (0.1, 67));
        assert_eq!(Pressure::parse(""), None);
    }
}
