//! Making a container: the image's settings are filled in, everything is checked, names and volumes are taken, files are
//! made; the container exists from the moment its record is stored. What fails before is taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use skep_types::{ContainerId, ContainerName, ErrorKind};

use super::mounts::Mount;
use super::record::Record;
use super::task::Task;
use super::validate::{self, Machine};
use super::{bundle, links, mounts, names, security};
use crate::engine::{Inner, blocking};
use crate::model::container::{ContainerConfig, CreateContainer};
use crate::model::host::HostConfig;
use crate::model::image::{Image, ImageConfig};
use crate::model::network::{Endpoint, EndpointSettings, NetworkMode};
use crate::model::request::Created;
use crate::model::status::Status;
use crate::model::view::{EngineFiles, MountKind};
use crate::model::volume::{CreateVolume, Volume};
use crate::networks::{self, Context};
use crate::{Engine, Error, Result};

/// Makes the container and starts its owner task.
pub(crate) async fn create(engine: &Engine, request: CreateContainer) -> Result<Created<ContainerId>> {
    let inner = engine.inner.clone();
    // `_image` keeps the image's layers until the container counts as its user.
    let (record, new_volumes, warnings, _image) = blocking(move || build(&inner, request)).await?;
    for volume in &new_volumes {
        engine.volume_event("create", volume);
    }
    let id = record.id;
    engine.inner.container_event(&record, "create", []);
    Task::spawn(engine.inner.clone(), record, Status::Created, None);
    Ok(Created { id, warnings })
}

fn build(engine: &Arc<Inner>, request: CreateContainer) -> Result<(Record, Vec<Volume>, Vec<String>, Image)> {
    let CreateContainer { name, platform, mut config, mut host, endpoints } = request;
    if config.image.is_empty() {
        return Err(Error::Invalid("no image specified".to_owned()));
    }
    let image = engine.images.resolve_for_run(&config.image, platform.as_ref())?;
    // Of the user's own labels: an image does not say what a container may do.
    let rate = networks::rates(&config.labels).map_err(Error::Invalid)?;
    if rate != skep_net::Rate::default()
        && matches!(host.network_mode, NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_))
    {
        return Err(Error::Invalid("conflicting options: rates (skep.rate.*) and the network mode".to_owned()));
    }
    fill_in(&mut config, &image.config);
    let argv: Vec<String> = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    if argv.is_empty() || argv[0].is_empty() {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    defaults(engine, &mut host);
    let userns = crate::userns::conflict(&engine.config, &host);
    validate::check(&config, &host, &Machine { cpus: cpus(), userns })?;
    security::capabilities(&host)?;
    security::options(&host, false)?;
    let networks = network_endpoints(engine, &mut host, endpoints)?;
    links::resolve(engine, &mut host)?;
    let mut warnings: Vec<String> = image.platform_warning.clone().into_iter().collect();
    if host.network_mode == NetworkMode::Host && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    warnings.extend(refused_limits(&host));

    let id = ContainerId::from_bytes(crate::random::bytes());
    let mut undo = Undo { engine: engine.clone(), id, name: None, directory: false, volumes: Vec::new(), armed: true };
    undo.name = Some(take_name(engine, name, id)?);
    let directory = bundle::directory(engine, id);
    let path = |name: &str| directory.join(name).display().to_string();
    let files = EngineFiles {
        resolv_conf: path("resolv.conf"),
        hostname: path("hostname"),
        hosts: path("hosts"),
        log: if host.log.driver == "json-file" { path(&format!("{id}-json.log")) } else { String::new() },
    };
    let inherited = volumes_from(engine, &host.volumes_from)?;
    let mut record = Record {
        id,
        name: undo.name.clone().ok_or_else(|| Error::Invalid("no name".to_owned()))?,
        created: Utc::now(),
        image_id: image.id,
        chain_id: image.chain_id,
        platform: image.platform.clone(),
        mounts: mounts::plan(&config, &host, inherited)?,
        config,
        host,
        argv,
        endpoints: networks,
        files,
        running: None,
        last_exit: None,
        ever_ran: false,
        restart_count: 0,
        stopped_by_user: false,
        ports: BTreeMap::new(),
        nets: Vec::new(),
        rate,
        sandbox: String::new(),
    };
    record.rename_endpoints();
    if let NetworkMode::Container(other) = &record.host.network_mode {
        let other = engine.containers.find(other)?.view();
        record.files.hosts.clone_from(&other.files.hosts);
        record.files.resolv_conf.clone_from(&other.files.resolv_conf);
        record.files.hostname.clone_from(&other.files.hostname);
        record.host.network_mode = NetworkMode::Container(other.id.to_string());
    }
    bundle::check_log(&record)?;
    undo.directory = true;
    engine.storage.make_container_dir(id, record.chain_id.as_ref())?;
    make_volumes(engine, &mut record, &mut undo)?;
    super::copy_up::run(engine, &record, &undo.volumes)?;
    engine.storage.put_container(&record)?;
    let volumes = undo.disarm();
    Ok((record, volumes, warnings, image))
}

