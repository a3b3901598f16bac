//! Progress line by line: each step has a number, and its lines stand together as long as it is the one that is shown.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::super::human;
use super::trace::{Job, Status, Trace, seconds};

/// How long a step that goes on is shown before another one is.
const STAY: Duration = Duration::from_secs(5);
/// Least time between two lines about the same transfer.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// What was printed.
#[derive(Debug, Default)]
pub(super) struct Plain {
    numbers: HashMap<usize, usize>,
    /// The step whose block is open.
    current: Option<usize>,
    since: Option<Instant>,
    told: HashMap<(usize, usize), Instant>,
    begun: bool,
}

impl Plain {
    /// Prints what is new.
    pub(super) fn draw(&mut self, trace: &mut Trace) -> String {
        let mut out = String::new();
        let (done, rest): (Vec<usize>, Vec<usize>) = (0..trace.jobs.len())
            .filter(|place| trace.jobs[*place].fresh)
            .partition(|place| trace.jobs[*place].is_done());
        let current = self.current;
        let first = current.filter(|place| done.contains(place));
        let mut others: Vec<usize> = done.into_iter().filter(|place| Some(*place) != current).collect();
        others.sort_by_key(|place| trace.jobs[*place].vertex.completed);
        for place in first.into_iter().chain(others) {
            self.print(trace, place, &mut out);
        }
        let running = |place: &usize| trace.jobs[*place].is_running();
        let stays =
            self.current.filter(|place| running(place) && self.since.is_some_and(|since| since.elapsed() < STAY));
        let next = stays
            .or_else(|| rest.iter().copied().find(|place| Some(*place) != self.current && running(place)))
            .or(self.current.filter(running))
            .or_else(|| (0..trace.jobs.len()).find(running));
        if let Some(place) = next.filter(|place| trace.jobs[*place].fresh || self.current != Some(*place)) {
            self.print(trace, place, &mut out);
        }
        out
    }

    /// Prints what is left when the build has ended.
    pub(super) fn last(&mut self, trace: &mut Trace) -> String {
        let mut out = self.draw(trace);
        for place in 0..trace.jobs.len() {
            if trace.jobs[place].fresh && trace.jobs[place].vertex.started.is_some() {
                trace.jobs[place].end_line();
                self.print(trace, place, &mut out);
            }
        }
        out
    }

    fn print(&mut self, trace: &mut Trace, place: usize, out: &mut String) {
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(place).or_insert(next);
        if self.current != Some(place) {
            if let Some(left) = self.current.and_then(|left| self.numbers.get(&left)) {
                let _ = writeln!(out, "#{left} ...");
            }
            if self.begun {
                out.push('\n');
            }
            self.begun = true;
            self.since = Some(Instant::now());
            let _ = writeln!(out, "#{number} {}", trace.jobs[place].vertex.name);
        }
        self.current = Some(place);
        let job = &mut trace.jobs[place];
        for index in std::mem::take(&mut job.fresh_statuses) {
            let status = &job.statuses[index];
            let told = self.told.get(&(place, index));
            if status.completed.is_some() || told.is_none_or(|told| told.elapsed() >= STATUS_PAUSE) {
                self.told.insert((place, index), Instant::now());
                let _ = writeln!(out, "#{number} {}", status_line(status));
            }
        }
        for warning in std::mem::take(&mut job.fresh_warnings) {
            let _ = writeln!(out, "#{number} WARN: {warning}");
        }
        for line in std::mem::take(&mut job.fresh_lines) {
            let _ = writeln!(out, "#{number} {line}");
        }
        job.fresh = false;
        if job.is_done() {
            let _ = writeln!(out, "#{number} {}", ending(job));
            self.current = None;
        }
    }
}

fn ending(job: &Job) -> String {
    if job.was_cancelled() {
        "CANCELED".to_owned()
    } else if !job.vertex.error.is_empty() {
        format!("ERROR: {}", job.vertex.error)
    } else if job.vertex.cached {
        "CACHED".to_owned()
    } else {
        format!("DONE {:.1}s", job.seconds(Utc::now()))
    }
}

