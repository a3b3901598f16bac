//! Exec: processes beside a container's first one.

use skep_runtime::protocol::{Attach, Exec, FailureKind, Target};
use skep_runtime::spec::ConsoleSize;
use skep_types::ExecId;

use super::blocking;
use crate::containers::{attach, exec};
use crate::model::event::EventType;
use crate::model::exec::{ExecConfig, ExecStatus, ExecView};
use crate::model::request::Attachment;
use crate::model::status::Status;
use crate::model::view::ContainerView;
use crate::shim::ShimError;
use crate::{Engine, Error, Result, StartFailure};

impl Engine {
    /// Prepares a process in a running container.
    pub async fn create_exec(&self, container: &str, config: ExecConfig) -> Result<ExecId> {
        if config.cmd.is_empty() || config.cmd[0].is_empty() {
            return Err(Error::Invalid("no exec command specified".to_owned()));
        }
        attach::parse_detach_keys(config.detach_keys.as_deref(), "escape")?;
        let handle = self.inner.containers.find(container)?;
        let view = handle.view();
        check_running(&view)?;
        if !config.user.is_empty() {
            let (view, user) = (view.clone(), config.user.clone());
            blocking(move || exec::check_user(&view, &user)).await?;
        }
        let id = ExecId::from_bytes(crate::random::bytes());
        self.exec_event(&view, id, &format!("exec_create: {}", config.cmd.join(" ")), None);
        self.inner.execs.insert(ExecView { id, container: view.id, config, status: ExecStatus::Created });
        Ok(id)
    }

    /// Starts it and connects to it; `detach` starts it alone. `console_size` is height and width.
    pub async fn start_exec(
        &self,
        id: &str,
        detach: bool,
        tty: bool,
        console_size: Option<[u32; 2]>,
    ) -> Result<Option<Attachment>> {
        let found = self.inner.execs.find(id)?;
        let handle = self
            .inner
            .containers
            .get(found.container)
            .ok_or_else(|| Error::NoSuchContainer(found.container.to_string()))?;
        let view = handle.view();
        check_running(&view)?;
        let live = handle.live()?;
        // Docker's CLI says the same in both calls; scripts that don't get what was created.
        let _ = tty;
        self.inner.execs.begin(found.id)?;
        let result = self.launch(&found, &view, &live.shim, detach, console_size).await;
        if let Err(error) = &result {
            let code = match error {
                Error::Start { cause: StartFailure::CommandNotFound, .. } => 127,
                Error::Start { cause: StartFailure::NotExecutable, .. } => 126,
                // A working directory that isn't there counts as a command that isn't.
                Error::Start { message, .. } if message.contains("no such file or directory") => 127,
                _ => 128,
            };
            self.inner.execs.ended(found.id, code);
        }
        result
    }

    async fn launch(
        &self,
        found: &ExecView,
        view: &std::sync::Arc<ContainerView>,
        shim: &crate::shim::ShimHandle,
        detach: bool,
        console_size: Option<[u32; 2]>,
    ) -> Result<Option<Attachment>> {
        let config = &found.config;
        let keys = attach::parse_detach_keys(config.detach_keys.as_deref(), "escape")?;
        let process = {
            let (engine, view, config) = (self.clone(), view.clone(), config.clone());
            blocking(move || exec::process(engine.config(), &view, &config, console_size)).await?
        };
        let streams = Attach {
            stdin: config.attach_stdin,
            stdout: config.attach_stdout || config.tty,
            stderr: config.attach_stderr || config.tty,
        };
        let request = Exec { id: found.id, process, attach: (!detach).then_some(streams) };
        let running = shim.exec(request).await.map_err(|error| exec_error(&error))?;
        self.inner.execs.running(found.id, running.pid);
        self.exec_event(view, found.id, &format!("exec_start: {}", config.cmd.join(" ")), None);
        let (engine, view, id, mut exit) = (self.clone(), view.clone(), found.id, running.exit);
        let (known, ended) = tokio::sync::oneshot::channel();
        self.inner.tasks.spawn(async move {
            let _known = known;
            // When the shim goes away first, the owner task hears of it and ends all execs of the container.
            if let Ok(exit) = exit.wait().await {
                engine.inner.execs.ended(id, i32::from(exit.code));
                engine.exec_event(&view, id, "exec_die", Some(i32::from(exit.code)));
            }
        });
        Ok(running.stream.map(|stream| {
            let keys = if config.tty { keys } else { Vec::new() };
            attach::now(config.tty, config.attach_stdin, keys, stream, ended)
        }))
    }

    /// What it is doing.
    pub fn exec(&self, id: &str) -> Result<ExecView> {
        self.inner.execs.find(id)
    }

    /// Sets the size of its terminal, in characters.
    pub async fn resize_exec(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let found = self.inner.execs.find(id)?;
        let handle = self
            .inner
            .containers
            .get(found.container)
            .ok_or_else(|| Error::NoSuchContainer(found.container.to_string()))?;
        if !matches!(found.status, ExecStatus::Running(_)) {
            return Err(Error::Conflict(format!("exec {id} is not running")));
        }
        handle
            .live()?
            .shim
            .resize(Target::Exec(found.id), ConsoleSize { height, width })
            .await
            .map_err(|e| Error::system(format!("resizing the terminal of exec {id}"), e))
    }

    fn exec_event(&self, view: &ContainerView, id: ExecId, action: &str, code: Option<i32>) {
        let mut attributes = view.config.labels.clone();
        attributes.insert("execID".to_owned(), id.to_string());
        attributes.insert("image".to_owned(), view.config.image.clone());
        attributes.insert("name".to_owned(), view.name.to_string());
        if let Some(code) = code {
            attributes.insert("exitCode".to_owned(), code.to_string());
        }
        self.inner.events.emit(EventType::Container, action, view.id.to_string(), attributes);
    }
}

fn check_running(view: &ContainerView) -> Result<()> {
    match &view.status {
        Status::Running(_) => Ok(()),
        Status::Paused(_) => {
            Err(Error::Conflict(format!("Container {} is paused, unpause the container before exec", view.name)))
        }
        Status::Restarting(_) => {
            Err(Error::Conflict(format!("container {} is restarting, wait until the container is running", view.id)))
        }
        Status::Created | Status::Exited(_) | Status::Removing | Status::Dead => {
            Err(Error::Conflict(format!("container {} is not running", view.id)))
        }
    }
}

/// Docker's words for a process that can't be exec'd.
fn exec_error(error: &ShimError) -> Error {
    let cause = match error.kind() {
        FailureKind::CommandNotFound => StartFailure::CommandNotFound,
        FailureKind::NotExecutable => StartFailure::NotExecutable,
        FailureKind::NoTarget | FailureKind::WrongPhase | FailureKind::Other => StartFailure::Other,
    };
    Error::Start {
        cause,
        message: format!("OCI runtime exec failed: exec failed: unable to start container process: {error}"),
    }
}