fn cpus() -> u32 {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1)
}

/// What the user left open comes from the image. An entrypoint of the user's own makes the image's command void.
fn fill_in(config: &mut ContainerConfig, image: &ImageConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    let set = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    // An entrypoint of one empty word takes the image's away.
    if config.entrypoint.as_ref().is_some_and(|words| words.len() == 1 && words[0].is_empty()) {
        config.entrypoint = None;
    } else if !set(&config.entrypoint) {
        if !set(&config.cmd) {
            config.cmd.clone_from(&image.cmd);
        }
        config.entrypoint.clone_from(&image.entrypoint);
    }
    let mut env = image.env.clone();
    super::oci::merge_environment(&mut env, &config.env);
    let removed = config.env.iter().filter(|entry| !entry.contains('=')).cloned();
    env.extend(removed);
    config.env = env;
    config.exposed_ports.extend(image.exposed_ports.iter().copied());
    config.volumes.extend(image.volumes.iter().cloned());
    let mut labels = image.labels.clone();
    labels.extend(std::mem::take(&mut config.labels));
    config.labels = labels;
    if config.stop_signal.as_deref().unwrap_or("").is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
    config.on_build.clear();
}

/// What the user left open comes from the engine's settings.
fn defaults(engine: &Inner, host: &mut HostConfig) {
    if host.log.driver.is_empty() {
        host.log.driver.clone_from(&engine.config.log.driver);
        if host.log.options.is_empty() {
            host.log.options.clone_from(&engine.config.log.options);
        }
    }
    if host.shm_size.is_none_or(|size| size == 0) {
        host.shm_size = i64::try_from(engine.config.default_shm_size).ok();
    }
    if host.resources.memory_swappiness == Some(-1) {
        host.resources.memory_swappiness = None;
    }
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
}

/// Limits that this machine's kernel can't set; they are taken back so that `inspect` tells the truth at start.
fn refused_limits(host: &HostConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let support = crate::engine::limit_support();
    let limits = &host.resources;
    if limits.memory > 0 && !support.memory {
        warnings.push("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.".to_owned());
    }
    if limits.memory_swap > 0 && limits.memory > 0 && support.memory && !support.swap {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".to_owned());
    }
    if limits.pids_limit.is_some_and(|limit| limit > 0) && !support.pids {
        warnings.push(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                .to_owned(),
        );
    }
    if (limits.nano_cpus > 0 || limits.cpu_quota > 0) && !support.cpu_quota {
        warnings.push(
            "Your kernel does not support CPU CFS scheduler or the cgroup is not mounted. Limitation discarded."
                .to_owned(),
        );
    }
    if limits.oom_kill_disable == Some(true) && !support.oom_kill_disable {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    warnings
}

/// The places in networks that are asked for; the first is that of the network mode.
fn network_endpoints(
    engine: &Inner,
    host: &mut HostConfig,
    mut settings: BTreeMap<String, EndpointSettings>,
) -> Result<BTreeMap<String, Endpoint>> {
    let name = match &host.network_mode {
        NetworkMode::Container(other) => {
            engine.containers.find(other).map_err(|e| not_the_image(e, "joining network namespace of container"))?;
            return Ok(BTreeMap::new());
        }
        NetworkMode::Default => engine.networks.default_name().to_owned(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Named(name) => name.clone(),
    };
    let missing = |e: Error| not_the_image(e, "failed to set up container networking");
    let main = engine.networks.find(&name).map_err(missing)?;
    if name != main.name && host.network_mode == NetworkMode::Named(name.clone()) {
        host.network_mode = NetworkMode::Named(main.id.to_string());
    }
    let own = settings
        .remove(&name)
        .or_else(|| settings.remove(&main.name))
        .or_else(|| settings.remove(&main.id.to_string()))
        .or_else(|| settings.remove("default"))
        .unwrap_or_default();
    let mut wanted = vec![(main, own)];
    for (name, settings) in settings {
        wanted.push((engine.networks.find(&name).map_err(missing)?, settings));
    }
    if wanted.len() > 1 && wanted.iter().any(|(network, _)| matches!(network.name.as_str(), "host" | "none")) {
        return Err(Error::Invalid(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned(),
        ));
    }
    let mut places = BTreeMap::new();
    for (network, settings) in wanted {
        if network.settings.config_only {
            return Err(Error::Forbidden("cannot create endpoint on configuration-only network".to_owned()));
        }
        networks::check_endpoint(&network, &settings, Context::Create)?;
        let name = network.name.clone();
        let place = Endpoint { network: network.id, settings, attached: None, names: Vec::new() };
        if places.insert(name, place).is_some() {
            return Err(Error::Invalid(format!("network {:?} is specified multiple times", network.name)));
        }
    }
    Ok(places)
}

/// Clients take "not found" on create for a missing image and pull it: what else is missing must be said otherwise.
fn not_the_image(error: Error, doing: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::Invalid(format!("{doing}: {error}")),
        _ => error,
    }
}

fn take_name(engine: &Inner, wanted: Option<ContainerName>, id: ContainerId) -> Result<ContainerName> {
    if let Some(name) = wanted {
        engine.containers.reserve_name(&name, id)?;
        return Ok(name);
    }
    let mut attempt = 0;
    loop {
        let name = names::random(u32::from_le_bytes(crate::random::bytes()), attempt);
        match engine.containers.reserve_name(&name, id) {
            Ok(()) => return Ok(name),
            Err(error) if attempt > 1000 || error.kind() != ErrorKind::Conflict => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

/// Mounts that `--volumes-from` brings: `container[:ro|rw]`.
fn volumes_from(engine: &Inner, from: &[String]) -> Result<Vec<Mount>> {
    let mut inherited = Vec::new();
    for text in from {
        let (name, mode) = text.split_once(':').unwrap_or((text, ""));
        if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
            return Err(Error::Invalid(format!("invalid volumes-from specification: {text}")));
        }
        let id = engine.containers.find(name).map_err(|e| Error::Invalid(e.to_string()))?.id;
        let Some(other) = engine.storage.container(id)? else { continue };
        inherited.extend(other.mounts.into_iter().filter(|mount| mount.point.kind != MountKind::Tmpfs).map(
            |mut mount| {
                mount.point.writable &= mode != "ro";
                mount.anonymous = false;
                mount
            },
        ));
    }
    Ok(inherited)
}

fn make_volumes(engine: &Inner, record: &mut Record, undo: &mut Undo) -> Result<()> {
    for mount in record.mounts.iter_mut().filter(|mount| mount.point.kind == MountKind::Volume) {
        let name = match mount.point.name.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|e: skep_types::NameError| Error::Invalid(e.to_string()))?),
        };
        let request = CreateVolume { name, labels: mount.volume_labels.clone(), ..CreateVolume::default() };
        let (volume, made) = engine.volumes.create(&request, mount.anonymous)?;
        mount.point.name = volume.name.to_string();
        mount.point.source.clone_from(&volume.mountpoint);
        if made {
            undo.volumes.push(volume);
        }
    }
    Ok(())
}

