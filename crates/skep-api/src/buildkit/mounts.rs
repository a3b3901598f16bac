//! Mounts as BuildKit's messages describe them.

use std::path::Path;

use skep_build::BuildError;
use skep_build::graph::{MountKind, Secret, Sharing, StepId};
use skep_buildkit::proto::pb;

/// What is mounted. `from` is what a bind mount shows, and what a cache begins with.
pub(crate) fn kind(mount: &pb::Mount, from: Option<StepId>) -> Result<MountKind, BuildError> {
    let invalid = || BuildError::invalid(format!("the mount at {} has no options", mount.dest));
    let source = Path::new("/").join(&mount.selector);
    match pb::MountType::try_from(mount.mount_type) {
        Ok(pb::MountType::Bind) => {
            let missing = || BuildError::invalid(format!("the mount at {} is of nothing", mount.dest));
            Ok(MountKind::Bind { from: from.ok_or_else(missing)?, source })
        }
        Ok(pb::MountType::Cache) => {
            let options = mount.cache_opt.as_ref().ok_or_else(invalid)?;
            let sharing = match options.sharing() {
                pb::CacheSharingOpt::Shared => Sharing::Shared,
                pb::CacheSharingOpt::Private => Sharing::Private,
                pb::CacheSharingOpt::Locked => Sharing::Locked,
            };
            let from = from.map(|from| (from, source));
            Ok(MountKind::Cache { id: options.id.clone(), sharing, from, mode: 0o755, uid: 0, gid: 0 })
        }
        Ok(pb::MountType::Tmpfs) => {
            let size = mount.tmpfs_opt.map_or(0, |options| options.size);
            Ok(MountKind::Tmpfs { size: u64::try_from(size).unwrap_or(0) })
        }
        Ok(pb::MountType::Secret) => {
            let options = mount.secret_opt.as_ref().ok_or_else(invalid)?;
            Ok(MountKind::Secret(Secret {
                id: options.id.clone(),
                required: !options.optional,
                env: None,
                file: true,
                mode: options.mode,
                uid: options.uid,
                gid: options.gid,
            }))
        }
        Ok(pb::MountType::Ssh) => {
            let pb::SshOpt { id, uid, gid, mode, optional } = mount.ssh_opt.clone().ok_or_else(invalid)?;
            Ok(MountKind::Ssh { id, required: !optional, mode, uid, gid })
        }
        Err(_) => Err(BuildError::invalid(format!("unknown mount type {}", mount.mount_type))),
    }
}

/// A secret that is a variable.
pub(crate) fn secret_env(secret: &pb::SecretEnv) -> Secret {
    Secret {
        id: secret.id.clone(),
        required: !secret.optional,
        env: Some(secret.name.clone()),
        file: false,
        mode: 0o400,
        uid: 0,
        gid: 0,
    }
}
