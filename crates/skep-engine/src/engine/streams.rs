//! What containers say: attach, logs, stats, events.

use std::pin::Pin;

use futures_util::Stream;

use crate::model::event::{Event, EventFilter};
use crate::model::request::{AttachOptions, Attachment, LogOptions, LogStream};
use crate::model::stats::Stats;
use crate::{Engine, Result};

impl Engine {
    /// Connects to its process; before the start too, so that nothing is missed.
    pub async fn attach_container(&self, _name: &str, _options: AttachOptions) -> Result<Attachment> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Its log. `tty` of the container tells how to frame it.
    pub async fn container_logs(&self, _name: &str, _options: LogOptions) -> Result<LogStream> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// One sample, `with_before` a second one taken a second earlier.
    pub async fn container_stats(&self, _name: &str, _with_before: bool) -> Result<Stats> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Events, as they come; the past ones first if asked for. Unknown filter keys are an error.
    pub fn events(&self, _filter: EventFilter) -> Result<Pin<Box<dyn Stream<Item = Event> + Send>>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}
