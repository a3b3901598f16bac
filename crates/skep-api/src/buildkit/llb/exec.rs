//! Programs.

use std::path::PathBuf;

use skep_build::BuildError;
use skep_build::graph::{Device, Limits, Mount, MountKind, Network, Op, Run, StepId};
use skep_buildkit::proto::pb;
use skep_types::ErrorKind;

use super::super::entitlements::{NETWORK_HOST, SECURITY_INSECURE};
use super::super::mounts;
use super::{Common, Loader, Output, Result, refused};

impl Loader<'_> {
    pub(super) fn exec(&mut self, exec: &pb::ExecOp, inputs: &[pb::Input], common: &Common) -> Result<Vec<Output>> {
        let meta = exec.meta.clone().unwrap_or_default();
        if meta.args.is_empty() {
            return Err(BuildError::invalid("invalid exec op with no args"));
        }
        if meta.valid_exit_codes.iter().any(|code| *code != 0) {
            return Err(refused("an exec op that may end with another code than 0"));
        }
        let root = exec.mounts.iter().position(|mount| mount.dest == "/");
        let root = root.ok_or_else(|| BuildError::invalid("invalid exec op with no root mount"))?;
        let base = self.root(&exec.mounts[root], inputs, common)?;
        let mut mounted = Vec::new();
        for mount in exec.mounts.iter().enumerate().filter(|(index, _)| *index != root).map(|(_, mount)| mount) {
            mounted.push(self.mount(mount, inputs, common)?);
        }
        let variable =
            |secret| Mount { target: "/".into(), kind: MountKind::Secret(mounts::secret_env(secret)), readonly: true };
        mounted.extend(exec.secretenv.iter().map(variable));
        let run = Run {
            base,
            network: self.network(exec)?,
            insecure: self.insecure(exec)?,
            devices: self.devices(exec)?,
            silent_env: meta.proxy_env.as_ref().map(proxies).unwrap_or_default(),
            limits: limits(&meta),
            argv: meta.args,
            env: meta.env,
            cwd: PathBuf::from("/").join(meta.cwd),
            user: meta.user,
            hostname: Some(meta.hostname).filter(|name| !name.is_empty()),
            mounts: mounted,
        };
        let step = self.push(Op::Run(Box::new(run)), common);
        Ok(outputs(&exec.mounts, root, step))
    }

    fn root(&mut self, mount: &pb::Mount, inputs: &[pb::Input], common: &Common) -> Result<StepId> {
        if mount.mount_type != i32::from(pb::MountType::Bind) || mount.readonly {
            return Err(refused("an exec op whose root is not one that can be written"));
        }
        if !matches!(mount.selector.as_str(), "" | "/") {
            return Err(refused("an exec op on a directory of its input"));
        }
        self.numbered_or_scratch(inputs, mount.input, common)
    }

    fn mount(&mut self, mount: &pb::Mount, inputs: &[pb::Input], common: &Common) -> Result<Mount> {
        let from = match inputs.get(usize::try_from(mount.input).unwrap_or(usize::MAX)) {
            Some(input) => Some(self.tree(input)?),
            None if mount.input >= 0 => return Err(BuildError::invalid(format!("invalid input {}", mount.input))),
            None if mount.mount_type == i32::from(pb::MountType::Bind) => Some(self.scratch(common)),
            None => None,
        };
        let kind = mounts::kind(mount, from)?;
        Ok(Mount { target: PathBuf::from(&mount.dest), kind, readonly: mount.readonly })
    }

    fn network(&self, exec: &pb::ExecOp) -> Result<Network> {
        match pb::NetMode::try_from(exec.network) {
            Ok(pb::NetMode::Unset) => Ok(Network::Default),
            Ok(pb::NetMode::None) => Ok(Network::None),
            Ok(pb::NetMode::Host) if self.around.allow.network_host => Ok(Network::Host),
            Ok(pb::NetMode::Host) => Err(not_allowed(NETWORK_HOST)),
            Err(_) => Err(BuildError::invalid(format!("unknown network mode {}", exec.network))),
        }
    }

    fn devices(&self, exec: &pb::ExecOp) -> Result<Vec<Device>> {
        let granted = |device: &pb::CdiDevice| {
            let name = self.around.allow.devices.grant(&device.name);
            let name = name.ok_or_else(|| not_allowed(&format!("device {}", device.name)))?;
            Ok(Device { name: name.to_owned(), required: !device.optional })
        };
        exec.cdi_devices.iter().map(granted).collect()
    }

    fn insecure(&self, exec: &pb::ExecOp) -> Result<bool> {
        let insecure = exec.security == i32::from(pb::SecurityMode::Insecure);
        if insecure && !self.around.allow.insecure {
            return Err(not_allowed(SECURITY_INSECURE));
        }
        Ok(insecure)
    }
}

fn not_allowed(entitlement: &str) -> BuildError {
    BuildError::new(ErrorKind::Forbidden, format!("{entitlement} is not allowed"))
}

/// What is left of each mount: only of the root it is kept.
fn outputs(mounts: &[pb::Mount], root: usize, step: StepId) -> Vec<Output> {
    let numbers = mounts.iter().filter_map(|mount| usize::try_from(mount.output).ok());
    let count = numbers.max().map_or(0, |most| most.min(mounts.len()) + 1);
    let mut outputs = vec![Output::Refused("a result that nothing makes".to_owned()); count];
    for (index, mount) in mounts.iter().enumerate() {
        let place = usize::try_from(mount.output).ok().and_then(|output| outputs.get_mut(output));
        if let Some(place) = place {
            *place = match index == root {
                true => Output::Step(step),
                false => Output::Refused(format!("what an exec op leaves in its mount at {}", mount.dest)),
            };
        }
    }
    outputs
}

/// Both spellings, as programs want the one or the other.
fn proxies(given: &pb::ProxyEnv) -> Vec<String> {
    let all = [
        ("HTTP_PROXY", &given.http_proxy),
        ("HTTPS_PROXY", &given.https_proxy),
        ("FTP_PROXY", &given.ftp_proxy),
        ("NO_PROXY", &given.no_proxy),
        ("ALL_PROXY", &given.all_proxy),
    ];
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    set.flat_map(|(name, value)| [format!("{name}={value}"), format!("{}={value}", name.to_lowercase())]).collect()
}

fn limits(meta: &pb::Meta) -> Limits {
    Limits {
        extra_hosts: meta.extra_hosts.iter().map(|entry| (entry.host.clone(), entry.ip.clone())).collect(),
        ulimits: meta.ulimit.iter().map(|limit| (limit.name.clone(), limit.soft, limit.hard)).collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        ..Limits::default()
    }
}