/// What is taken back when making a container fails.
struct Undo {
    engine: Arc<Inner>,
    id: ContainerId,
    name: Option<ContainerName>,
    directory: bool,
    /// Volumes that were made for it.
    volumes: Vec<Volume>,
    armed: bool,
}

impl Undo {
    fn disarm(mut self) -> Vec<Volume> {
        self.armed = false;
        std::mem::take(&mut self.volumes)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let unmade = self.volumes.iter().map(|volume| self.engine.volumes.remove(&volume.name));
        for error in unmade.filter_map(Result::err) {
            tracing::warn!(%error, "taking back a volume");
        }
        if self.directory
            && let Err(error) = self.engine.storage.trash(&bundle::directory(&self.engine, self.id))
        {
            tracing::warn!(container = %self.id, %error, "taking back a container's directory");
        }
        if let Some(name) = &self.name {
            self.engine.containers.release_name(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|&w| w.to_owned()).collect())
    }

    #[test]
    fn commands_follow_dockers_rules() {
        let image = ImageConfig { entrypoint: words(&["/e"]), cmd: words(&["c"]), ..ImageConfig::default() };
        let cases = [
            ((None, None), (words(&["/e"]), words(&["c"]))),
            ((None, words(&["x"])), (words(&["/e"]), words(&["x"]))),
            ((words(&["/own"]), None), (words(&["/own"]), None)),
            ((words(&[""]), words(&["x"])), (None, words(&["x"]))),
        ];
        for ((entrypoint, cmd), expected) in cases {
            let mut config = ContainerConfig { entrypoint, cmd, ..ContainerConfig::default() };
            fill_in(&mut config, &image);
            assert_eq!((config.entrypoint, config.cmd), expected);
        }
    }

    #[test]
    fn labels_and_environment_are_merged() {
        let image = ImageConfig {
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            labels: BTreeMap::from([("k".to_owned(), "image".to_owned())]),
            ..ImageConfig::default()
        };
        let mut config = ContainerConfig {
            env: vec!["B=3".to_owned()],
            labels: BTreeMap::from([("k".to_owned(), "own".to_owned())]),
            ..ContainerConfig::default()
        };
        fill_in(&mut config, &image);
        assert_eq!(config.env, ["A=1", "B=3"]);
        assert_eq!(config.labels["k"], "own");
    }
}
