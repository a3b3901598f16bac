//! User namespaces for containers and steps of builds: dockerd's `userns-remap`.
//!
//! Nothing on the disk depends on it. Layers, changes and volumes belong to the ids that images and programs name, and are shown through
//! id-mapped mounts to whoever lives in a namespace: the option can come and go, and one container can do without.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::{EngineConfig, IdMaps};
use crate::model::host::{HostConfig, NamespaceMode, UsernsMode};
use crate::model::network::NetworkMode;
use crate::{Error, Result};

/// The maps of the namespace that a container gets; none if it lives in the host's.
pub(crate) fn maps<'a>(config: &'a EngineConfig, host: &HostConfig) -> Option<&'a IdMaps> {
    config.userns_remap.as_ref().filter(|_| host.userns_mode != UsernsMode::Host)
}

/// What can't be had together with a user namespace, in dockerd's words.
pub(crate) fn conflict(config: &EngineConfig, host: &HostConfig) -> Option<&'static str> {
    maps(config, host)?;
    if host.privileged {
        return Some(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if host.network_mode == NetworkMode::Host {
        return Some("cannot share the host's network namespace when user namespaces are enabled");
    }
    (host.pid_mode == NamespaceMode::Host)
        .then_some("cannot share the host PID namespace when user namespaces are enabled")
}

/// Asks the runtime whether kernel and file systems can do it. Blocking.
pub(crate) fn check(config: &EngineConfig) -> Result<()> {
    if config.userns_remap.is_none() {
        return Ok(());
    }
    let failed = |text: String| Error::Invalid(format!("userns-remap: {text}"));
    let places = [config.data_root.join("layers"), config.exec_root.join("containers")];
    let asked = Command::new(&config.runtime).arg("idmap").args(&places).env_clear().output();
    let asked = asked.map_err(|e| Error::system(format!("running {}", config.runtime.display()), e))?;
    if asked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&asked.stderr);
    Err(failed(said.trim().trim_start_matches("skep-runtime: ").to_owned()))
}

/// The user namespace of a process that a container shares others with; none if that is the host's.
pub(crate) fn of_process(pid: i32) -> Result<Option<PathBuf>> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/user"));
    let named =
        |path: &Path| std::fs::read_link(path).map_err(|e| Error::system(format!("reading {}", path.display()), e));
    let own = named(Path::new("/proc/self/ns/user"))? == named(&path)?;
    Ok((!own).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::spec::IdMapping;

    #[test]
    fn what_is_shared_with_the_host_excludes_a_user_namespace() {
        let ranges = vec![IdMapping { container_id: 0, host_id: 100_000, size: 65536 }];
        let mut config = EngineConfig::new("/d".into(), "/e".into(), "/r".into());
        let privileged = HostConfig { privileged: true, ..HostConfig::default() };
        assert_eq!(conflict(&config, &privileged), None, "the option is off");
        config.userns_remap = Some(IdMaps { uids: ranges.clone(), gids: ranges });
        assert!(conflict(&config, &privileged).is_some_and(|text| text.starts_with("privileged mode is incompatible")));
        let network = HostConfig { network_mode: NetworkMode::Host, ..HostConfig::default() };
        assert!(conflict(&config, &network).is_some_and(|text| text.contains("host's network namespace")));
        let pid = HostConfig { pid_mode: NamespaceMode::Host, ..HostConfig::default() };
        assert!(conflict(&config, &pid).is_some_and(|text| text.contains("host PID namespace")));
        for host in [privileged, network, pid] {
            assert_eq!(conflict(&config, &HostConfig { userns_mode: UsernsMode::Host, ..host }), None);
        }
        assert_eq!(conflict(&config, &HostConfig::default()), None);
    }
}
