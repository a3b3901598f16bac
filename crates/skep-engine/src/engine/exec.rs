//! Exec: processes beside a container's first one.

use skep_types::ExecId;

use crate::model::exec::{ExecConfig, ExecView};
use crate::model::request::Attachment;
use crate::{Engine, Result};

impl Engine {
    /// Prepares a process in a running container.
    pub async fn create_exec(&self, _container: &str, _config: ExecConfig) -> Result<ExecId> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Starts it and connects to it; `detach` starts it alone. `console_size` is height and width.
    pub async fn start_exec(
        &self,
        _id: &str,
        _detach: bool,
        _tty: bool,
        _console_size: Option<[u32; 2]>,
    ) -> Result<Option<Attachment>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// What it is doing.
    pub fn exec(&self, _id: &str) -> Result<ExecView> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Sets the size of its terminal, in characters.
    pub async fn resize_exec(&self, _id: &str, _height: u16, _width: u16) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}
