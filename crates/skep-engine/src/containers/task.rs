//! The owner task of one container: takes commands one after the other, hears of the end of the process, keeps the timers of
//! stops and restarts. Nothing it waits for takes longer than a start: while a stop runs its course, commands are taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::protocol::{Scope, Target};
use skep_types::{ContainerName, Signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attach::Binding;
use super::ending::{Stopping, Then};
use super::index::{Handle, Live, Published};
use super::record::Record;
use super::restart::BackOff;
use super::start::Running;
use crate::engine::{Inner, blocking};
use crate::model::network::EndpointSettings;
use crate::model::request::{AttachOptions, Change, ChangePorts, RemoveContainer};
use crate::model::status::Status;
use crate::model::view::OverlayDirs;
use crate::networks::StoredNetwork;
use crate::shim::ShimEvent;
use crate::{Error, Result};

/// How long a killed process may take to vanish before a waiting caller is told that it does not.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const DEFAULT_STOP_TIMEOUT: i64 = 10;

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What others ask of a container.
pub(crate) enum Command {
    Start(Reply<Change>),
    /// The restart policy wants it to run when the engine comes up.
    StartAtBoot,
    Stop {
        timeout: Option<i64>,
        signal: Option<Signal>,
        reply: Reply<Change>,
    },
    Restart {
        timeout: Option<i64>,
        signal: Option<Signal>,
        reply: Reply<()>,
    },
    Kill(Signal, Reply<()>),
    Pause(Reply<()>),
    Unpause(Reply<()>),
    Rename(ContainerName, Reply<()>),
    Remove(RemoveContainer, Reply<()>),
    Attach(AttachOptions, Binding, Reply<()>),
    Connect(Arc<StoredNetwork>, EndpointSettings, Reply<()>),
    /// The network, as the user wrote it and as it is.
    Disconnect(String, Arc<StoredNetwork>, Reply<()>),
    Ports(ChangePorts, Reply<()>),
    /// The engine closes: the container is left alone.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Task {
    pub(super) engine: Arc<Inner>,
    pub(super) record: Record,
    /// The status when the record alone does not tell it: paused, restarting, dead.
    pub(super) status: Status,
    pub(super) running: Option<Running>,
    pub(super) waiting_clients: Vec<(AttachOptions, Binding)>,
    /// The parts of the root file system.
    pub(super) overlay: OverlayDirs,
    published: watch::Sender<Published>,
    commands: mpsc::Receiver<Command>,
    pub(super) stopping: Option<Stopping>,
    pub(super) back_off: BackOff,
    pub(super) restart_at: Option<Instant>,
    pub(super) exits: u64,
    /// The end of the last run's place in the network, which takes a while.
    pub(super) unplugging: Option<JoinHandle<()>>,
    /// The bundle of a run that is over, until its end is stored.
    pub(super) stale_bundle: Option<PathBuf>,
    /// The container is gone, or the engine closes.
    pub(super) done: bool,
}

impl Task {
    /// Starts the owner task of a container; `running` if its process was found running.
    pub(crate) fn spawn(engine: Arc<Inner>, record: Record, status: Status, running: Option<Running>) -> Handle {
        let (commands, receiver) = mpsc::channel(64);
        let live = running.as_ref().map(Running::live);
        // Only damage of the store makes this fail; starting the container then says so.
        let overlay = super::bundle::overlay(&engine, &record).unwrap_or_default();
        let view = super::bundle::view(&engine, &record, &status, running.as_ref(), &overlay);
        let (sender, published) = watch::channel(Published { view: Arc::new(view), exits: 0, live });
        let handle = Handle { id: record.id, commands, published };
        let task = Task {
            engine: engine.clone(),
            record,
            status,
            running,
            waiting_clients: Vec::new(),
            overlay,
            published: sender,
            commands: receiver,
            stopping: None,
            back_off: BackOff::default(),
            restart_at: None,
            exits: 0,
            unplugging: None,
            stale_bundle: None,
            done: false,
        };
        engine.containers.insert(handle.clone());
        engine.tasks.spawn(task.run());
        handle
    }

    async fn run(mut self) {
        while !self.done {
            let timer = self.timer();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                event = next_event(&mut self.running) => self.heard(event).await,
                () = sleep_until(timer) => self.timer_fired().await,
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        let stop = self.stopping.as_ref().and_then(|stopping| stopping.deadline);
        [stop, self.restart_at].into_iter().flatten().min()
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Start(reply) => {
                let result = self.start_asked().await;
                let failed = result.is_err();
                answer(reply, result);
                if failed && self.record.host.auto_remove && self.running.is_none() {
                    let _ = self.remove_now(RemoveContainer { force: true, volumes: true }).await;
                }
            }
            Command::StartAtBoot => self.start_by_policy().await,
            Command::Stop { timeout, signal, reply } => self.stop(timeout, signal, Then::AnswerStop(reply)).await,
            Command::Restart { timeout, signal, reply } => self.stop(timeout, signal, Then::Start(reply)).await,
            Command::Kill(signal, reply) => {
                let result = self.kill_asked(signal).await;
                answer(reply, result);
            }
            Command::Pause(reply) => {
                let result = self.pause().await;
                answer(reply, result);
            }
            Command::Unpause(reply) => {
                let result = self.unpause().await;
                answer(reply, result);
            }
            Command::Rename(name, reply) => {
                let result = self.rename(name).await;
                answer(reply, result);
            }
            Command::Remove(options, reply) => self.remove_asked(options, reply).await,
            Command::Attach(options, binding, reply) => {
                let result = self.attach(options, binding).await;
                answer(reply, result);
            }
            Command::Connect(network, settings, reply) => {
                let result = self.connect(network, settings).await;
                answer(reply, result);
            }
            Command::Disconnect(text, network, reply) => {
                let result = self.disconnect(&text, network).await;
                answer(reply, result);
            }
            Command::Ports(change, reply) => {
                let result = self.change_ports(change).await;
                answer(reply, result);
            }
            Command::Close(reply) => {
                self.done = true;
                let _ = reply.send(());
            }
        }
    }

    async fn timer_fired(&mut self) {
        let now = Instant::now();
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.record.restart_count += 1;
            self.start_by_policy().await;
        }
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        if stopping.killed {
            // The kernel does not let it go (a hung disk, say): the callers hear of it, the end is still awaited.
            let text =
                format!("tried to kill container, but did not receive an exit event: container {}", self.record.id);
            for then in std::mem::take(&mut stopping.then) {
                then.fail(Error::Conflict(text.clone()));
            }
            stopping.deadline = None;
        } else {
            stopping.killed = true;
            stopping.deadline = Some(now + KILL_PATIENCE);
            if let Err(error) = self.signal(Signal::KILL).await {
                tracing::warn!(container = %self.record.id, %error, "killing");
            }
        }
    }

    pub(super) async fn start_asked(&mut self) -> Result<Change> {
        match &self.status {
            Status::Running(_) => return Ok(Change::Already),
            Status::Paused(_) => {
                return Err(Error::Conflict("cannot start a paused container, try unpause instead".to_owned()));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::Conflict("container is marked for removal and cannot be started".to_owned()));
            }
            Status::Created | Status::Restarting(_) | Status::Exited(_) => {}
        }
        self.restart_at = None;
        self.back_off.reset();
        self.record.restart_count = 0;
        self.record.stopped_by_user = false;
        self.start().await?;
        Ok(Change::Done)
    }

    /// Tells the process to end, or does at once what was to come after.
    async fn stop(&mut self, timeout: Option<i64>, signal: Option<Signal>, then: Then) {
        self.restart_at = None;
        if self.running.is_none() {
            if let Status::Restarting(exited) = &self.status {
                self.status = Status::Exited(exited.clone());
                self.record.stopped_by_user = true;
                self.save_and_publish().await;
                return self.proceed(vec![then.into_done()]).await;
            }
            return self.proceed(vec![then]).await;
        }
        self.record.stopped_by_user = !matches!(then, Then::Start(_));
        let configured = self.record.config.stop_signal.as_deref().and_then(|text| text.parse().ok());
        let signal = signal.or(configured).unwrap_or(Signal::TERM);
        let timeout = timeout.or(self.record.config.stop_timeout).unwrap_or(DEFAULT_STOP_TIMEOUT);
        let deadline = u64::try_from(timeout).ok().map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let stopping = self.stopping.get_or_insert_default();
        stopping.then.push(then);
        stopping.deadline = match (stopping.deadline, deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => new.or(old),
        };
        if let Err(error) = self.signal(signal).await {
            tracing::warn!(container = %self.record.id, %error, "stopping");
        }
        // Frozen processes take no signal but the last one.
        if matches!(self.status, Status::Paused(_)) {
            let _ = self.unpause().await;
        }
    }

    async fn kill_asked(&mut self, signal: Signal) -> Result<()> {
        if let Status::Restarting(exited) = &self.status {
            self.status = Status::Exited(exited.clone());
            self.restart_at = None;
            self.record.stopped_by_user = true;
            self.save_and_publish().await;
            return Ok(());
        }
        if self.running.is_none() {
            return Err(Error::Conflict(format!("container {} is not running", self.record.id)));
        }
        let stop_signal = self.record.config.stop_signal.as_deref().and_then(|text| text.parse().ok());
        if signal == Signal::KILL || signal == stop_signal.unwrap_or(Signal::TERM) {
            self.record.stopped_by_user = true;
        }
        self.signal(signal).await?;
        if signal == Signal::KILL && matches!(self.status, Status::Paused(_)) {
            let _ = self.thaw().await;
        }
        Ok(())
    }

    /// Sends a signal to the first process.
    async fn signal(&mut self, signal: Signal) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let sent = running.shim.kill(Target::Container, signal, Scope::Process).await;
        self.event("kill", [("signal", signal.number().to_string())]);
        // A shim that is gone is heard of on its event connection.
        sent.map_err(|e| Error::system(format!("sending {signal} to container {}", self.record.id), e))
    }

    async fn pause(&mut self) -> Result<()> {
        match (&self.status, &self.running) {
            (Status::Paused(_), _) => Err(Error::Conflict(format!("Container {} is already paused", self.record.id))),
            (Status::Restarting(_), _) => Err(Error::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                self.record.id
            ))),
            (_, None) => Err(Error::Conflict(format!("container {} is not running", self.record.id))),
            (_, Some(running)) => {
                let facts = running.facts;
                let cgroup = running.cgroup.clone();
                blocking(move || {
                    super::bundle::open_cgroup(&cgroup)?.freeze().map_err(|e| Error::system("freezing", e))
                })
                .await?;
                self.status = Status::Paused(facts);
                self.publish();
                self.event("pause", []);
                Ok(())
            }
        }
    }

    async fn unpause(&mut self) -> Result<()> {
        let Status::Paused(facts) = self.status else {
            return Err(Error::Conflict(format!("Container {} is not paused", self.record.id)));
        };
        self.thaw().await?;
        self.status = Status::Running(facts);
        self.publish();
        self.event("unpause", []);
        Ok(())
    }

    async fn thaw(&self) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let cgroup = running.cgroup.clone();
        blocking(move || super::bundle::open_cgroup(&cgroup)?.thaw().map_err(|e| Error::system("thawing", e))).await
    }

    async fn rename(&mut self, name: ContainerName) -> Result<()> {
        if name == self.record.name {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".to_owned()));
        }
        self.engine.containers.reserve_name(&name, self.record.id)?;
        let old = std::mem::replace(&mut self.record.name, name.clone());
        self.record.rename_endpoints();
        if let Err(error) = self.save().await {
            self.engine.containers.release_name(&name);
            self.record.name = old;
            self.record.rename_endpoints();
            return Err(error);
        }
        self.announce().await;
        self.engine.containers.release_name(&old);
        self.publish();
        self.event("rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn remove_asked(&mut self, options: RemoveContainer, reply: Reply<()>) {
        if self.running.is_none() {
            let result = self.remove_now(options).await;
            return answer(reply, result);
        }
        if !options.force {
            let why = match self.status {
                Status::Paused(_) => "container is paused and must be unpaused first".to_owned(),
                _ => "container is running: stop the container before removing or force remove".to_owned(),
            };
            return answer(reply, Err(Error::Conflict(why)));
        }
        self.record.stopped_by_user = true;
        let stopping = self.stopping.get_or_insert_default();
        stopping.killed = true;
        stopping.deadline = Some(Instant::now() + KILL_PATIENCE);
        stopping.then.push(Then::Remove(options, reply));
        if let Err(error) = self.signal(Signal::KILL).await {
            tracing::warn!(container = %self.record.id, %error, "killing");
        }
        if matches!(self.status, Status::Paused(_)) {
            let _ = self.thaw().await;
        }
    }

    async fn attach(&mut self, options: AttachOptions, binding: Binding) -> Result<()> {
        match (&self.status, &self.running) {
            (Status::Paused(_), _) => Err(Error::Conflict(format!(
                "container {} is paused, unpause the container before attach",
                self.record.id
            ))),
            (Status::Restarting(_), _) => Err(Error::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                self.record.id
            ))),
            (_, Some(running)) => running.bind(&options, binding, self.record.config.open_stdin).await,
            (_, None) => {
                self.waiting_clients.push((options, binding));
                Ok(())
            }
        }
    }

    async fn heard(&mut self, event: Heard) {
        match event {
            Heard::Event(ShimEvent::Exited { target: Target::Container, exit }) => self.ended(Some(exit)).await,
            Heard::Event(ShimEvent::Exited { target: Target::Exec(id), exit }) => {
                self.engine.execs.ended(id, i32::from(exit.code));
                self.publish();
            }
            Heard::Event(ShimEvent::Trouble(text)) => tracing::warn!(container = %self.record.id, "{text}"),
            Heard::Lost => self.ended(None).await,
        }
    }

    /// As at boot of the engine: start it if the policy says so.
    pub(crate) fn restart_soon(handle: &Handle) {
        // A full queue means that people are busy with it already.
        let _ = handle.commands.try_send(Command::StartAtBoot);
    }

    /// As at boot of the engine: a container that was to be removed at its end has ended while nobody watched.
    pub(crate) fn remove_soon(handle: &Handle) {
        let (reply, _) = oneshot::channel();
        let _ = handle.commands.try_send(Command::Remove(RemoveContainer { force: true, volumes: true }, reply));
    }

    pub(super) async fn save(&self) -> Result<()> {
        let engine = self.engine.clone();
        let record = self.record.clone();
        blocking(move || engine.storage.put_container(&record)).await
    }

    /// Where nobody waits for an answer a failed write can only be told in the daemon's log; memory stays right.
    pub(super) async fn save_and_publish(&mut self) {
        match self.save().await {
            Ok(()) => self.delete_bundle(),
            Err(error) => tracing::error!(container = %self.record.id, %error, "storing its state"),
        }
        self.publish();
    }

    pub(super) fn publish(&self) {
        let view = super::bundle::view(&self.engine, &self.record, &self.status, self.running.as_ref(), &self.overlay);
        let live = self.running.as_ref().map(Running::live);
        self.published.send_replace(Published { view: Arc::new(view), exits: self.exits, live });
    }

    pub(super) fn event<const N: usize>(&self, action: &str, more: [(&str, String); N]) {
        self.engine.container_event(&self.record, action, more);
    }
}

impl Running {
    pub(super) fn live(&self) -> Live {
        Live { shim: self.shim.clone(), pid: self.facts.pid }
    }
}

enum Heard {
    Event(ShimEvent),
    Lost,
}

async fn next_event(running: &mut Option<Running>) -> Heard {
    match running {
        None => std::future::pending().await,
        Some(running) => match running.events.next().await {
            Ok(Some(event)) => Heard::Event(event),
            Ok(None) => Heard::Lost,
            Err(error) => {
                tracing::warn!(%error, "listening to a shim");
                Heard::Lost
            }
        },
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A caller that went away does not need its answer.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T>) {
    let _ = reply.send(result);
}
