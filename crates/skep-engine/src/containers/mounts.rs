//! From what the user wrote (`-v`, `--mount`, `--tmpfs`, `--volumes-from`, the image's VOLUMEs) to the list of mounts of a
//! container. Pure: nothing is made here; the engine makes volumes and missing directories afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_types::VolumeName;

use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, MountRequest, MountSource};
use crate::model::view::{MountKind, MountPoint};
use crate::{Error, Result};

/// A mount of a container with what is needed to make it at each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// What `inspect` shows. For a volume, `source` is empty until the volume is there.
    pub(crate) point: MountPoint,
    /// A volume that nobody named: it goes with the container if asked.
    #[serde(default)]
    pub(crate) anonymous: bool,
    /// Don't copy the image's files into an empty volume.
    #[serde(default)]
    pub(crate) no_copy: bool,
    /// Mounts below the source are left out.
    #[serde(default)]
    pub(crate) non_recursive: bool,
    /// Make a missing source directory.
    #[serde(default)]
    pub(crate) create_source: bool,
    /// Options of a tmpfs (`size=64m`, `mode=700`).
    #[serde(default)]
    pub(crate) tmpfs_options: String,
    /// Labels and driver options of a volume that is to be made.
    #[serde(default)]
    pub(crate) volume_labels: BTreeMap<String, String>,
}

impl Mount {
    fn new(kind: MountKind, destination: &str) -> Self {
        Mount {
            point: MountPoint {
                kind,
                name: String::new(),
                source: String::new(),
                subpath: String::new(),
                destination: clean(destination),
                driver: String::new(),
                mode: String::new(),
                writable: true,
                propagation: String::new(),
            },
            anonymous: false,
            no_copy: false,
            non_recursive: false,
            create_source: false,
            tmpfs_options: String::new(),
            volume_labels: BTreeMap::new(),
        }
    }
}

/// All mounts of a container, sorted by destination so that outer ones come first. `inherited` are the mounts that
/// `--volumes-from` brings; what the container says itself wins over them, and both win over the image's volumes.
pub(super) fn plan(config: &ContainerConfig, host: &HostConfig, inherited: Vec<Mount>) -> Result<Vec<Mount>> {
    let mut by_destination: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in inherited {
        by_destination.insert(mount.point.destination.clone(), mount);
    }
    let mut own: BTreeMap<String, Mount> = BTreeMap::new();
    let binds = host.binds.iter().map(|bind| parse_bind(bind));
    let mounts = host.mounts.iter().map(from_request);
    for mount in binds.chain(mounts) {
        let mount = mount?;
        let destination = mount.point.destination.clone();
        if own.insert(destination.clone(), mount).is_some() {
            return Err(Error::Invalid(format!("Duplicate mount point: {destination}")));
        }
    }
    for (target, options) in &host.tmpfs {
        let mut mount = Mount::new(MountKind::Tmpfs, absolute(target)?);
        check_tmpfs(options)?;
        mount.tmpfs_options = options.clone();
        mount.point.writable = !options.split(',').any(|option| option == "ro");
        let destination = mount.point.destination.clone();
        if own.insert(destination.clone(), mount).is_some() {
            return Err(Error::Invalid(format!("Duplicate mount point: {destination}")));
        }
    }
    by_destination.extend(own);
    for path in &config.volumes {
        let destination = clean(absolute(path)?);
        if destination == "/" {
            return Err(Error::Invalid(format!(
                "invalid volume specification: '{path}': invalid mount config for type \"volume\": invalid specification: destination can't be '/'"
            )));
        }
        by_destination.entry(destination).or_insert_with(|| {
            let mut mount = Mount::new(MountKind::Volume, path);
            mount.anonymous = true;
            mount.point.driver = "local".to_owned();
            mount
        });
    }
    Ok(by_destination.into_values().collect())
}

