//! Medians, spread and ratios: as a table, as JSON, as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Kibibytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Kibibytes => "KiB",
        }
    }
}

/// All samples, by case and engine, in the order in which they came.
pub(super) struct Report {
    cases: Vec<(String, Unit, Samples)>,
}

/// By engine.
type Samples = Vec<(String, Vec<f64>)>;

/// Median, and the tenth and ninetieth percentile.
struct Summary {
    median: f64,
    low: f64,
    high: f64,
}

impl Report {
    pub(super) fn new() -> Self {
        Report { cases: Vec::new() }
    }

    pub(super) fn add(&mut self, case: &str, engine: &str, unit: Unit, sample: f64) {
        let position = self.cases.iter().position(|(name, ..)| name == case).unwrap_or_else(|| {
            self.cases.push((case.to_owned(), unit, Vec::new()));
            self.cases.len() - 1
        });
        let engines = &mut self.cases[position].2;
        match engines.iter_mut().find(|(name, _)| name == engine) {
            Some((_, samples)) => samples.push(sample),
            None => engines.push((engine.to_owned(), vec![sample])),
        }
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
        let _ = writeln!(
            text,
            "{:<42} {:<8} {:>10} {:>21} {:>7} {:>13}",
            "case", "engine", "median", "10% - 90%", "rounds", "skep / engine"
        );
        for (case, unit, engines) in &self.cases {
            let own = engines.iter().find(|(name, _)| name == "skep").map(|(_, samples)| summary(samples).median);
            for (engine, samples) in engines {
                let Summary { median, low, high } = summary(samples);
                let ratio = match own {
                    Some(own) if engine != "skep" && median > 0.0 => format!("{:.3}", own / median),
                    _ => String::new(),
                };
                let _ = writeln!(
                    text,
                    "{case:<42} {engine:<8} {median:>7.1} {:<3} {low:>9.1} - {high:>9.1} {:>7} {ratio:>13}",
                    unit.name(),
                    samples.len()
                );
            }
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let cases = self.cases.iter().map(|(case, unit, engines)| {
            let engines: BTreeMap<&str, serde_json::Value> = engines
                .iter()
                .map(|(engine, samples)| {
                    let Summary { median, low, high } = summary(samples);
                    let value = serde_json::json!({ "median": median, "p10": low, "p90": high, "samples": samples });
                    (engine.as_str(), value)
                })
                .collect();
            serde_json::json!({ "case": case, "unit": unit.name(), "engines": engines })
        });
        serde_json::Value::Array(cases.collect())
    }

    /// Horizontal bars, each case on a scale of its own.
    fn svg(&self) -> String {
        let rows: usize = self.cases.iter().map(|(.., engines)| engines.len() + 1).sum();
        let height = rows * 20 + 20;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"760\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        let mut y = 10;
        for (case, unit, engines) in &self.cases {
            let _ = writeln!(text, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{case}</text>", y + 14);
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
                let _ = writeln!(
                    text,
                    "<text x=\"{:.1}\" y=\"{}\">{median:.1} {}</text>",
                    96.0 + width,
                    y + 14,
                    unit.name()
                );
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
