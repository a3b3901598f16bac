//! `RUN` and its mounts.

use std::collections::BTreeMap;

use bytes::Bytes;
use skep_dockerfile::expand::{Expander, Variables};
use skep_dockerfile::instructions::{self, Script};
use skep_dockerfile::scope::{Scope, proxies};

use crate::error::{BuildError, Result};
use crate::graph::{Device, Mount, MountKind, Network, Op, Run, Secret, Sharing, StepId};

use super::Converter;
use super::stage::{Here, State};
use super::text::{clean, shown};

/// Where scripts of heredocs with an interpreter are.
const SCRIPTS: &str = "/dev/pipes";

/// The variable by which ssh finds its agent: the first that is mounted.
const AGENT: &str = "SSH_AUTH_SOCK";

/// The client did not say `--allow`.
fn not_allowed(entitlement: &str) -> BuildError {
    let text = format!("failed to load LLB: {entitlement} is not allowed");
    BuildError::new(skep_types::ErrorKind::Forbidden, text)
}

impl Converter<'_> {
    pub(super) fn run(&mut self, state: &mut State, run: &instructions::Run, here: &Here<'_>) -> Result<()> {
        let request = here.plan.options.request;
        let (argv, mut mounts) = script(state, run);
        let mut name = here.source.code.clone();
        if let Some(summary) = summary(run) {
            name = format!("{name} ({summary})");
        }
        let mut secrets = BTreeMap::new();
        let mut expander = Expander::new(here.plan.file.escape(), &state.scope);
        let wanted = run.mounts(&mut expander).map_err(|error| BuildError::invalid(error.to_string()))?;
        for mount in &wanted {
            if let Some(variable) = mount.env.as_ref().filter(|_| mount.kind == instructions::MountKind::Secret) {
                secrets.insert(variable.clone(), "****".to_owned());
            }
            let sockets = mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh { .. })).count();
            mounts.push(self.mount(state, mount, sockets, here)?);
        }
        if let Some(context) = state.context.clone() {
            self.context(Some(&context), "/")?; // a program may read anything
        }
        let network = self.network(run, here)?;
        let insecure = run.security == instructions::Security::Insecure;
        if insecure && !request.allow.insecure {
            return Err(not_allowed("security.insecure"));
        }
        let mut devices = Vec::new();
        for instructions::Device { name, required } in &run.devices {
            let granted = request.allow.devices.grant(name).ok_or_else(|| not_allowed(&format!("device {name}")))?;
            devices.push(Device { name: granted.to_owned(), required: *required });
        }
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        let mut env: Vec<String> = state.scope.variables().iter().map(pair).collect();
        let agent = mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
        if let Some(agent) = agent.filter(|_| state.scope.get(AGENT).is_none()) {
            env.push(format!("{AGENT}={}", agent.target.display()));
        }
        let op = Run {
            base: state.step,
            argv: argv.clone(),
            env,
            silent_env: proxies(&request.args).iter().map(pair).collect(),
            cwd: state.dir().into(),
            user: state.image.config.user.clone(),
            hostname: request.hostname.clone(),
            mounts,
            network,
            insecure,
            devices,
            limits: request.limits.clone(),
        };
        let text = shown(&name, here.plan.file.escape(), &Masked { secrets: &secrets, rest: &state.scope }, true);
        let vertex = state.vertex(&text, &here.plan.options);
        state.step = self.layer(state, Op::Run(Box::new(op)), vertex, here);
        let command = history_command(state, &argv);
        state.history(format!("RUN {command} # buildkit"), true, &here.plan.options);
        Ok(())
    }

    fn network(&self, run: &instructions::Run, here: &Here<'_>) -> Result<Network> {
        let request = here.plan.options.request;
        let network = match run.network {
            instructions::Network::Default => request.network,
            instructions::Network::None => Network::None,
            instructions::Network::Host => Network::Host,
        };
        if network == Network::Host && !request.allow.network_host {
            return Err(not_allowed("network.host"));
        }
        Ok(network)
    }

    fn mount(&mut self, state: &State, mount: &instructions::Mount, sockets: usize, here: &Here<'_>) -> Result<Mount> {
        let absolute = |path: &str| match path.starts_with('/') {
            true => clean(path),
            false => clean(&format!("{}/{path}", state.dir())),
        };
        let (uid, gid) = (mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default());
        let readonly = mount.read_only;
        match mount.kind {
            instructions::MountKind::Secret => {
                let id = mount.id.clone().or_else(|| Some(mount.source.clone()).filter(|source| !source.is_empty()));
                let id = id.unwrap_or_else(|| last_part(&mount.target).to_owned());
                let target = match mount.target.as_str() {
                    "" => format!("/run/secrets/{}", last_part(&id)),
                    target => absolute(target),
                };
                let secret = Secret {
                    id,
                    required: mount.required,
                    env: mount.env.clone(),
                    file: mount.env.is_none() || !mount.target.is_empty(),
                    mode: mount.mode.unwrap_or(0o400),
                    uid,
                    gid,
                };
                Ok(Mount { target: target.into(), kind: MountKind::Secret(secret), readonly: true })
            }
            instructions::MountKind::Ssh => {
                let id = mount.id.clone().or_else(|| Some(mount.source.clone()).filter(|source| !source.is_empty()));
                let target = match mount.target.as_str() {
                    "" => format!("/run/buildkit/ssh_agent.{sockets}"),
                    target => absolute(target),
                };
                let id = id.unwrap_or_else(|| "default".to_owned());
                let kind = MountKind::Ssh { id, required: mount.required, mode: mount.mode.unwrap_or(0o600), uid, gid };
                Ok(Mount { target: target.into(), kind, readonly: true })
            }
            instructions::MountKind::Tmpfs | instructions::MountKind::Bind | instructions::MountKind::Cache => {
                let target = absolute(&mount.target);
                if target == "/" {
                    return Err(BuildError::invalid(format!("invalid mount target {target:?}")));
                }
                let kind = match mount.kind {
                    instructions::MountKind::Tmpfs => MountKind::Tmpfs { size: mount.size.unwrap_or_default() },
                    instructions::MountKind::Cache => self.cache(mount, here)?,
                    _ => {
                        let source = clean(&mount.source);
                        MountKind::Bind { from: self.mount_source(mount, &source, here)?, source: source.into() }
                    }
                };
                Ok(Mount { target: target.into(), kind, readonly })
            }
        }
    }

    fn cache(&mut self, mount: &instructions::Mount, here: &Here<'_>) -> Result<MountKind> {
        let from = match &mount.from {
            Some(_) => {
                let source = clean(&mount.source);
                Some((self.mount_source(mount, &source, here)?, source.into()))
            }
            None => None,
        };
        let sharing = match mount.sharing {
            None | Some(instructions::Sharing::Shared) => Sharing::Shared,
            Some(instructions::Sharing::Private) => Sharing::Private,
            Some(instructions::Sharing::Locked) => Sharing::Locked,
        };
        let id = mount.id.clone().unwrap_or_else(|| clean_relative(&mount.target));
        let namespace = here.plan.options.request.args.get("BUILDKIT_CACHE_MOUNT_NS").filter(|name| !name.is_empty());
        Ok(MountKind::Cache {
            id: namespace.map_or(id.clone(), |namespace| format!("{namespace}/{}", id.trim_start_matches('/'))),
            sharing,
            from,
            mode: mount.mode.unwrap_or(0o755),
            uid: mount.uid.unwrap_or_default(),
            gid: mount.gid.unwrap_or_default(),
        })
    }

    fn mount_source(&mut self, mount: &instructions::Mount, path: &str, here: &Here<'_>) -> Result<StepId> {
        match &mount.from {
            None => self.context(None, path),
            Some(from) => {
                let base = here.plan.origin(from, here.source.lines)?;
                let platform = here.plan.options.platform.clone();
                let shown = format!("FROM {from}");
                self.source_step(&base, &self.outside_name(&base, shown), path, &platform)
            }
        }
    }
}

