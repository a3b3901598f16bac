//! What is known of the steps of a build.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use skep_buildkit::errors::Source;

/// Lines of output that are kept of each step, for when it fails.
const KEPT_LINES: usize = 200;
/// The longest line that is kept, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// News of a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Update {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) logs: Vec<Log>,
    pub(crate) warnings: Vec<Warning>,
}

/// A step, whole each time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vertex {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) completed: Option<DateTime<Utc>>,
    pub(crate) cached: bool,
    pub(crate) error: String,
}

/// Progress inside a step, whole each time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) id: String,
    pub(crate) vertex: String,
    pub(crate) current: i64,
    pub(crate) total: i64,
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) completed: Option<DateTime<Utc>>,
}

/// Output of a step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) vertex: String,
    pub(crate) data: Vec<u8>,
    pub(crate) at: Option<DateTime<Utc>>,
}

/// Something that could be better.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warning {
    pub(crate) short: String,
    pub(crate) detail: Vec<String>,
    pub(crate) url: String,
    /// The step that it was found in.
    pub(crate) vertex: String,
    /// The lines that it is about.
    pub(crate) place: Option<Source>,
}

/// All that is known of a step.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) vertex: Vertex,
    /// In the order in which they came.
    pub(super) statuses: Vec<Status>,
    /// Finished lines of output.
    pub(super) lines: VecDeque<String>,
    /// The line that is not finished.
    pub(super) partial: Vec<u8>,
    /// News since the display looked last.
    pub(super) fresh_lines: Vec<String>,
    pub(super) fresh_statuses: Vec<usize>,
    pub(super) fresh_warnings: Vec<String>,
    pub(super) fresh: bool,
}

impl Job {
    pub(super) fn is_running(&self) -> bool {
        self.vertex.started.is_some() && self.vertex.completed.is_none()
    }

    pub(super) fn is_done(&self) -> bool {
        self.vertex.completed.is_some()
    }

    pub(super) fn was_cancelled(&self) -> bool {
        self.vertex.error.ends_with("context canceled")
    }

    /// Seconds that it takes, or took.
    pub(super) fn seconds(&self, now: DateTime<Utc>) -> f64 {
        seconds(self.vertex.started, self.vertex.completed.or(Some(now)))
    }

    /// The time of a log line, in seconds since the step began.
    fn take_log(&mut self, log: &Log) {
        let began = self.vertex.started;
        for piece in log.data.split_inclusive(|byte| *byte == b'\n') {
            if self.partial.is_empty() {
                self.partial = format!("{:.3} ", seconds(began, log.at)).into_bytes();
            }
            let ends = piece.ends_with(b"\n");
            self.partial.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            if ends || self.partial.len() > LONGEST_LINE {
                self.end_line();
            }
        }
    }

    /// Ends the last line, if it is not.
    pub(super) fn end_line(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(&bytes)).into_owned();
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.fresh_lines.push(text.clone());
        self.lines.push_back(text);
    }
}

/// Seconds between two moments; 0 if one is not known.
pub(super) fn seconds(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> f64 {
    let span = from.zip(to).and_then(|(from, to)| (to - from).to_std().ok());
    span.map_or(0.0, |span| span.as_secs_f64())
}

/// All steps of a build, in the order in which they were heard of.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) jobs: Vec<Job>,
    places: HashMap<String, usize>,
    warnings: Vec<Warning>,
}

impl Trace {
    pub(super) fn take(&mut self, update: Update) {
        for vertex in update.vertices {
            let job = self.job(&vertex.id);
            job.fresh = true;
            // A step that was begun for one and went on for another keeps its first beginning.
            let started = job.vertex.started.or(vertex.started);
            job.vertex = Vertex { started, ..vertex };
            if job.is_done() {
                job.end_line();
            }
        }
        for status in update.statuses {
            let job = self.job(&status.vertex);
            job.fresh = true;
            let place = job.statuses.iter().position(|known| known.id == status.id).unwrap_or(job.statuses.len());
            if place == job.statuses.len() {
                job.statuses.push(status);
            } else {
                job.statuses[place] = status;
            }
            if !job.fresh_statuses.contains(&place) {
                job.fresh_statuses.push(place);
            }
        }
        for log in update.logs {
            let job = self.job(&log.vertex);
            job.fresh = true;
            job.take_log(&log);
        }
        for warning in update.warnings {
            let job = self.job(&warning.vertex);
            job.fresh = true;
            job.fresh_warnings.push(warning.short.clone());
            self.warnings.push(warning);
        }
    }

