//! What a device's specification changes in a container's.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use skep_runtime::spec::{self, Hooks, Linux, Spec};

use super::file::{Edits, Hook, Mount, Node};
use crate::{Error, Result};

/// Makes the changes.
pub(super) fn apply(edits: &Edits, spec: &mut Spec) -> Result<()> {
    for node in &edits.device_nodes {
        add_node(node, spec)?;
    }
    for mount in &edits.mounts {
        add_mount(mount, spec);
    }
    for hook in &edits.hooks {
        add_hook(hook, spec)?;
    }
    let Some(process) = &mut spec.process else { return Ok(()) };
    for entry in &edits.env {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        process.env.retain(|other| name(other) != name(entry));
        process.env.push(entry.clone());
    }
    let gids = &mut process.user.additional_gids;
    gids.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
    gids.sort_unstable();
    gids.dedup();
    Ok(())
}

fn add_node(node: &Node, spec: &mut Spec) -> Result<()> {
    let user = spec.process.as_ref().map(|process| (process.user.uid, process.user.gid)).unwrap_or_default();
    let linux = spec.linux.get_or_insert_with(Linux::default);
    let device = device(node, user)?;
    if matches!(device.kind.as_str(), "b" | "c" | "u") {
        let access = node.permissions.clone().unwrap_or_else(|| "rwm".to_owned());
        let kind = if device.kind == "b" { "b" } else { "c" };
        linux.resources.get_or_insert_default().devices.push(spec::DeviceRule {
            allow: true,
            kind: Some(kind.to_owned()),
            major: Some(device.major),
            minor: Some(device.minor),
            access: Some(access),
        });
    }
    linux.devices.retain(|other| other.path != device.path);
    linux.devices.push(device);
    Ok(())
}

/// The node, with what the host's says where the specification says nothing. It belongs to the container's user by default.
fn device(node: &Node, (uid, gid): (u32, u32)) -> Result<spec::Device> {
    let owner = |own: Option<u32>, user: u32| own.or_else(|| Some(user).filter(|id| *id != 0));
    let mut device = spec::Device {
        path: node.path.clone(),
        kind: node.kind.clone().unwrap_or_default(),
        major: node.major.unwrap_or_default(),
        minor: node.minor.unwrap_or_default(),
        file_mode: node.file_mode,
        uid: owner(node.uid, uid),
        gid: owner(node.gid, gid),
    };
    let is_whole = match device.kind.as_str() {
        "" => false,
        "p" => true,
        _ => node.major.is_some() && node.minor.is_some(),
    };
    if is_whole {
        return Ok(device);
    }
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    let invalid = |why: &str| Error::Invalid(format!("CDI device injection failed: {}: {why}", host.display()));
    let found = std::fs::metadata(host).map_err(|error| invalid(&error.to_string()))?;
    let kind = match found.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        kind if kind.is_fifo() => "p",
        _ => return Err(invalid("not a device node")),
    };
    if !matches!((device.kind.as_str(), kind), ("", _) | ("u", "c")) && device.kind != kind {
        return Err(invalid(&format!("its type is {kind}, not {}", device.kind)));
    }
    kind.clone_into(&mut device.kind);
    if kind != "p" {
        device.major = i64::from(rustix::fs::major(found.rdev()));
        device.minor = i64::from(rustix::fs::minor(found.rdev()));
    }
    device.file_mode = device.file_mode.or(Some(found.mode() & 0o777));
    Ok(device)
}

fn add_mount(mount: &Mount, spec: &mut Spec) {
    spec.mounts.retain(|other| other.destination != mount.container_path);
    let mut options = mount.options.clone();
    let is_bind = mount.kind.as_deref().is_none_or(|kind| kind == "bind");
    if is_bind && !options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")) {
        options.push("bind".to_owned());
    }
    spec.mounts.push(spec::Mount {
        destination: mount.container_path.clone(),
        kind: Some(mount.kind.clone().unwrap_or_else(|| "bind".to_owned())),
        source: Some(mount.host_path.clone()),
        options,
        ..spec::Mount::default()
    });
}

fn add_hook(hook: &Hook, spec: &mut Spec) -> Result<()> {
    let hooks: &mut Hooks = spec.hooks.get_or_insert_default();
    let list = match hook.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        other => return Err(Error::Invalid(format!("CDI device injection failed: unknown hook {other:?}"))),
    };
    list.push(spec::Hook {
        path: hook.path.clone(),
        args: if hook.args.is_empty() { vec![shown(&hook.path)] } else { hook.args.clone() },
        env: hook.env.clone(),
        timeout: hook.timeout,
    });
    Ok(())
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
