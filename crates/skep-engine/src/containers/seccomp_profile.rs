//! Seccomp profiles in Docker's form (`--security-opt seccomp=FILE`, sent as JSON): rules that hold for some architectures,
//! capabilities or kernels only, resolved for one container.

use serde::Deserialize;
use skep_runtime::spec;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Vec<String>,
    arch_map: Vec<Architecture>,
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<spec::SeccompArg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    arches: Vec<String>,
    caps: Vec<String>,
    min_kernel: Option<String>,
}

/// The machine's architecture in the words of profiles.
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, &str) = ("amd64", "SCMP_ARCH_X86_64");
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, &str) = ("arm64", "SCMP_ARCH_AARCH64");

/// Reads a profile and keeps what holds for a container with `capabilities` on this machine.
pub(super) fn parse(text: &str, capabilities: &[String]) -> Result<spec::Seccomp, String> {
    let profile: Profile =
        serde_json::from_str(text).map_err(|error| format!("Decoding seccomp profile failed: {error}"))?;
    if profile.default_action.is_empty() {
        return Err("Decoding seccomp profile failed: defaultAction is missing".to_owned());
    }
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'".to_owned());
    }
    let mut architectures = profile.architectures;
    if let Some(native) = profile.arch_map.into_iter().find(|entry| entry.architecture == NATIVE.1) {
        architectures.push(native.architecture);
        architectures.extend(native.sub_architectures);
    }
    let kernel = kernel_version();
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        if !rule.name.is_empty() && !rule.names.is_empty() {
            return Err(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'".to_owned()
            );
        }
        let names = if rule.names.is_empty() { vec![rule.name] } else { rule.names };
        let excluded = rule.excludes.is_some_and(|condition| {
            condition.arches.iter().any(|arch| arch == NATIVE.0)
                || condition.caps.iter().any(|cap| capabilities.contains(cap))
                || condition.min_kernel.as_deref().and_then(version).is_some_and(|least| kernel >= least)
        });
        let included = rule.includes.is_none_or(|condition| {
            (condition.arches.is_empty() || condition.arches.iter().any(|arch| arch == NATIVE.0))
                && condition.caps.iter().all(|cap| capabilities.contains(cap))
                && condition.min_kernel.as_deref().and_then(version).is_none_or(|least| kernel >= least)
        });
        if included && !excluded {
            syscalls.push(spec::SeccompRule {
                names,
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args.unwrap_or_default(),
            });
        }
    }
    Ok(spec::Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel_version() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy()).unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_resolved() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
                {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
                {"names":["future"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]}"#;
        let names = |caps: &[&str]| {
            let caps: Vec<String> = caps.iter().map(|&c| c.to_owned()).collect();
            parse(text, &caps).expect("a profile").syscalls.into_iter().flat_map(|r| r.names).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["read", "clone", "ptrace"]);
        assert_eq!(names(&["CAP_SYS_ADMIN"]), ["read", "mount", "ptrace"]);
    }

    #[test]
    fn garbage_is_refused() {
        for bad in ["", "{}", "[]", "{\"defaultAction\":1}"] {
            assert!(parse(bad, &[]).is_err(), "{bad}");
        }
    }
}
