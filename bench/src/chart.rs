//! The figures as a picture: bars of floor and daemon, the calls of a pod's life, curves over numbers of pods.

use std::fmt::Write;
use std::time::Duration;

use crate::report::{Curve, Plot, Report, millis};
use crate::samples::quantile;

const WIDTH: f64 = 760.0;
/// Where bars begin, right of their names.
const LEFT: f64 = 230.0;
/// What is kept free right of the longest bar for its number.
const RIGHT: f64 = 110.0;
const BAR: f64 = 16.0;
const GAP: f64 = 6.0;
const HEADING: f64 = 34.0;
const PLOT: f64 = 220.0;
const FLOOR: &str = "#9aa5b1";
const DAEMON: &str = "#2f6db5";
const COLOURS: [&str; 8] = [
    "#2f6db5", "#c2571a", "#3c8f4f", "#8d4fa8", "#b8362f", "#4d8d99", "#9a7d0a", "#5c5c5c",
];

/// One drawing, growing downwards.
struct Drawing {
    body: String,
    y: f64,
}

/// A file that every browser shows.
pub(crate) fn draw(report: &Report) -> String {
    let mut drawing = Drawing {
        body: String::new(),
        y: 10.0,
    };
    if !report.rows.is_empty() {
        drawing.heading("Median in ms; grey: floor of direct system calls, blue: daemon");
        for row in &report.rows {
            let (floor, daemon) = (middle(&row.floor), middle(&row.daemon));
            // Each pair has its own scale: a pull and an exec share none.
            let longest = floor.max(daemon);
            drawing.bar(&row.what, floor, longest, FLOOR, "");
            let ratio = format!(" = {:.1}x", row.ratio());
            drawing.bar("", daemon, longest, DAEMON, &ratio);
            drawing.y += GAP;
        }
    }
    if !report.calls.is_empty() {
        drawing.heading("Median of each call in ms");
        let times: Vec<f64> = report
            .calls
            .iter()
            .map(|(_, samples)| middle(samples))
            .collect();
        let longest = times.iter().copied().fold(0.0, f64::max);
        for ((name, _), time) in report.calls.iter().zip(times) {
            drawing.bar(name, time, longest, DAEMON, "");
        }
    }
    for plot in Plot::ALL {
        let curves = report.curves.iter().filter(|curve| curve.plot == plot);
        let curves: Vec<_> = curves.filter(|curve| curve.points.len() > 1).collect();
        if !curves.is_empty() {
            drawing.heading(plot.heading());
            drawing.curves(&curves);
        }
    }
    let height = drawing.y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
        drawing.body
    )
}

impl Drawing {
    fn heading(&mut self, text: &str) {
        self.y += HEADING;
        let y = self.y - 12.0;
        self.add(&format!(
            "<text x=\"10\" y=\"{y:.0}\" font-weight=\"bold\">{}</text>",
            escaped(text)
        ));
    }

    fn bar(&mut self, name: &str, value: f64, longest: f64, colour: &str, note: &str) {
        let width = (WIDTH - LEFT - RIGHT) * value / longest.max(f64::MIN_POSITIVE);
        let (y, base) = (self.y, self.y + BAR - 4.0);
        let (end, name_end) = (LEFT + width + 5.0, LEFT - 8.0);
        self.add(&format!(
            "<text x=\"{name_end:.0}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{base:.1}\">{value:.2}{note}</text>",
            escaped(name),
            BAR - 2.0
        ));
        self.y += BAR;
    }

    fn curves(&mut self, curves: &[&Curve]) {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let most = points().map(|(pods, _)| *pods).max().unwrap_or(1);
        let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
        let (top, bottom) = (self.y, self.y + PLOT);
        let right = WIDTH - RIGHT - 60.0;
        let x = |pods: usize| 50.0 + (right - 50.0) * number(pods) / number(most.max(1));
        let y = |value: f64| bottom - PLOT * value / highest.max(f64::MIN_POSITIVE);
        self.add(&format!(
            "<path d=\"M50 {top:.0}V{bottom:.0}H{right:.0}\" stroke=\"black\" fill=\"none\"/>\
             <text x=\"44\" y=\"{:.0}\" text-anchor=\"end\">{highest:.0}</text>\
             <text x=\"44\" y=\"{bottom:.0}\" text-anchor=\"end\">0</text>",
            top + 6.0
        ));
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<String> = curve
                .points
                .iter()
                .map(|(pods, value)| format!("{:.1},{:.1}", x(*pods), y(*value)))
                .collect();
            self.add(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.join(" ")
            ));
        }
        if let Some(curve) = curves.first() {
            for (pods, _) in &curve.points {
                let (x, base) = (x(*pods), bottom + 15.0);
                self.add(&format!(
                    "<text x=\"{x:.0}\" y=\"{base:.0}\" text-anchor=\"middle\">{pods}</text>"
                ));
            }
        }
        for (at, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let (x, base) = (right + 14.0, top + 12.0 + 18.0 * number(at));
            self.add(&format!(
                "<text x=\"{x:.0}\" y=\"{base:.0}\" fill=\"{colour}\">{}</text>",
                escaped(&curve.what)
            ));
        }
        self.y = bottom + 24.0;
    }

    fn add(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn middle(samples: &[Duration]) -> f64 {
    millis(quantile(samples, 0.5))
}

#[expect(clippy::cast_precision_loss, reason = "counts of this size are exact")]
fn number(value: usize) -> f64 {
    value as f64
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_everything_that_was_measured() {
        let mut report = Report::default();
        let ms = Duration::from_millis;
        report.add("pod <up>", ms(4), ms(10));
        report.call("RunPodSandbox", ms(3));
        report.point("exec", 1, ms(2));
        report.point("exec", 50, ms(3));
        report.plot(Plot::Memory, "daemon", 1, 4.0);
        report.plot(Plot::Memory, "daemon", 50, 6.0);
        report.plot(Plot::Starts, "start", 50, 90.0);
        let picture = draw(&report);
        for part in [
            "pod &lt;up>",
            "10.00 = 2.5x",
            "RunPodSandbox",
            "<polyline",
            ">50<",
            "Memory (PSS)",
        ] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert!(!picture.contains("Start of"), "one point is no line");
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }
}
