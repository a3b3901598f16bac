//! The container's log: output in, Docker's json-file format out.
//!
//! Every read of output is encoded and written with one write(2) before the next read, so nothing waits in the shim but the
//! unfinished line of each stream. A log that can't be written (a full disk) stops nobody: what does not fit is counted and
//! dropped, entry by entry; the shim reports it, and once there is room again the log itself tells how much is missing.

mod entry;
mod file;
mod lines;

use std::io;

use super::Stream;
use crate::protocol::LogConfig;
use entry::Encoder;
use file::LogFile;
use lines::Lines;

/// The log of one container.
#[derive(Debug)]
pub(super) struct Log {
    encoder: Encoder,
    file: LogFile,
    stdout: Lines,
    stderr: Lines,
    lost: Lost,
}

/// What could not be written since the last success.
#[derive(Debug, Default)]
struct Lost {
    entries: u64,
    bytes: u64,
    why: String,
}

impl Log {
    pub(super) fn open(config: &LogConfig) -> io::Result<Self> {
        Ok(Log {
            encoder: Encoder::new(&config.attrs),
            file: LogFile::open(config)?,
            stdout: Lines::default(),
            stderr: Lines::default(),
            lost: Lost::default(),
        })
    }

    /// Logs what a stream said. Returns a sentence for people when the log begins to fail.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Option<String> {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch { encoder: &mut self.encoder, file: &mut self.file, lost: &mut self.lost, trouble: None };
        lines.feed(bytes, |line| batch.add(line, stream));
        batch.flush();
        batch.trouble
    }

    /// The stream is over: logs its last line, if that has no end.
    pub(super) fn finish(&mut self, stream: Stream) -> Option<String> {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch { encoder: &mut self.encoder, file: &mut self.file, lost: &mut self.lost, trouble: None };
        lines.finish(|line| batch.add(line, stream));
        batch.flush();
        batch.trouble
    }
}

/// Entries on their way into the file.
struct Batch<'a> {
    encoder: &'a mut Encoder,
    file: &'a mut LogFile,
    lost: &'a mut Lost,
    trouble: Option<String>,
}

/// Encoded bytes after which a batch is written, so that one read of many short lines does not need much memory.
const FLUSH_AT: usize = 64 << 10;

impl Batch<'_> {
    fn add(&mut self, line: &[u8], stream: Stream) {
        if self.encoder.pending() >= FLUSH_AT || self.file.is_full_with(self.encoder.pending()) {
            self.flush();
        }
        self.encoder.add(line, stream);
    }

    fn flush(&mut self) {
        if self.encoder.pending() == 0 {
            return;
        }
        if let Err(e) = self.file.rotate_if_full() {
            self.say(format!("cannot rotate the container's log: {e}"));
        }
        if self.lost.entries > 0 && !self.tell_what_is_missing() {
            self.drop_rest(0);
            return;
        }
        match self.file.append(self.encoder.bytes()) {
            Ok(()) => self.encoder.clear(),
            Err((whole, e)) => {
                self.say(format!("cannot write the container's log, output is lost: {e}"));
                self.lost.why = e.to_string();
                self.drop_rest(whole);
            }
        }
    }

    /// Puts a line about what is missing into the log. Says whether that worked.
    fn tell_what_is_missing(&mut self) -> bool {
        let Lost { entries, bytes, why } = &*self.lost;
        let text = format!("skep: {entries} lines of output ({bytes} bytes) are missing here: {why}\n");
        let notice = self.encoder.alone(text.as_bytes(), Stream::Stderr);
        if self.file.append(&notice).is_err() {
            return false;
        }
        self.say(format!("the container's log is written again; {entries} lines are missing ({why})"));
        *self.lost = Lost::default();
        true
    }

    /// Gives up what comes after the first `whole` bytes of the batch.
    fn drop_rest(&mut self, whole: usize) {
        let (kept, rest) = self.encoder.bytes().split_at(whole);
        let kept = kept.iter().filter(|&&b| b == b'\n').count() as u64;
        self.lost.entries += self.encoder.entries() - kept;
        self.lost.bytes += rest.len() as u64;
        self.encoder.clear();
    }

    fn say(&mut self, text: String) {
        self.trouble.get_or_insert(text);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("skep-log-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("temporary directory");
            Scratch(path)
        }

        fn log(&self, change: impl FnOnce(&mut LogConfig)) -> Log {
            let mut config = LogConfig::new(self.0.join("log"));
            change(&mut config);
            Log::open(&config).expect("log")
        }

        fn lines(&self, name: &str) -> Vec<String> {
            let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
            text.lines()
                .map(|l| {
                    let value: serde_json::Value = serde_json::from_str(l).expect("JSON");
                    value["log"].as_str().expect("log").to_owned()
                })
                .collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn streams_do_not_mix_and_last_lines_need_no_end() {
        let scratch = Scratch::new("streams");
        let mut log = scratch.log(|_| ());
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"error\n");
        log.write(Stream::Stdout, b"o\nthr");
        assert_eq!(scratch.lines("log"), ["one\n", "error\n", "two\n"]);
        log.finish(Stream::Stdout);
        log.finish(Stream::Stdout);
        assert_eq!(scratch.lines("log"), ["one\n", "error\n", "two\n", "thr"]);
    }

    #[test]
    fn rotates_by_size_and_keeps_the_newest() {
        let scratch = Scratch::new("rotate");
        let mut log = scratch.log(|c| (c.max_size, c.max_files) = (Some(1), 3));
        log.write(Stream::Stdout, b"1\n2\n3\n4\n5\n");
        assert_eq!(scratch.lines("log"), ["5\n"]);
        assert_eq!(scratch.lines("log.1"), ["4\n"]);
        assert_eq!(scratch.lines("log.2"), ["3\n"]);
        assert!(!scratch.0.join("log.3").exists());
    }

    #[test]
    fn a_single_file_is_emptied_when_full() {
        let scratch = Scratch::new("single");
        let mut log = scratch.log(|c| (c.max_size, c.max_files) = (Some(1), 1));
        log.write(Stream::Stdout, b"1\n2\n3\n");
        assert_eq!(scratch.lines("log"), ["3\n"]);
        assert!(!scratch.0.join("log.1").exists());
    }

    #[test]
    fn a_reopened_log_goes_on_where_it_was() {
        let scratch = Scratch::new("reopen");
        scratch.log(|_| ()).write(Stream::Stdout, b"1\n");
        scratch.log(|_| ()).write(Stream::Stdout, b"2\n");
        assert_eq!(scratch.lines("log"), ["1\n", "2\n"]);
    }

    #[test]
    fn a_log_that_fails_says_so_once_and_tells_what_is_missing() {
        let scratch = Scratch::new("full");
        let mut log = scratch.log(|_| ());
        log.write(Stream::Stdout, b"1\n");
        let room = std::mem::replace(&mut log.file, LogFile::full());
        let trouble = log.write(Stream::Stdout, b"2\n3\n").expect("says so");
        assert!(trouble.contains("No space left"), "{trouble}");
        assert_eq!(log.write(Stream::Stdout, b"4\n"), None);
        log.file = room;
        assert!(log.write(Stream::Stdout, b"5\n").is_some_and(|t| t.contains("3 lines")));
        let lines = scratch.lines("log");
        assert_eq!((lines.len(), lines[0].as_str(), lines[2].as_str()), (3, "1\n", "5\n"));
        assert!(lines[1].starts_with("skep: 3 lines of output"), "{lines:?}");
    }
}