/// What is run, and the script that it is in, if that is a file.
fn script(state: &State, run: &instructions::Run) -> (Vec<String>, Vec<Mount>) {
    match run.script() {
        Script::Exec(words) => (words.to_vec(), Vec::new()),
        Script::Shell(text) => (state.shell(&text), Vec::new()),
        Script::File { name, content } => {
            let path = format!("{SCRIPTS}/{name}");
            let kind = MountKind::Inline { data: Bytes::from(content), mode: 0o755 };
            (state.shell(&path), vec![Mount { target: path.into(), kind, readonly: true }])
        }
    }
}

/// Variables, of which some are hidden.
struct Masked<'v> {
    secrets: &'v BTreeMap<String, String>,
    rest: &'v Scope,
}

impl Variables for Masked<'_> {
    fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        Variables::get(self.secrets, name).or_else(|| self.rest.get(name))
    }
}

/// The command with the arguments that it sees before it: `|1 A=b /bin/sh -c make`.
fn history_command(state: &State, argv: &[String]) -> String {
    let seen = state.scope.used_arguments();
    let mut words = Vec::with_capacity(argv.len() + seen.len() + 1);
    if !seen.is_empty() {
        words.push(format!("|{}", seen.len()));
    }
    words.extend(seen.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend(argv.iter().cloned());
    words.join(" ")
}

/// The first line of a script.
fn summary(run: &instructions::Run) -> Option<String> {
    let instructions::CommandLine::Shell(text) = &run.command else { return None };
    let first = run.heredocs.first().filter(|_| skep_dockerfile::syntax::Heredoc::mark(text).is_some())?;
    let mut lines = first.content.trim().lines();
    let line = lines.next().unwrap_or_default();
    Some(if lines.next().is_some() { format!("{line}...") } else { line.to_owned() })
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// A path without what means nothing, but relative if it was.
fn clean_relative(path: &str) -> String {
    let full = clean(path);
    match path.starts_with('/') {
        true => full,
        false => full.trim_start_matches('/').to_owned(),
    }
}
