//! Medians, spread and ratios: as a table, as JSON, as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Microseconds,
    Kibibytes,
    GigabitsPerSecond,
    PerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::Kibibytes => "KiB",
            Unit::GigabitsPerSecond => "Gb/s",
            Unit::PerSecond => "/s",
        }
    }
}

/// All samples, by case and engine, in the order in which they came.
pub(super) struct Report {
    cases: Vec<Case>,
    /// Engines and reasons.
    missing: Vec<(String, String)>,
}

struct Case {
    name: String,
    /// None while nobody has a sample.
    unit: Option<Unit>,
    engines: Vec<(String, Vec<f64>)>,
    /// Engines that have no samples.
    missing: Vec<String>,
}

impl Case {
    fn unit(&self) -> &'static str {
        self.unit.map_or("", Unit::name)
    }
}

/// Median, and the tenth and ninetieth percentile.
struct Summary {
    median: f64,
    low: f64,
    high: f64,
}

impl Report {
    pub(super) fn new() -> Self {
        Report { cases: Vec::new(), missing: Vec::new() }
    }

    pub(super) fn add(&mut self, case: &str, engine: &str, unit: Unit, sample: f64) {
        let case = self.case(case);
        case.unit = Some(unit);
        match case.engines.iter_mut().find(|(name, _)| name == engine) {
            Some((_, samples)) => samples.push(sample),
            None => case.engines.push((engine.to_owned(), vec![sample])),
        }
    }

    /// Notes that an engine can't be measured, or not to the end: then it keeps the samples that it has.
    pub(super) fn missing(&mut self, case: &str, engine: &str, reason: &str) {
        let case = self.case(case);
        if !case.engines.iter().any(|(name, _)| name == engine) {
            case.missing.push(engine.to_owned());
        }
        let note = (engine.to_owned(), reason.to_owned());
        if !self.missing.contains(&note) {
            self.missing.push(note);
        }
    }

    fn case(&mut self, name: &str) -> &mut Case {
        let position = self.cases.iter().position(|case| case.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            self.cases.push(Case { name, unit: None, engines: Vec::new(), missing: Vec::new() });
            self.cases.len() - 1
        });
        &mut self.cases[position]
    }

    /// Prints the table and writes `bench.json` and `bench.svg` into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        print!("{}", self.table());
        fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(&self.json())?)?;
        fs::write(folder.join("bench.svg"), self.svg())?;
        println!("\nwritten: {0}/bench.json, {0}/bench.svg", folder.display());
        Ok(())
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let wide = self.cases.iter().map(|case| case.name.chars().count()).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "{:<wide$} {:<8} {:>13} {:>23} {:>7} {:>13}",
            "case", "engine", "median", "10% - 90%", "rounds", "skep / engine"
        );
        for case in &self.cases {
            let (name, unit, engines) = (&case.name, case.unit(), &case.engines);
            let own = engines.iter().find(|(name, _)| name == "skep").map(|(_, samples)| summary(samples).median);
            for (engine, samples) in engines {
                let Summary { median, low, high } = summary(samples);
                let ratio = match own {
                    Some(own) if engine != "skep" && median > 0.0 => format!("{:.3}", own / median),
                    _ => String::new(),
                };
                let _ = writeln!(
                    text,
                    "{name:<wide$} {engine:<8} {median:>8.1} {unit:<4} {low:>10.1} - {high:>10.1} {:>7} {ratio:>13}",
                    samples.len()
                );
            }
            for engine in &case.missing {
                let _ = writeln!(text, "{name:<wide$} {engine:<8} {:>8}", "missing");
            }
        }
        for (engine, reason) in &self.missing {
            let _ = writeln!(text, "{engine} is missing or stopped early: {reason}");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let cases = self.cases.iter().map(|case| {
            let engines: BTreeMap<&str, serde_json::Value> = case
                .engines
                .iter()
                .map(|(engine, samples)| {
                    let Summary { median, low, high } = summary(samples);
                    let value = serde_json::json!({ "median": median, "p10": low, "p90": high, "samples": samples });
                    (engine.as_str(), value)
                })
                .collect();
            serde_json::json!({ "case": case.name, "unit": case.unit(), "engines": engines, "missing": case.missing })
        });
        serde_json::Value::Array(cases.collect())
    }

    /// Horizontal bars, each case on a scale of its own.
    fn svg(&self) -> String {
        let rows: usize = self.cases.iter().map(|case| case.engines.len() + 1).sum();
        let height = rows * 20 + 20;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"760\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        let mut y = 10;
        for case in &self.cases {
            let (name, unit, engines) = (&case.name, case.unit(), &case.engines);
            let _ = writeln!(text, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{name}</text>", y + 14);
            y += 20;
            let most = engines.iter().map(|(_, samples)| summary(samples).median).fold(f64::MIN_POSITIVE, f64::max);
            for (engine, samples) in engines {
                let median = summary(samples).median;
                let width = (median / most * 480.0).max(1.0);
                let colour = if engine == "skep" { "#d89000" } else { "#8a93a0" };
                let _ = writeln!(text, "<text x=\"20\" y=\"{}\">{engine}</text>", y + 14);
                let _ = writeln!(
                    text,
                    "<rect x=\"90\" y=\"{}\" width=\"{width:.1}\" height=\"12\" fill=\"{colour}\"/>",
                    y + 4
                );
                let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{}\">{median:.1} {unit}</text>", 96.0 + width, y + 14);
                y += 20;
            }
        }
        text.push_str("</svg>\n");
        text
    }
}

fn summary(samples: &[f64]) -> Summary {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    Summary { median: at(50), low: at(10), high: at(90) }
}
