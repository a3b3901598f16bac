//! Networks: skep beside Docker and Podman, and beside a bare bridge with bare pairs of links, each on a host of its own
//! (`home.rs`). What an engine can't do, or not here, is printed as missing, with the reason.

mod attach;
mod dns;
mod home;
mod scale;
mod space;
mod traffic;

use anyhow::Result;

use super::Arguments;
use super::engines;
use super::report::{Report, Unit};
use home::Home;

/// Something that is measured in rounds, engine by engine.
struct Part {
    cases: Vec<String>,
    /// What takes long gets this part of the rounds.
    fewer: usize,
    /// Whether a round that does not count comes first.
    warm: bool,
    bare: bool,
    measure: fn(&Home, &mut Samples) -> Result<()>,
}

fn parts(rounds: usize) -> [Part; 5] {
    let list = |cases: &[&str]| cases.iter().map(|case| (*case).to_owned()).collect();
    [
        Part { cases: list(&attach::CASES), fewer: 1, warm: true, bare: false, measure: attach::measure },
        Part { cases: traffic::cases(), fewer: 5, warm: false, bare: true, measure: traffic::measure },
        Part { cases: list(&dns::CASES), fewer: 3, warm: true, bare: false, measure: dns::measure },
        // They take their figures several times themselves.
        Part { cases: scale::port_cases(), fewer: rounds, warm: false, bare: false, measure: scale::ports },
        Part { cases: scale::endpoint_cases(), fewer: rounds, warm: false, bare: false, measure: scale::endpoints },
    ]
}

/// Whether any of this is wanted.
pub(super) fn wanted(only: &str) -> bool {
    parts(1).iter().any(|part| part.wanted(only))
}

impl Part {
    fn wanted(&self, only: &str) -> bool {
        self.cases.iter().any(|case| case.contains(only))
    }
}

/// Where the figures of one engine go.
struct Samples<'a> {
    report: &'a mut Report,
    engine: &'static str,
    only: &'a str,
    /// Whether figures count.
    count: bool,
}

impl Samples<'_> {
    fn wants(&self, case: &str) -> bool {
        case.contains(self.only)
    }

    fn add(&mut self, case: &str, unit: Unit, sample: f64) {
        if self.count && self.wants(case) {
            self.report.add(case, self.engine, unit, sample);
        }
    }

    fn missing(&mut self, case: &str, reason: &str) {
        if self.wants(case) {
            self.report.missing(case, self.engine, reason);
        }
    }
}

pub(super) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("skep-bench-net-").tempdir()?;
    let image = engines::image(folder.path())?;
    let names = engines::NAMES.into_iter().filter(|name| !arguments.without.iter().any(|without| without == name));
    let homes: Vec<(&str, Result<Home>)> =
        names.map(|name| (name, Home::of(name, folder.path(), &image))).chain([("bare", Home::bare())]).collect();
    for part in parts(arguments.rounds).iter().filter(|part| part.wanted(&arguments.only)) {
        let mut failed: Vec<Option<String>> =
            homes.iter().map(|(_, home)| home.as_ref().err().map(in_one_line)).collect();
        let rounds = (arguments.rounds / part.fewer).max(1) + usize::from(part.warm);
        for round in 0..rounds {
            for ((name, home), failed) in homes.iter().zip(&mut failed) {
                let mut samples =
                    Samples { report, engine: name, only: &arguments.only, count: round > 0 || !part.warm };
                if let (Ok(home), None) = (home, &failed)
                    && (part.bare || !home.is_bare())
                {
                    *failed = (part.measure)(home, &mut samples).err().as_ref().map(in_one_line);
                }
            }
        }
        for ((name, _), reason) in homes.iter().zip(&failed).filter(|((name, _), _)| part.bare || *name != "bare") {
            let mut samples = Samples { report, engine: name, only: &arguments.only, count: true };
            if let Some(reason) = reason {
                part.cases.iter().for_each(|case| samples.missing(case, reason));
            }
        }
    }
    Ok(())
}

fn in_one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
