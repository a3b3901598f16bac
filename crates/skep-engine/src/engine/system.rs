//! The engine about itself, and the way to its images.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use skep_runtime::cgroup::{Controllers, Kind, Layout};

use super::blocking;
use crate::images::Images;
use crate::model::event::EventType;
use crate::model::image::{ImageFilters, ImageId, ImageUser, PrunedImages, Removal, RemoveImage};
use crate::model::status::Status;
use crate::model::system::{ContainerCounts, LimitSupport, SystemInfo};
use crate::{Engine, Error, Result};

impl Engine {
    /// Facts for `info`.
    pub async fn info(&self) -> Result<SystemInfo> {
        let mut counts = ContainerCounts::default();
        for view in self.views() {
            match view.status {
                Status::Running(_) | Status::Restarting(_) => counts.running += 1,
                Status::Paused(_) => counts.paused += 1,
                Status::Created | Status::Exited(_) | Status::Removing | Status::Dead => counts.stopped += 1,
            }
        }
        let engine = self.clone();
        blocking(move || engine.gather(counts)).await
    }

    fn gather(&self, containers: ContainerCounts) -> Result<SystemInfo> {
        let config = &self.inner.config;
        let release = read("/etc/os-release");
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or("").trim_matches('"').to_owned()
        };
        let uname = rustix::system::uname();
        let support = limit_support();
        let forwarding = read("/proc/sys/net/ipv4/ip_forward").trim() == "1";
        let mut warnings = Vec::new();
        for (supported, what) in [
            (support.memory, "No memory limit support"),
            (support.swap, "No swap limit support"),
            (support.cpu_quota, "No cpu cfs quota support"),
            (support.cpu_shares, "No cpu shares support"),
            (support.cpuset, "No cpuset support"),
            (support.pids, "No pids limit support"),
            (forwarding, "IPv4 forwarding is disabled"),
        ] {
            if !supported {
                warnings.push(format!("WARNING: {what}"));
            }
        }
        warnings.extend(self.inner.networks.obstacles().into_iter().map(|obstacle| format!("WARNING: {obstacle}")));
        Ok(SystemInfo {
            id: self.inner.storage.engine_id()?,
            containers,
            images: self.inner.images.count()?,
            data_root: config.data_root.display().to_string(),
            backing_filesystem: filesystem_name(&config.data_root),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            operating_system: field("PRETTY_NAME"),
            os_version: field("VERSION_ID"),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory_total(),
            host_name: uname.nodename().to_string_lossy().into_owned(),
            cgroup_version: match Layout::of_this_machine().map(Layout::kind) {
                Ok(Kind::Unified) => 2,
                Ok(Kind::Legacy | Kind::Hybrid) | Err(_) => 1,
            },
            support: *support,
            ipv4_forwarding: forwarding,
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            event_listeners: self.inner.events.listeners(),
            log_driver: config.log.driver.clone(),
            labels: config.labels.clone(),
            warnings,
            runtime_path: config.runtime.display().to_string(),
            init_path: "docker-init".to_owned(),
            insecure_registries: config.insecure_registries.clone(),
            registry_mirrors: config.registry_mirrors.clone(),
        })
    }

    /// The images. Removal goes through [`Engine::remove_image`], which knows the containers.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Removes a reference of an image, and the image with its last one, unless a container needs it.
    pub async fn remove_image(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>> {
        Ok(self.inner.images.remove(name, options, &|id| self.users_of(id)).await?)
    }

    /// Removes images that no container needs.
    pub async fn prune_images(&self, filters: &ImageFilters) -> Result<PrunedImages> {
        let mut pruned = self.inner.images.prune(filters, &|id| self.users_of(id)).await?;
        if goes_for_downloads(filters) {
            let store = self.inner.storage.store().clone();
            let remove = move || store.partials().expire(Duration::ZERO);
            pruned.reclaimed +=
                blocking(move || remove().map_err(|e| Error::system("deleting unfinished downloads", e))).await?;
        }
        self.prune_event(EventType::Image, pruned.reclaimed);
        Ok(pruned)
    }

    /// Takes away what the last container of a removed image left behind.
    pub(crate) async fn tidy(&self) {
        if let Err(error) = self.inner.images.release(&|id| self.users_of(id)).await {
            tracing::warn!(%error, "layers of removed images stay");
        }
    }

    pub(crate) fn users_of(&self, image: &ImageId) -> Vec<ImageUser> {
        let mine = self.views().into_iter().filter(|view| view.image_id == *image);
        mine.map(|view| ImageUser { container: view.id, running: view.status.running().is_some() }).collect()
    }

    /// Containers that run or wait for their restart.
    pub fn running_count(&self) -> usize {
        let busy = |status: &Status| status.running().is_some() || matches!(status, Status::Restarting(_));
        self.views().iter().filter(|view| busy(&view.status)).count()
    }
}

/// Whether a prune of images takes unfinished downloads as well: one of all images does, as no image needs them.
pub(super) fn goes_for_downloads(filters: &ImageFilters) -> bool {
    let everything = ImageFilters { dangling: Some(false), ..ImageFilters::default() };
    *filters == everything
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn memory_total() -> u64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Docker's names for what statfs(2) tells.
fn filesystem_name(path: &std::path::Path) -> String {
    let magic = rustix::fs::statfs(path).map(|found| found.f_type).unwrap_or_default();
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        _ => "<unknown>",
    }
    .to_owned()
}

/// Which limits this machine's control groups can set. Looked up once: controllers don't come and go.
pub(crate) fn limit_support() -> &'static LimitSupport {
    static SUPPORT: OnceLock<LimitSupport> = OnceLock::new();
    SUPPORT.get_or_init(|| {
        let Ok(layout) = Layout::of_this_machine() else { return LimitSupport::default() };
        let controllers = layout.controllers();
        let has = |controller| controllers.contains(controller);
        let unified = layout.kind() == Kind::Unified;
        LimitSupport {
            memory: has(Controllers::MEMORY),
            swap: has(Controllers::MEMORY)
                && (unified || std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()),
            cpu_quota: has(Controllers::CPU) && (unified || quota_exists()),
            cpu_shares: has(Controllers::CPU),
            cpuset: has(Controllers::CPUSET),
            pids: has(Controllers::PIDS),
            oom_kill_disable: has(Controllers::MEMORY) && !unified,
        }
    })
}

fn quota_exists() -> bool {
    let names: BTreeSet<&str> = ["cpu", "cpu,cpuacct"].into();
    names.iter().any(|name| std::path::Path::new("/sys/fs/cgroup").join(name).join("cpu.cfs_quota_us").exists())
}
