//! Capabilities and security options of a container.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use skep_runtime::capability::CapabilitySet;
use skep_runtime::{capability, seccomp, spec};

use super::seccomp_profile;
use crate::model::host::HostConfig;
use crate::{Error, Result};

/// What `--security-opt` comes to.
#[derive(Debug, Default)]
pub(super) struct SecurityOptions {
    pub(super) no_new_privileges: bool,
    seccomp: Option<String>,
    pub(super) unmask_paths: bool,
}

/// Reads the options; unknown ones are an error, those of absent kernel features too.
pub(super) fn options(host: &HostConfig, no_new_privileges: bool) -> Result<SecurityOptions> {
    let mut options = SecurityOptions { no_new_privileges, ..SecurityOptions::default() };
    for text in &host.security_opt {
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => options.no_new_privileges = true,
            ("no-new-privileges", "false") => options.no_new_privileges = false,
            ("seccomp", value) if !value.is_empty() => options.seccomp = Some(value.to_owned()),
            ("systempaths", "unconfined") => options.unmask_paths = true,
            ("label", "disable") => {}
            ("apparmor", "unconfined") => {}
            ("apparmor", profile) if !profile.is_empty() => {
                return Err(Error::NotImplemented(format!("AppArmor profiles are not supported: {profile}")));
            }
            ("label", label) if !label.is_empty() => {
                return Err(Error::NotImplemented(format!("SELinux labels are not supported: {label}")));
            }
            _ => return Err(Error::Invalid(format!("invalid --security-opt 2: \"{text}\""))),
        }
    }
    Ok(options)
}

/// The capabilities of a container, by their full names: Docker's default set, with what was added and dropped. "All" means
/// all that the engine itself can hand on.
pub(super) fn capabilities(host: &HostConfig) -> Result<Vec<String>> {
    let all = || capability::all().map(str::to_owned);
    let own = || all().filter(|name| own_bounding_set().contains(name));
    if host.privileged {
        return Ok(own().collect());
    }
    let normal = |option: &'static str, names: &[String]| -> Result<Vec<String>> {
        names
            .iter()
            .map(|name| {
                let upper = name.to_ascii_uppercase();
                if upper == "ALL" {
                    return Ok(upper);
                }
                let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
                if !all().any(|known| known == full) {
                    return Err(Error::Invalid(format!("invalid {option}: unknown capability: \"{full}\"")));
                }
                match own_bounding_set().contains(&full) {
                    true => Ok(full),
                    false => Err(Error::Invalid(format!(
                        "invalid {option}: capability not supported by your kernel or not available in the current \
                         environment: \"{full}\""
                    ))),
                }
            })
            .collect()
    };
    let added = normal("CapAdd", &host.cap_add)?;
    let dropped = normal("CapDrop", &host.cap_drop)?;
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let base: Vec<String> = if has(&added, "ALL") {
        own().collect()
    } else if has(&dropped, "ALL") {
        Vec::new()
    } else {
        capability::DEFAULT.iter().map(|&name| name.to_owned()).collect()
    };
    let mut names: Vec<String> = base.into_iter().filter(|name| !has(&dropped, name)).collect();
    for name in added.into_iter().filter(|name| name != "ALL") {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What this process can hand on to others (capabilities(7), "bounding set"): less than the kernel knows where the engine runs in
/// a container or a restricted machine.
fn own_bounding_set() -> &'static BTreeSet<String> {
    static SET: OnceLock<BTreeSet<String>> = OnceLock::new();
    SET.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let bits = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX);
        CapabilitySet::from_bits(bits).names().map(str::to_owned).collect()
    })
}

impl SecurityOptions {
    /// The system call filter; none for privileged containers and `seccomp=unconfined`.
    pub(super) fn seccomp(&self, host: &HostConfig, capabilities: &[String]) -> Result<Option<spec::Seccomp>> {
        match self.seccomp.as_deref() {
            Some("unconfined") => Ok(None),
            None if host.privileged => Ok(None),
            None | Some("builtin") => Ok(Some(seccomp::default_profile(capabilities))),
            Some(profile) => seccomp_profile::parse(profile, capabilities).map(Some).map_err(Error::Invalid),
        }
    }
}
