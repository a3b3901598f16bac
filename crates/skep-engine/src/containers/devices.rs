//! Devices of a container: which it may use (the device cgroup) and which nodes it sees beyond the standard ones.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use skep_runtime::spec;

use crate::model::host::{DeviceMapping, HostConfig};
use crate::{Error, Result};

/// Nodes and rules for a container.
pub(super) fn devices(host: &HostConfig) -> Result<(Vec<spec::Device>, Vec<spec::DeviceRule>)> {
    if host.privileged {
        let mut nodes = Vec::new();
        collect(Path::new("/dev"), Path::new("/dev"), &mut nodes)?;
        nodes.retain(|node| !is_standard(&node.path));
        return Ok((
            nodes,
            vec![spec::DeviceRule { allow: true, access: Some("rwm".to_owned()), ..Default::default() }],
        ));
    }
    let mut nodes = Vec::new();
    let mut rules = default_rules();
    for mapping in &host.devices {
        let found = mapped(mapping)?;
        rules.extend(
            found.iter().map(|node| rule(true, &node.kind, Some(node.major), Some(node.minor), &mapping.permissions)),
        );
        nodes.extend(found);
    }
    for text in &host.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok((nodes, rules))
}

/// Nothing, but making nodes, and the devices that every program may need.
fn default_rules() -> Vec<spec::DeviceRule> {
    let mut rules = vec![spec::DeviceRule { allow: false, access: Some("rwm".to_owned()), ..Default::default() }];
    rules.push(rule(true, "c", None, None, "m"));
    rules.push(rule(true, "b", None, None, "m"));
    // null, zero, full, random, urandom, tty, console, ptmx, and the slaves of pseudo-terminals.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> spec::DeviceRule {
    spec::DeviceRule { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
}

fn mapped(mapping: &DeviceMapping) -> Result<Vec<spec::Device>> {
    let host = Path::new(&mapping.path_on_host);
    let inside = Path::new(&mapping.path_in_container);
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        Error::Invalid(format!(
            "error gathering device information while adding custom device \"{}\": {why}",
            host.display()
        ))
    };
    let target = std::fs::canonicalize(host).map_err(failed)?;
    let mut nodes = Vec::new();
    if target.is_dir() {
        collect(&target, inside, &mut nodes)?;
    } else if let Some(node) = node(&target, inside.to_owned()).map_err(failed)? {
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(Error::Invalid(format!(
            "error gathering device information while adding custom device \"{}\": not a device node",
            host.display()
        )));
    }
    Ok(nodes)
}

/// All device nodes below `host`, shown below `inside`. What vanishes meanwhile is passed over.
fn collect(host: &Path, inside: &Path, nodes: &mut Vec<spec::Device>) -> Result<()> {
    let entries = std::fs::read_dir(host).map_err(|e| Error::system(format!("listing {}", host.display()), e))?;
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() {
            let skipped =
                matches!(name.to_str(), Some("pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev"));
            if !skipped {
                collect(&entry.path(), &inside.join(&name), nodes)?;
            }
        } else if let Ok(Some(found)) = node(&entry.path(), inside.join(&name)) {
            nodes.push(found);
        }
    }
    Ok(())
}

fn node(host: &Path, inside: PathBuf) -> std::io::Result<Option<spec::Device>> {
    let metadata = std::fs::symlink_metadata(host)?;
    let kind = if metadata.file_type().is_block_device() {
        "b"
    } else if metadata.file_type().is_char_device() {
        "c"
    } else {
        return Ok(None);
    };
    let device = metadata.rdev();
    Ok(Some(spec::Device {
        path: inside,
        kind: kind.to_owned(),
        major: i64::from(rustix::fs::major(device)),
        minor: i64::from(rustix::fs::minor(device)),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    }))
}

/// Nodes that the runtime makes in every container.
fn is_standard(path: &Path) -> bool {
    const STANDARD: [&str; 8] =
        ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx"];
    STANDARD.iter().any(|standard| path == Path::new(standard))
}

/// `c 189:* rmw`.
fn parse_rule(text: &str) -> Result<spec::DeviceRule> {
    let invalid = || Error::Invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_whitespace();
    let (Some(kind @ ("a" | "b" | "c")), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| invalid()),
    };
    if access.is_empty() || !access.bytes().all(|c| matches!(c, b'r' | b'w' | b'm')) {
        return Err(invalid());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule = parse_rule("c 189:* rmw").expect("a rule");
        assert_eq!((rule.major, rule.minor), (Some(189), None));
        for bad in ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c 1:3 r r", "c -1:3 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_of_the_host_brings_node_and_rule() {
        let host = HostConfig {
            devices: vec![DeviceMapping {
                path_on_host: "/dev/zero".to_owned(),
                path_in_container: "/dev/nil".to_owned(),
                permissions: "r".to_owned(),
            }],
            ..HostConfig::default()
        };
        let (nodes, rules) = devices(&host).expect("there");
        assert_eq!((nodes[0].path.as_path(), nodes[0].major, nodes[0].minor), (Path::new("/dev/nil"), 1, 5));
        assert_eq!(rules.last().expect("a rule").access.as_deref(), Some("r"));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for path in ["/etc/passwd", "/nowhere"] {
            let mapping = DeviceMapping {
                path_on_host: path.to_owned(),
                path_in_container: path.to_owned(),
                permissions: "rwm".to_owned(),
            };
            assert!(mapped(&mapping).is_err(), "{path}");
        }
    }
}