/// Refuses what no tmpfs takes; the values are the kernel's to judge.
fn check_tmpfs(options: &str) -> Result<()> {
    const FLAGS: [&str; 23] = [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "defaults",
    ];
    const KEYS: [&str; 8] = ["mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol", "huge"];
    let known = |option: &&str| {
        FLAGS.contains(option)
            || is_propagation(option)
            || option.split_once('=').is_some_and(|(key, _)| KEYS.contains(&key))
    };
    match options.split(',').filter(|option| !option.is_empty()).find(|option| !known(option)) {
        Some(bad) => Err(Error::Invalid(format!("invalid tmpfs option \"{bad}\""))),
        None => Ok(()),
    }
}

/// `[source:]target[:options]`.
fn parse_bind(text: &str) -> Result<Mount> {
    let invalid = || Error::Invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid()),
    };
    if target.is_empty() || parts.len() > 1 && source.is_empty() {
        return Err(invalid());
    }
    if clean(target) == "/" {
        return Err(Error::Invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{}\": invalid specification: destination can't be '/'",
            if source.starts_with('/') { "bind" } else { "volume" }
        )));
    }
    if !target.starts_with('/') {
        return Err(Error::Invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{}\": invalid mount path: '{target}' mount path must be absolute",
            if source.starts_with('/') { "bind" } else { "volume" }
        )));
    }
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let mut mount = Mount::new(kind, target);
    mount.point.mode = options.to_owned();
    if options.split(',').filter(|option| matches!(*option, "ro" | "rw")).count() > 1 {
        return Err(Error::Invalid(format!("invalid mode: {options}")));
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.point.writable = false,
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "nocopy" if kind == MountKind::Volume => mount.no_copy = true,
            propagation if kind == MountKind::Bind && is_propagation(propagation) => {
                mount.point.propagation = propagation.to_owned();
            }
            _ => {
                return Err(Error::Invalid(format!("invalid mode: {options}")));
            }
        }
    }
    match kind {
        MountKind::Bind => {
            mount.point.source = clean(source);
            mount.create_source = true;
            if mount.point.propagation.is_empty() {
                mount.point.propagation = "rprivate".to_owned();
            }
        }
        MountKind::Volume | MountKind::Tmpfs => {
            mount.point.driver = "local".to_owned();
            mount.anonymous = source.is_empty();
            if !mount.anonymous {
                let name: VolumeName = source
                    .parse()
                    .map_err(|e: skep_types::NameError| Error::Invalid(format!("create {source}: {e}")))?;
                mount.point.name = name.to_string();
            }
            if mount.point.mode.is_empty() {
                mount.point.mode = "z".to_owned();
            }
        }
    }
    Ok(mount)
}

