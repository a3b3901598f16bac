//! What containers say: attach, logs, stats, events.

use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::blocking;
use crate::containers::task::Command;
use crate::containers::{attach, bundle_cgroup, sample};
use crate::model::event::{Event, EventFilter};
use crate::model::request::{AttachOptions, Attachment, LogEntry, LogOptions, LogStream, OutputStream};
use crate::model::stats::Stats;
use crate::{Engine, Error, Result, logs};

impl Engine {
    /// Connects to its process; before the start too, so that nothing is missed.
    pub async fn attach_container(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        let keys = attach::parse_detach_keys(options.detach_keys.as_deref(), "detach")?;
        let view = self.container(name)?;
        let tty = view.config.tty;
        let past = match options.logs {
            true => Some(self.past_output(name, &options).await?),
            false => None,
        };
        let keys = if tty { keys } else { Vec::new() };
        let (mut attachment, binding) = attach::late(tty, options.stdin && options.stream, keys);
        if options.stream {
            self.ask(name, |reply| Command::Attach(options, binding, reply)).await?;
        }
        if let Some(past) = past {
            attachment.output = Box::pin(std::io::Cursor::new(past).chain(attachment.output));
        }
        Ok(attachment)
    }

    /// What the log holds so far, framed like live output.
    async fn past_output(&self, name: &str, options: &AttachOptions) -> Result<Bytes> {
        let tty = self.container(name)?.config.tty;
        let wanted = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
        let mut lines = self.container_logs(name, wanted).await?;
        let mut bytes = BytesMut::new();
        while let Some(entry) = lines.next().await {
            frame(&mut bytes, &entry?, tty);
        }
        Ok(bytes.freeze())
    }

    /// Its log. `tty` of the container tells how to frame it.
    pub async fn container_logs(&self, name: &str, options: LogOptions) -> Result<LogStream> {
        let handle = self.inner.containers.find(name)?;
        let view = handle.view();
        if view.files.log.is_empty() {
            return Err(Error::NotImplemented("configured logging driver does not support reading".to_owned()));
        }
        let mut published = handle.published.clone();
        let live = |published: &watch::Receiver<crate::containers::index::Published>| published.borrow().live.is_some();
        let (running, watched) = watch::channel(live(&published));
        let follow = options.follow;
        let lines = logs::open(view.files.log.clone().into(), options, watched);
        if follow {
            self.inner.tasks.spawn(async move {
                // Ends with the container, with its owner task, or with the last reader.
                loop {
                    tokio::select! {
                        changed = published.changed() => if changed.is_err() { break },
                        () = running.closed() => break,
                    }
                    running.send_replace(live(&published));
                }
            });
        }
        Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(lines)))
    }

    /// One sample, `with_before` a second one taken a second earlier.
    pub async fn container_stats(&self, name: &str, with_before: bool) -> Result<Stats> {
        let handle = self.inner.containers.find(name)?;
        let view = handle.view();
        let mut stats = Stats { id: view.id, name: view.name.clone(), now: None, before: None };
        let Some(pid) = view.status.running().map(|running| running.pid) else { return Ok(stats) };
        let take = || {
            let (inner, view) = (self.inner.clone(), view.clone());
            blocking(move || sample::take(&bundle_cgroup(&inner, &view)?, pid))
        };
        if with_before {
            stats.before = Some(take().await?);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // A container that ended meanwhile has no counters any more; that is no error.
        stats.now = match take().await {
            Ok(sample) => Some(sample),
            Err(error) if self.inner.containers.find(name).is_ok_and(|handle| handle.live().is_ok()) => {
                return Err(error);
            }
            Err(_) => None,
        };
        Ok(stats)
    }

    /// Events, as they come; the past ones first if asked for.
    pub fn events(&self, filter: EventFilter) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        self.inner.events.subscribe(filter)
    }
}

/// A log entry as an attached client sees it.
fn frame(bytes: &mut BytesMut, entry: &LogEntry, tty: bool) {
    if !tty {
        bytes.put_u8(if entry.stream == OutputStream::Stderr { 2 } else { 1 });
        bytes.put_bytes(0, 3);
        bytes.put_u32(u32::try_from(entry.line.len()).unwrap_or(u32::MAX));
    }
    bytes.extend_from_slice(&entry.line);
}
