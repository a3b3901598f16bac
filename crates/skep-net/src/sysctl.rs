//! Kernel settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::NetError;

const IPV6_INTERFACES: &str = "/proc/sys/net/ipv6/conf";

/// Writes a setting unless it has the value. Returns whether it had to be changed.
pub(crate) fn set(name: &str, value: &str) -> Result<bool, NetError> {
    let path = Path::new("/proc/sys/net").join(name);
    let wrap = |source: io::Error| NetError::File { path: path.clone(), source };
    if fs::read_to_string(&path).map_err(wrap)?.trim_end() == value {
        return Ok(false);
    }
    fs::write(&path, value).map_err(wrap)?;
    Ok(true)
}

/// As [`set`]; a kernel without the setting (IPv6 left out) is no error.
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<bool, NetError> {
    match set(name, value) {
        Err(NetError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

/// Whether the kernel has IPv6; it can be left out, or be switched off as the kernel starts.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf/all").exists()
}

/// Turns IPv6 forwarding on. A router does not listen to other routers, so interfaces that did are told to go on with it:
/// the host would lose its own default route when the announced one times out.
pub(crate) fn forward_ipv6() -> Result<(), NetError> {
    if !set("ipv6/conf/all/forwarding", "1")? {
        return Ok(());
    }
    let interfaces = fs::read_dir(IPV6_INTERFACES).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in interfaces.filter(|name| !matches!(name.to_str(), Some("all" | "default" | "lo"))) {
        let path = Path::new(IPV6_INTERFACES).join(name).join("accept_ra");
        let listens = fs::read_to_string(&path).is_ok_and(|value| value.trim_end() == "1");
        if listens && let Err(source) = fs::write(&path, "2") {
            return Err(NetError::File { path, source });
        }
    }
    Ok(())
}