    fn job(&mut self, id: &str) -> &mut Job {
        let place = *self.places.entry(id.to_owned()).or_insert_with(|| {
            self.jobs.push(Job { vertex: Vertex { id: id.to_owned(), ..Vertex::default() }, ..Job::default() });
            self.jobs.len() - 1
        });
        &mut self.jobs[place]
    }

    /// The output of the steps that failed, framed.
    pub(super) fn failure(&self) -> String {
        let mut out = String::new();
        for job in self.jobs.iter().filter(|job| !job.vertex.error.is_empty() && !job.was_cancelled()) {
            let _ = write!(out, "------\n > {}:\n", job.vertex.name);
            for line in &job.lines {
                let _ = writeln!(out, "{line}");
            }
            out.push_str("------\n");
        }
        out
    }

    /// The warnings of a finished build: a list, or each with its lines of the file. Their texts name the line.
    pub(super) fn warnings(&self, verbose: bool) -> String {
        let mut out = String::new();
        let mut seen: BTreeMap<(String, Option<usize>), ()> = BTreeMap::new();
        let all: Vec<&Warning> = self
            .warnings
            .iter()
            .filter(|warning| {
                let line = warning.place.as_ref().and_then(|place| place.ranges.first()).map(|range| range.0);
                seen.insert((warning.short.clone(), line), ()).is_none()
            })
            .collect();
        if all.is_empty() {
            return out;
        }
        let plural = if all.len() == 1 { "" } else { "s" };
        let hint = if verbose { ":" } else { " (use docker --debug to expand):" };
        let _ = writeln!(out, "\n {} warning{plural} found{hint}", all.len());
        for warning in all {
            let _ = writeln!(out, " - {}", warning.short);
            if verbose {
                for text in &warning.detail {
                    let _ = writeln!(out, "{text}");
                }
                if !warning.url.is_empty() {
                    let _ = writeln!(out, "More info: {}", warning.url);
                }
                if let Some(place) = &warning.place {
                    out.push_str(&place.excerpt());
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_by_lines_with_the_time_since_the_step_began() {
        let start = DateTime::from_timestamp(1_000, 0).expect("a time");
        let later = start + chrono::Duration::milliseconds(1500);
        let mut trace = Trace::default();
        let vertex = Vertex { id: "a".into(), name: "RUN x".into(), started: Some(start), ..Vertex::default() };
        let log = |text: &str| Log { vertex: "a".into(), data: text.into(), at: Some(later) };
        trace.take(Update {
            vertices: vec![vertex.clone()],
            logs: vec![log("one\ntw"), log("o\n")],
            ..Update::default()
        });
        assert_eq!(trace.jobs[0].lines, ["1.500 one", "1.500 two"]);
        let failed = Vertex { completed: Some(later), error: "exit code: 1".into(), ..vertex };
        trace.take(Update { logs: vec![log("end")], vertices: vec![], ..Update::default() });
        trace.take(Update { vertices: vec![failed], ..Update::default() });
        assert_eq!(trace.failure(), "------\n > RUN x:\n1.500 one\n1.500 two\n1.500 end\n------\n");
    }

    #[test]
    fn warnings_are_listed_once() {
        let warning = Warning {
            short: "StageNameCasing: x (line 1)".into(),
            url: "https://docs.docker.com/x".into(),
            place: Some(Source { file: "Dockerfile".into(), text: "FROM a AS B".into(), ranges: vec![(1, 1)] }),
            ..Warning::default()
        };
        let mut trace = Trace::default();
        trace.take(Update { warnings: vec![warning.clone(), warning], ..Update::default() });
        assert_eq!(
            trace.warnings(false),
            "\n 1 warning found (use docker --debug to expand):\n - StageNameCasing: x (line 1)\n"
        );
        assert!(trace.warnings(true).contains("   1 | >>> FROM a AS B"));
    }
}