fn from_request(request: &MountRequest) -> Result<Mount> {
    let kind_name = match &request.source {
        MountSource::Bind { .. } => "bind",
        MountSource::Volume { .. } => "volume",
        MountSource::Tmpfs { .. } => "tmpfs",
    };
    let invalid = |why: String| Error::Invalid(format!("invalid mount config for type \"{kind_name}\": {why}"));
    if request.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    if !request.target.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", request.target)));
    }
    if clean(&request.target) == "/" {
        return Err(invalid("invalid specification: destination can't be '/'".to_owned()));
    }
    let mut mount = match &request.source {
        MountSource::Bind { path, propagation, non_recursive, create_mountpoint } => {
            if path.is_empty() {
                return Err(invalid("field Source must not be empty".to_owned()));
            }
            if !path.starts_with('/') {
                return Err(invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
            }
            if !propagation.is_empty() && !is_propagation(propagation) {
                return Err(invalid(format!("invalid propagation mode: {propagation}")));
            }
            if !create_mountpoint && std::fs::symlink_metadata(path).is_err() {
                return Err(invalid(format!("bind source path does not exist: {path}")));
            }
            let mut mount = Mount::new(MountKind::Bind, &request.target);
            mount.point.source = clean(path);
            mount.point.propagation = if propagation.is_empty() { "rprivate" } else { propagation }.to_owned();
            mount.non_recursive = *non_recursive;
            mount.create_source = *create_mountpoint;
            mount
        }
        MountSource::Volume { name, no_copy, labels, driver, driver_options, subpath } => {
            if !driver.is_empty() && driver != "local" {
                return Err(Error::NotImplemented(format!("volume driver \"{driver}\" is not supported")));
            }
            if !driver_options.is_empty() {
                return Err(Error::NotImplemented("options of the volume driver are not supported".to_owned()));
            }
            if subpath.split('/').any(|part| part == "..") || subpath.starts_with('/') {
                return Err(invalid(format!("subpath must be a relative path within the volume: {subpath}")));
            }
            let mut mount = Mount::new(MountKind::Volume, &request.target);
            if !name.is_empty() {
                let name: VolumeName =
                    name.parse().map_err(|e: skep_types::NameError| Error::Invalid(e.to_string()))?;
                mount.point.name = name.to_string();
            }
            mount.anonymous = name.is_empty();
            mount.point.driver = "local".to_owned();
            mount.point.mode = "z".to_owned();
            mount.no_copy = *no_copy;
            mount.volume_labels = labels.clone();
            mount.point.subpath = subpath.clone();
            mount
        }
        MountSource::Tmpfs { size, mode } => {
            let mut mount = Mount::new(MountKind::Tmpfs, &request.target);
            let mut options = Vec::new();
            if *size > 0 {
                options.push(format!("size={size}"));
            }
            if let Some(mode) = mode {
                options.push(format!("mode={mode:o}"));
            }
            mount.tmpfs_options = options.join(",");
            mount
        }
    };
    mount.point.writable = !request.read_only;
    Ok(mount)
}

fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")
}

fn absolute(path: &str) -> Result<&str> {
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(Error::Invalid(format!("invalid mount path: '{path}' mount path must be absolute")))
    }
}

/// The path without doubled slashes, `.` and `..`, by its text alone.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(binds: &[&str]) -> Result<Vec<Mount>> {
        let host = HostConfig { binds: binds.iter().map(|&b| b.to_owned()).collect(), ..HostConfig::default() };
        plan(&ContainerConfig::default(), &host, Vec::new())
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        let mounts = binds(&["/a//b:/c/../d:ro", "data:/data", "/anon"]).expect("good binds");
        let shown: Vec<_> = mounts
            .iter()
            .map(|m| {
                (
                    m.point.kind,
                    m.point.source.as_str(),
                    m.point.name.as_str(),
                    m.point.destination.as_str(),
                    m.point.writable,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (MountKind::Volume, "", "", "/anon", true),
                (MountKind::Bind, "/a/b", "", "/d", false),
                (MountKind::Volume, "", "data", "/data", true),
            ]
        );
    }

    #[test]
    fn bad_binds_get_dockers_words() {
        for (bind, text) in [
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            ("/a:/b:huh", "invalid mode: huh"),
            (":/b", "invalid volume specification: ':/b'"),
        ] {
            assert_eq!(binds(&[bind]).expect_err(bind).to_string(), text);
        }
        assert!(binds(&["/a:/"]).expect_err("root").to_string().ends_with("destination can't be '/'"));
        assert!(binds(&["a b:/c"]).is_err());
        assert_eq!(binds(&["/a:/x", "/b:/x/"]).expect_err("twice").to_string(), "Duplicate mount point: /x");
    }

    #[test]
    fn the_containers_own_mounts_win_over_the_images_volumes() {
        let config =
            ContainerConfig { volumes: ["/data".to_owned(), "/other".to_owned()].into(), ..Default::default() };
        let host = HostConfig { binds: vec!["/src:/data".to_owned()], ..HostConfig::default() };
        let mounts = plan(&config, &host, Vec::new()).expect("good");
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point.kind, MountKind::Bind);
        assert!(mounts[1].anonymous);
    }
}
