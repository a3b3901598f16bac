//! Copying between a container's stream and the standard streams, and the keys that detach.

use std::io;

use skep_client::{Demultiplexer, HijackedReader, HijackedWriter, Source};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const BUFFER: usize = 32 * 1024;

/// A sequence of keys that ends an attachment, `ctrl-p,ctrl-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Docker's default.
    pub(crate) const DEFAULT: &'static str = "ctrl-p,ctrl-q";

    /// Reads `a`, `ctrl-x`, separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for part in text.split(',') {
            let code = match part.as_bytes() {
                [single] => *single,
                _ => match part.strip_prefix("ctrl-").map(str::as_bytes) {
                    Some([letter @ b'a'..=b'z']) => letter - b'a' + 1,
                    Some([b'@']) => 0,
                    Some([symbol @ b'['..=b'_']) => symbol - b'[' + 27,
                    Some(_) | None => return Err(format!("Unknown character: '{part}'")),
                },
            };
            keys.push(code);
        }
        Ok(DetachKeys(keys))
    }
}

/// Finds the detach keys in what is typed. Keys that only begin the sequence are held back until it is decided.
#[derive(Debug)]
pub(crate) struct DetachFilter {
    keys: DetachKeys,
    matched: usize,
}

impl DetachFilter {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        DetachFilter { keys, matched: 0 }
    }

    /// Appends to `out` what may be passed on; true if the sequence was completed.
    pub(crate) fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        let keys = &self.keys.0;
        for &key in typed {
            if key == keys[self.matched] {
                self.matched += 1;
                if self.matched == keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&keys[..self.matched]);
            self.matched = usize::from(key == keys[0] && keys.len() > 1);
            if self.matched == 0 {
                out.push(key);
            }
        }
        false
    }
}

/// How an attachment's input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// stdin was at its end, or the other side closed.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// Copies stdin to the container until its end.
pub(crate) async fn copy_stdin(mut writer: HijackedWriter, keys: Option<DetachKeys>) -> io::Result<InputEnd> {
    let mut stdin = tokio::io::stdin();
    copy_input(&mut stdin, &mut writer, keys).await
}

async fn copy_input(
    input: &mut (impl AsyncRead + Unpin),
    writer: &mut HijackedWriter,
    keys: Option<DetachKeys>,
) -> io::Result<InputEnd> {
    let mut filter = keys.map(DetachFilter::new);
    let mut buffer = vec![0; BUFFER];
    let mut passed = Vec::new();
    loop {
        let length = input.read(&mut buffer).await?;
        if length == 0 {
            // The process sees the end of its input; its output still comes.
            let _ = writer.close().await;
            return Ok(InputEnd::Closed);
        }
        let typed = &buffer[..length];
        let (bytes, detached) = match &mut filter {
            None => (typed, false),
            Some(filter) => {
                passed.clear();
                let detached = filter.feed(typed, &mut passed);
                (passed.as_slice(), detached)
            }
        };
        if !bytes.is_empty() && writer.send(bytes).await.is_err() {
            return Ok(InputEnd::Closed);
        }
        if detached {
            return Ok(InputEnd::Detached);
        }
    }
}

/// Copies a raw stream (a terminal's) to stdout.
pub(crate) async fn copy_raw(reader: &mut HijackedReader) -> Result<(), crate::cli::Failure> {
    let mut stdout = tokio::io::stdout();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stdout.write_all(&buffer[..length]).await?;
        stdout.flush().await?;
    }
}

/// Which of a container's output streams are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Takes a multiplexed stream apart, to stdout and stderr.
pub(crate) struct Splitter {
    demultiplexer: Demultiplexer,
    shown: Shown,
}

impl Splitter {
    pub(crate) fn new(shown: Shown) -> Self {
        Splitter { demultiplexer: Demultiplexer::default(), shown }
    }

    /// Writes what the new bytes complete.
    pub(crate) async fn feed(&mut self, bytes: &[u8]) -> Result<(), crate::cli::Failure> {
        self.demultiplexer.push(bytes);
        let (mut out, mut err) = (false, false);
        let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(frame) = self.demultiplexer.next_frame()? {
            match frame.source {
                Source::Stdout if self.shown.stdout => {
                    stdout.write_all(&frame.data).await?;
                    out = true;
                }
                Source::Stderr if self.shown.stderr => {
                    stderr.write_all(&frame.data).await?;
                    err = true;
                }
                Source::Stdout | Source::Stderr => {}
                Source::System => {
                    let text = String::from_utf8_lossy(&frame.data).trim_end().to_owned();
                    return Err(crate::cli::Failure::new(1, format!("error from daemon in stream: {text}")));
                }
            }
        }
        if out {
            stdout.flush().await?;
        }
        if err {
            stderr.flush().await?;
        }
        Ok(())
    }
}

/// Copies a multiplexed stream to stdout and stderr.
pub(crate) async fn copy_multiplexed(reader: &mut HijackedReader, shown: Shown) -> Result<(), crate::cli::Failure> {
    let mut splitter = Splitter::new(shown);
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        splitter.feed(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(filter: &mut DetachFilter, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let detached = filter.feed(typed, &mut out);
        (out, detached)
    }

    #[test]
    fn detach_keys_are_found_across_reads() {
        let keys = DetachKeys::parse(DetachKeys::DEFAULT).expect("good keys");
        let mut filter = DetachFilter::new(keys);
        assert_eq!(feed(&mut filter, b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(feed(&mut filter, b"\x10"), (vec![], false));
        assert_eq!(feed(&mut filter, b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(feed(&mut filter, b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(feed(&mut filter, b"\x11"), (vec![], true));
    }

    #[test]
    fn key_names() {
        assert_eq!(DetachKeys::parse("a,ctrl-@,ctrl-["), Ok(DetachKeys(vec![b'a', 0, 27])));
        for bad in ["", "foo", "ctrl-", "ctrl-A1", "a,,b"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
