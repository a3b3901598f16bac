//! A step that failed, as a client that wants to look into it is told of it: BuildKit's `errdefs.Solve`, whose ids stand for what the
//! step was run on, what it left, and its mounts.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skep_build::error::FailedStep;
use skep_build::graph::{Mount, MountKind, Network, Run, Sharing};
use skep_build::worker::{Stack, Tree};
use skep_engine::build::Files;

use super::builds::{Build, Handed};

/// What an id that a client was given stands for.
#[derive(Clone)]
pub(crate) enum Ground {
    /// A result.
    Result(Handed),
    /// What a step that failed was run on.
    Before(Arc<FailedStep>),
    /// The same, with what it wrote.
    After(Arc<FailedStep>),
    /// One of its mounts, whatever it is of.
    Mount(Arc<FailedStep>, usize),
}

impl Ground {
    /// Its layers.
    pub(crate) fn stack(&self) -> Option<Stack> {
        match self {
            Ground::Result(handed) => handed.built.images.get(handed.image).map(|image| image.stack),
            Ground::Before(step) | Ground::After(step) => Some(step.base),
            Ground::Mount(..) => None,
        }
    }

    /// Its files, where it is of files.
    pub(crate) fn files(&self) -> Option<Files> {
        match self {
            Ground::After(step) => Some(Files { tree: Tree::Layers(step.base), written: step.written.clone() }),
            Ground::Mount(step, index) => Some(Files { tree: tree_of(step, *index)?.clone(), written: None }),
            _ => Some(Files { tree: Tree::Layers(self.stack()?), written: None }),
        }
    }

    /// The step that it comes from.
    pub(crate) fn step(&self) -> Option<&Arc<FailedStep>> {
        match self {
            Ground::Result(_) => None,
            Ground::Before(step) | Ground::After(step) | Ground::Mount(step, _) => Some(step),
        }
    }
}

/// The files that mount number `index` of a step is of, if it is of files.
pub(crate) fn tree_of(step: &FailedStep, index: usize) -> Option<&Tree> {
    let of_files =
        |mount: &Mount| matches!(mount.kind, MountKind::Bind { .. } | MountKind::Cache { from: Some(_), .. });
    of_files(step.run.mounts.get(index)?).then_some(())?;
    step.inputs.get(step.run.mounts[..index].iter().filter(|mount| of_files(mount)).count())
}

/// `errdefs.Solve` of a step, whose ids the build knows from now on.
pub(crate) fn detail(build: &Build, step: &Arc<FailedStep>) -> Value {
    let before = build.know(Ground::Before(step.clone()));
    let after = build.know(Ground::After(step.clone()));
    let count = step.run.mounts.len();
    let mounts: Vec<String> = (0..count).map(|index| build.know(Ground::Mount(step.clone(), index))).collect();
    let ids = |first: String| std::iter::once(first).chain(mounts.iter().cloned()).collect::<Vec<_>>();
    let platform = json!({
        "Architecture": step.platform.architecture,
        "OS": step.platform.os,
        "Variant": step.platform.variant,
    });
    json!({
        "inputIDs": ids(before),
        "mountIDs": ids(after),
        "op": { "exec": exec(&step.run), "platform": platform },
    })
}

/// `pb.ExecOp` in the JSON form of protocol buffers.
fn exec(run: &Run) -> Value {
    let root = json!({ "input": "0", "dest": "/", "output": "0" });
    let mounts = std::iter::once(root).chain(run.mounts.iter().map(mount)).collect::<Vec<_>>();
    let mut exec = json!({
        "meta": { "args": run.argv, "env": run.env, "cwd": run.cwd, "user": run.user },
        "mounts": mounts,
    });
    match run.network {
        Network::Default => {}
        Network::None => exec["network"] = "NONE".into(),
        Network::Host => exec["network"] = "HOST".into(),
    }
    if run.insecure {
        exec["security"] = "INSECURE".into();
    }
    if let Some(hostname) = &run.hostname {
        exec["meta"]["hostname"] = hostname.as_str().into();
    }
    let secrets: Vec<Value> = run.mounts.iter().filter_map(secret_env).collect();
    if !secrets.is_empty() {
        exec["secretenv"] = secrets.into();
    }
    exec
}

fn secret_env(mount: &Mount) -> Option<Value> {
    let MountKind::Secret(secret) = &mount.kind else { return None };
    let name = secret.env.as_deref()?;
    Some(json!({ "ID": secret.id, "name": name, "optional": !secret.required }))
}

fn mount(mount: &Mount) -> Value {
    let (kind, more): (&str, Option<(&str, Value)>) = match &mount.kind {
        MountKind::Bind { source, .. } => ("BIND", Some(("selector", json!(source)))),
        MountKind::Inline { .. } => ("BIND", None),
        MountKind::Cache { id, sharing, .. } => {
            let sharing = match sharing {
                Sharing::Shared => "SHARED",
                Sharing::Private => "PRIVATE",
                Sharing::Locked => "LOCKED",
            };
            ("CACHE", Some(("cacheOpt", json!({ "ID": id, "sharing": sharing }))))
        }
        MountKind::Tmpfs { size } => ("TMPFS", Some(("TmpfsOpt", json!({ "size": size.to_string() })))),
        MountKind::Secret(secret) => {
            let (uid, gid, mode) = (secret.uid, secret.gid, secret.mode);
            let optional = !secret.required;
            let value = json!({ "ID": secret.id, "uid": uid, "gid": gid, "mode": mode, "optional": optional });
            ("SECRET", Some(("secretOpt", value)))
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let value = json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": !required });
            ("SSH", Some(("SSHOpt", value)))
        }
    };
    let mut all = Map::new();
    // Nothing reads from an input by its number: the ids stand for all of them.
    all.insert("input".to_owned(), "-1".into());
    all.insert("output".to_owned(), "-1".into());
    all.insert("dest".to_owned(), json!(mount.target));
    all.insert("mountType".to_owned(), kind.into());
    if mount.readonly {
        all.insert("readonly".to_owned(), true.into());
    }
    if let Some((name, value)) = more {
        all.insert(name.to_owned(), value);
    }
    Value::Object(all)
}
