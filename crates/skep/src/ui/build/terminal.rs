//! Progress redrawn in place: a line for each step, below it its transfers and the last lines of its output.
//!
//! ```text
//! [+] Building 1.2s (3/5)                                    docker:default
//!  => [internal] load build definition from Dockerfile                 0.0s
//!  => => transferring dockerfile: 98B                                  0.0s
//!  => CACHED [2/3] COPY . .                                            0.0s
//!  => [3/3] RUN make                                                   1.1s
//!  => => # cc -c main.c
//! ```

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::plain::{amount, cut};
use super::trace::{Job, Trace, seconds};

/// Lines of output below a step that runs.
const TAIL: usize = 6;

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Terminal {
    phase: String,
    builder: String,
    began: DateTime<Utc>,
    /// Lines that the last drawing took.
    drawn: usize,
    colour: bool,
}

/// One line to draw.
struct Row {
    text: String,
    /// At the right end.
    time: Option<f64>,
    colour: Option<&'static str>,
    /// Belongs to a step that has ended: left out first where there is no room.
    done: bool,
}

const BLUE: &str = "\x1b[34m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";

impl Terminal {
    pub(super) fn new(phase: &str, builder: &str) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal { phase: phase.to_owned(), builder: builder.to_owned(), began: Utc::now(), drawn: 0, colour }
    }

    /// What to write, so that the screen shows `trace`.
    pub(super) fn draw(&mut self, trace: &Trace, rows: u16, columns: u16, last: bool) -> String {
        let (rows, columns) = (usize::from(rows).max(4), usize::from(columns).max(20));
        let now = Utc::now();
        let mut lines = Vec::new();
        for job in trace.jobs.iter().filter(|job| job.vertex.started.is_some()) {
            describe(job, now, last, &mut lines);
        }
        if !last {
            make_room(&mut lines, rows - 2);
        }
        let mut out = String::from("\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        out.push('\r');
        let _ = writeln!(out, "{}", self.header(trace, now, columns, last));
        for row in &lines {
            let _ = writeln!(out, "{}", self.row(row, columns));
        }
        let height = lines.len() + 1;
        // What an earlier, longer drawing left below.
        out.push_str("\x1b[J\x1b[?25h");
        self.drawn = if last { 0 } else { height };
        out
    }

    fn header(&self, trace: &Trace, now: DateTime<Utc>, columns: usize, last: bool) -> String {
        let done = trace.jobs.iter().filter(|job| job.is_done() && job.vertex.error.is_empty()).count();
        let taken = seconds(Some(self.began), Some(now));
        let mut left = format!("[+] {} {taken:.1}s ({done}/{})", self.phase, trace.jobs.len());
        if last {
            left.push_str(" FINISHED");
        }
        padded(&left, &self.builder, columns)
    }

    fn row(&self, row: &Row, columns: usize) -> String {
        let time = row.time.map(|time| format!("{time:.1}s")).unwrap_or_default();
        let line = padded(&row.text, &time, columns);
        match row.colour.filter(|_| self.colour) {
            Some(colour) => format!("{colour}{line}\x1b[0m"),
            None => line,
        }
    }
}

/// A text and another one at the right end, together exactly as wide as the terminal.
fn padded(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.chars().count() + 1);
    let left = cut(left, room);
    format!("{left:<room$} {right}")
}

fn describe(job: &Job, now: DateTime<Utc>, last: bool, rows: &mut Vec<Row>) {
    let done = job.is_done();
    let mark = match () {
        () if job.was_cancelled() => "CANCELED ",
        () if !job.vertex.error.is_empty() => "ERROR ",
        () if job.vertex.cached => "CACHED ",
        () => "",
    };
    let colour = match () {
        () if job.was_cancelled() => Some(YELLOW),
        () if !job.vertex.error.is_empty() => Some(RED),
        () if done => Some(BLUE),
        () => None,
    };
    let text = format!(" => {mark}{}", job.vertex.name);
    rows.push(Row { text, time: Some(job.seconds(now)), colour, done });
    for status in &job.statuses {
        let time = status.started.map(|started| seconds(Some(started), status.completed.or(Some(now))));
        let colour = if status.completed.is_some() { Some(BLUE) } else { None };
        let text = format!(" => => {}{}", status.id, amount(status));
        rows.push(Row { text, time, colour, done });
    }
    if job.is_running() && !last {
        let skip = job.lines.len().saturating_sub(TAIL);
        for line in job.lines.iter().skip(skip) {
            let text = line.split_once(' ').map_or(line.as_str(), |(_, text)| text);
            rows.push(Row { text: format!(" => => # {}", visible(text)), time: None, colour: None, done: false });
        }
    }
}