/// `transferring context: 12.34kB 0.1s done`.
fn status_line(status: &Status) -> String {
    let mut text = status.id.clone();
    text.push_str(&amount(status));
    let taken = seconds(status.started, status.completed.or(status.at));
    if taken > 0.01 {
        let _ = write!(text, " {taken:.1}s");
    }
    if status.completed.is_some() {
        text.push_str(" done");
    }
    text
}

/// ` 1.2MB / 3.4MB`, or nothing.
pub(super) fn amount(status: &Status) -> String {
    match (status.current, status.total) {
        (0, 0) => String::new(),
        (current, 0) => format!(" {}", bytes(current)),
        (current, total) => format!(" {} / {}", bytes(current), bytes(total)),
    }
}

/// A size with two decimals, as build progress has it.
fn bytes(count: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count}B");
    }
    #[allow(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// What is left of `human` that the terminal display shares.
pub(super) fn cut(text: &str, width: usize) -> String {
    human::ellipsis(text, width)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};

    use super::super::trace::{Log, Update, Vertex, Warning};
    use super::*;

    fn at(milliseconds: i64) -> Option<DateTime<Utc>> {
        Some(DateTime::from_timestamp(1000, 0).expect("a time") + Duration::milliseconds(milliseconds))
    }

    fn vertex(id: &str, started: Option<i64>, completed: Option<i64>) -> Vertex {
        Vertex {
            id: id.to_owned(),
            name: format!("[{id}] RUN x"),
            started: started.and_then(at),
            completed: completed.and_then(at),
            ..Vertex::default()
        }
    }

    #[test]
    fn steps_are_told_one_after_the_other() {
        let mut trace = Trace::default();
        let mut plain = Plain::default();
        let mut out = String::new();
        let mut tell = |update: Update| {
            trace.take(update);
            out.push_str(&plain.draw(&mut trace));
        };
        tell(Update { vertices: vec![vertex("a", None, None), vertex("b", None, None)], ..Update::default() });
        tell(Update { vertices: vec![vertex("a", Some(0), None)], ..Update::default() });
        let status = Status {
            id: "transferring dockerfile:".into(),
            vertex: "a".into(),
            current: 98,
            started: at(0),
            completed: at(50),
            ..Status::default()
        };
        tell(Update { statuses: vec![status], ..Update::default() });
        tell(Update { vertices: vec![vertex("b", Some(10), None)], ..Update::default() });
        let log = Log { vertex: "b".into(), data: b"hi\n".to_vec(), at: at(133) };
        tell(Update { logs: vec![log], vertices: vec![vertex("a", Some(0), Some(100))], ..Update::default() });
        let failed = Vertex { error: "exit code: 1".into(), ..vertex("b", Some(10), Some(1200)) };
        tell(Update { vertices: vec![failed], ..Update::default() });
        let cached = Vertex { cached: true, ..vertex("c", Some(10), Some(10)) };
        tell(Update { vertices: vec![cached], ..Update::default() });
        insta::assert_snapshot!(out, @r"
        #1 [a] RUN x
        #1 transferring dockerfile: 98B 0.1s done
        #1 DONE 0.1s

        #2 [b] RUN x
        #2 0.123 hi
        #2 ERROR: exit code: 1

        #3 [c] RUN x
        #3 CACHED
        ");
    }

    #[test]
    fn warnings_stand_with_their_step() {
        let mut trace = Trace::default();
        let warning = Warning { short: "Casing".into(), vertex: "a".into(), ..Warning::default() };
        let news =
            Update { vertices: vec![vertex("a", Some(0), Some(0))], warnings: vec![warning], ..Update::default() };
        trace.take(news);
        assert_eq!(Plain::default().draw(&mut trace), "#1 [a] RUN x\n#1 WARN: Casing\n#1 DONE 0.0s\n");
    }

    #[test]
    fn sizes_have_two_decimals() {
        assert_eq!([bytes(2), bytes(1234), bytes(12_345_678)], ["2B", "1.23kB", "12.35MB"]);
    }
}
