//! Processes exec'd in containers. Kept in memory only: they end with their container, and their ids with the daemon.

use std::collections::HashMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use skep_runtime::spec;
use skep_types::{ContainerId, ExecId};

use super::{oci, rootfs, security};
use crate::config::EngineConfig;
use crate::model::exec::{ExecConfig, ExecStatus, ExecView};
use crate::model::view::ContainerView;
use crate::{Error, Result};

/// Ended processes that can still be inspected, per engine.
const KEPT: usize = 512;

#[derive(Default)]
pub(crate) struct Execs(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_id: HashMap<ExecId, ExecView>,
    /// The oldest first.
    ended: std::collections::VecDeque<ExecId>,
}

impl Execs {
    pub(crate) fn insert(&self, view: ExecView) {
        self.0.lock().by_id.insert(view.id, view);
    }

    pub(crate) fn find(&self, text: &str) -> Result<ExecView> {
        let id: ExecId = text.parse().map_err(|_| Error::NoSuchExec(text.to_owned()))?;
        self.0.lock().by_id.get(&id).cloned().ok_or_else(|| Error::NoSuchExec(text.to_owned()))
    }

    /// Takes a process from created to running, once: a second start is refused.
    pub(crate) fn begin(&self, id: ExecId) -> Result<()> {
        let mut inner = self.0.lock();
        let Some(view) = inner.by_id.get_mut(&id) else { return Err(Error::NoSuchExec(id.to_string())) };
        match view.status {
            ExecStatus::Created => {
                view.status = ExecStatus::Running(0);
                Ok(())
            }
            ExecStatus::Running(_) => Err(Error::Conflict(format!("exec command {id} is already running"))),
            ExecStatus::Exited(_) => Err(Error::Conflict(format!("exec command {id} has already run"))),
        }
    }

    pub(crate) fn running(&self, id: ExecId, pid: i32) {
        // Its end may have been heard of before its start was answered.
        if let Some(view) = self.0.lock().by_id.get_mut(&id)
            && matches!(view.status, ExecStatus::Running(_))
        {
            view.status = ExecStatus::Running(pid);
        }
    }

    pub(crate) fn ended(&self, id: ExecId, code: i32) {
        let mut inner = self.0.lock();
        let Some(view) = inner.by_id.get_mut(&id) else { return };
        view.status = ExecStatus::Exited(code);
        inner.ended.push_back(id);
        if inner.ended.len() > KEPT
            && let Some(oldest) = inner.ended.pop_front()
        {
            inner.by_id.remove(&oldest);
        }
    }

    /// All processes of a container are gone with it.
    pub(crate) fn container_ended(&self, container: ContainerId) {
        let mut inner = self.0.lock();
        for view in inner.by_id.values_mut().filter(|view| view.container == container) {
            if matches!(view.status, ExecStatus::Running(_)) {
                view.status = ExecStatus::Exited(137);
            }
        }
        inner.by_id.retain(|_, view| view.container != container || !matches!(view.status, ExecStatus::Created));
    }

    pub(crate) fn running_in(&self, container: ContainerId) -> Vec<ExecId> {
        let inner = self.0.lock();
        let mine = inner.by_id.values().filter(|view| view.container == container);
        mine.filter(|view| matches!(view.status, ExecStatus::Running(_))).map(|view| view.id).collect()
    }
}

/// Whether the container knows a user. Blocking: reads its user files.
pub(crate) fn check_user(container: &ContainerView, user: &str) -> Result<()> {
    let root = rootfs::open(container, rootfs::Access::Read)?;
    rootfs::look_up(&root, user, &container.host.group_add).map(drop)
}

/// The process as the runtime takes it. Blocking: reads the container's user files.
pub(crate) fn process(
    engine: &EngineConfig,
    container: &ContainerView,
    config: &ExecConfig,
    console_size: Option<[u32; 2]>,
) -> Result<spec::Process> {
    let root = rootfs::open(container, rootfs::Access::Read)?;
    let user = if config.user.is_empty() { &container.config.user } else { &config.user };
    let identity = rootfs::look_up(&root, user, &container.host.group_add)?;
    let mut host = container.host.clone();
    host.privileged |= config.privileged;
    let capabilities = security::capabilities(&host)?;
    let options = security::options(&host, engine.no_new_privileges)?;
    let hostname =
        if container.config.hostname.is_empty() { container.id.short() } else { container.config.hostname.clone() };
    let mut env = oci::environment(
        &crate::model::container::ContainerConfig { tty: config.tty, ..container.config.clone() },
        &[],
        &hostname,
        &identity.home,
    );
    oci::merge_environment(&mut env, &config.env);
    let directory = match (config.working_dir.as_str(), container.config.working_dir.as_str()) {
        ("", "") => "/",
        ("", own) => own,
        (asked, _) => asked,
    };
    let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    Ok(spec::Process {
        terminal: config.tty,
        console_size: console_size
            .or(config.console_size)
            .filter(|[height, width]| config.tty && *height > 0 && *width > 0)
            .map(|[height, width]| spec::ConsoleSize { height: side(height), width: side(width) }),
        user: oci::user(&identity),
        args: config.cmd.clone(),
        env,
        cwd: PathBuf::from(super::mounts::clean(directory)),
        capabilities: Some(oci::capability_sets(&capabilities, identity.uid)),
        rlimits: oci::rlimits(engine, &host),
        no_new_privileges: options.no_new_privileges && !config.privileged,
        oom_score_adj: Some(container.host.oom_score_adj),
        ..spec::Process::default()
    })
}