/// A program's output without what would move the cursor.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' if letters.peek() == Some(&'[') => {
                letters.next();
                // A control sequence ends with its first letter.
                for inside in letters.by_ref() {
                    if ('@'..='~').contains(&inside) {
                        break;
                    }
                }
            }
            '\t' => out.push_str("    "),
            '\r' => out.clear(),
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out
}

/// Leaves lines out until the rest fits: what has ended first, from the top, then the oldest.
fn make_room(rows: &mut Vec<Row>, room: usize) {
    let mut excess = rows.len().saturating_sub(room);
    rows.retain(|row| {
        let goes = excess > 0 && row.done;
        excess -= usize::from(goes);
        !goes
    });
    let excess = rows.len().saturating_sub(room);
    rows.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Log, Status, Update, Vertex};
    use super::*;

    fn trace(jobs: usize) -> Trace {
        let start = DateTime::from_timestamp(1000, 0);
        let mut trace = Trace::default();
        for number in 0..jobs {
            let vertex = Vertex {
                id: number.to_string(),
                name: format!("[{number}/{jobs}] RUN a command that is rather long"),
                started: start,
                completed: (number + 1 < jobs).then_some(start.expect("a time")),
                ..Vertex::default()
            };
            trace.take(Update { vertices: vec![vertex], ..Update::default() });
        }
        let status = Status {
            id: "transferring context:".into(),
            vertex: "0".into(),
            current: 5,
            started: start,
            completed: start,
            ..Status::default()
        };
        let data = b"one\n\x1b[31mtwo\x1b[0m\n".to_vec();
        let log = Log { vertex: (jobs - 1).to_string(), data, at: start };
        trace.take(Update { statuses: vec![status], logs: vec![log], ..Update::default() });
        trace
    }

    fn plain(drawn: &str) -> Vec<String> {
        drawn.replace("\x1b[?25l", "").replace("\x1b[?25h", "").replace('\r', "").lines().map(visible).collect()
    }

    #[test]
    fn every_line_is_as_wide_as_the_terminal() {
        let mut terminal = Terminal::new("Building", "skep:default");
        for columns in [20, 40, 80, 200] {
            let drawn = plain(&terminal.draw(&trace(3), 24, columns, false));
            for line in &drawn[..drawn.len() - 1] {
                assert_eq!(line.chars().count(), usize::from(columns), "{line:?}");
            }
        }
        let drawn = plain(&terminal.draw(&trace(3), 24, 60, false));
        assert!(drawn[0].starts_with("[+] Building "), "{drawn:?}");
        assert_eq!(drawn[1].trim_end(), " => [0/3] RUN a command that is rather long             0.0s");
        assert_eq!(drawn[2].trim_end(), " => => transferring context: 5B                         0.0s");
        assert_eq!(drawn[5].trim_end(), " => => # one");
        assert_eq!(drawn[6].trim_end(), " => => # two");
    }

    #[test]
    fn what_has_ended_gives_way_to_what_runs() {
        let mut terminal = Terminal::new("Building", "skep:default");
        let drawn = plain(&terminal.draw(&trace(40), 10, 80, false));
        assert!(drawn.len() <= 10, "{}", drawn.len());
        assert!(drawn.iter().any(|line| line.contains("[39/40]")), "{drawn:?}");
        let again = terminal.draw(&trace(3), 10, 80, false);
        assert!(again.contains("\x1b[9A"), "goes up over what was drawn: {again:?}");
    }
}
