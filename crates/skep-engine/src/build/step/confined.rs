//! A program of the host that handles what strangers send (git, and the ssh client that it starts), run as the engine's container: it
//! sees the host's programs and certificates, not writable, and the directories of its task, nothing else of the host's files. It has no
//! capabilities, the default filter of system calls, no processes but its own, and the host's network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use skep_build::BuildError;
use skep_build::worker::Context;
use skep_runtime::protocol::{Attach, Exit, FirstProcess, Grace, Lifetime, Rootfs, ShimConfig, StdinMode, VERSION};
use skep_runtime::spec::{Mount, Spec};
use skep_types::ErrorKind;

use super::super::error::{blocking, engine as engine_error};
use super::output::Pieces;
use super::room::Room;
use super::{ended, lost};
use crate::containers::oci::{self, Inputs};
use crate::containers::users::Identity;
use crate::engine::Inner;
use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, Resources, Ulimit, UsernsMode};
use crate::model::network::NetworkMode;
use crate::model::view::EngineFiles;
use crate::shim::{ShimHandle, Spawned};

/// What of the host is shown, as far as it has it: programs, and what they need to reach a server and to trust it.
const SHOWN: [&str; 31] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/gnutls",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
];
/// Mounts of every container that have no use here.
const NOT_NEEDED: [&str; 4] = ["/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/pts"];
/// The largest file that it may write, in bytes.
const FILE_MAX: i64 = 64 << 30;
/// Processes that it may have.
const PROCESSES: i64 = 1024;
/// How long it may take altogether.
const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3 * 3600);

/// A program of the host.
pub(in crate::build) struct Confined {
    /// The program and its arguments.
    pub(in crate::build) argv: Vec<String>,
    /// All of its environment.
    pub(in crate::build) env: Vec<String>,
    /// Its directory.
    pub(in crate::build) cwd: PathBuf,
    /// Directories that it may write, at the same paths as on the host.
    pub(in crate::build) writable: Vec<PathBuf>,
    /// Further ones that it may read.
    pub(in crate::build) readable: Vec<PathBuf>,
}

/// What it said, and how it ended.
pub(in crate::build) struct Said {
    pub(in crate::build) code: u8,
    pub(in crate::build) output: BytesMut,
    pub(in crate::build) errors: BytesMut,
}

/// Runs a program to its end. Of what it says the first `most` bytes are kept.
pub(in crate::build) async fn run(
    engine: &Arc<Inner>,
    confined: Confined,
    most: usize,
    context: &Context,
) -> Result<Said, BuildError> {
    let preparing = Arc::clone(engine);
    let (mut room, config) = blocking(move || prepare(&preparing, &confined)).await?;
    let said = tokio::select! {
        said = execute(engine, &mut room, config, most) => said?,
        () = context.cancel.cancelled() => return Err(super::super::error::cancelled()),
        () = tokio::time::sleep(TIME_MAX) => {
            return Err(BuildError::new(ErrorKind::Unavailable, "it took too long"));
        }
    };
    blocking(move || {
        room.leave();
        Ok(said)
    })
    .await
}

fn prepare(engine: &Arc<Inner>, confined: &Confined) -> Result<(Room, ShimConfig), BuildError> {
    let room = Room::new(engine, "")?;
    room.directory("rootfs")?;
    let spec = spec(engine, &room, confined)?;
    room.write(&spec)?;
    let config = ShimConfig {
        version: VERSION,
        id: room.id,
        rootfs: Rootfs::Spec,
        stdin: StdinMode::Closed,
        netns_fd: None,
        names: None,
        log: None,
        grace: Grace { slow_client_ms: u64::from(u32::MAX), ..Grace::default() },
        lifetime: Lifetime::Engine,
        first: FirstProcess::Program,
    };
    Ok((room, config))
}

fn spec(engine: &Inner, room: &Room, confined: &Confined) -> Result<Spec, BuildError> {
    let host = HostConfig {
        network_mode: NetworkMode::Host,
        cap_drop: vec!["ALL".to_owned()],
        security_opt: vec!["no-new-privileges".to_owned()],
        readonly_rootfs: true,
        // It has no capabilities, and writes directories that the engine reads.
        userns_mode: UsernsMode::Host,
        // When memory is short, it goes before what people run.
        oom_score_adj: 500,
        init: Some(false),
        resources: Resources {
            pids_limit: Some(PROCESSES),
            ulimits: vec![Ulimit { name: "fsize".to_owned(), soft: FILE_MAX, hard: FILE_MAX }],
            ..Resources::default()
        },
        ..HostConfig::default()
    };
    let inputs = Inputs {
        engine: &engine.config,
        config: &ContainerConfig {
            working_dir: confined.cwd.to_string_lossy().into_owned(),
            ..ContainerConfig::default()
        },
        host: &host,
        argv: &confined.argv,
        identity: &Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/nonexistent".to_owned() },
        mounts: &[],
        files: &EngineFiles::default(),
        cgroup: &room.cgroup,
        pid_namespace_of: None,
        user_namespace: None,
        hostname: "fetcher",
        linked: &[],
    };
    let mut spec = oci::spec(&inputs).map_err(engine_error)?;
    let needed = |mount: &Mount| {
        let bind = mount.kind.as_deref() == Some("bind");
        !bind && NOT_NEEDED.iter().all(|path| mount.destination != Path::new(path))
    };
    spec.mounts.retain(needed);
    let shown = SHOWN.iter().map(Path::new).filter(|path| path.exists());
    spec.mounts.extend(shown.chain(confined.readable.iter().map(PathBuf::as_path)).map(|path| bind(path, "ro")));
    spec.mounts.extend(confined.writable.iter().map(|path| bind(path, "rw")));
    if let Some(process) = &mut spec.process {
        process.env.clone_from(&confined.env);
    }
    Ok(spec)
}

fn bind(path: &Path, access: &str) -> Mount {
    Mount {
        destination: path.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(path.to_owned()),
        options: ["bind", "rprivate", "nosuid", "nodev", access].map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

async fn execute(engine: &Arc<Inner>, room: &mut Room, config: ShimConfig, most: usize) -> Result<Said, BuildError> {
    let spawned = ShimHandle::spawn(&engine.config.runtime, &room.bundle, config, None).await;
    let Spawned { shim, events, .. } = spawned.map_err(lost)?;
    room.occupy(shim.clone(), events);
    let stream = shim.attach(Attach { stdin: false, stdout: true, stderr: true }).await.map_err(lost)?;
    if let Err(error) = shim.start().await {
        let kind = match error.kind() {
            skep_runtime::protocol::FailureKind::CommandNotFound => ErrorKind::NotImplemented,
            _ => ErrorKind::System,
        };
        return Err(BuildError::new(kind, error.to_string()));
    }
    let mut said = Said { code: 0, output: BytesMut::new(), errors: BytesMut::new() };
    let listening = async {
        let mut pieces = Pieces::new(stream, true);
        while let Ok(Some((number, data))) = pieces.next().await {
            let into = if number == 1 { &mut said.output } else { &mut said.errors };
            let room = most.saturating_sub(into.len());
            into.extend_from_slice(&data[..data.len().min(room)]);
        }
    };
    let ((), exit): ((), Result<Exit, BuildError>) = tokio::join!(listening, ended(room));
    said.code = exit?.code;
    Ok(said)
}
