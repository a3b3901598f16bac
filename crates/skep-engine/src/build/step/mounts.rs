//! What is mounted for a step, in two halves: [`bring`] waits for what others have (the client's secrets, cache directories in use),
//! [`place`] makes mounts of it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FileType, OFlags};
use skep_build::BuildError;
use skep_build::graph::{MountKind, Run, Secret, Sharing};
use skep_build::worker::{Context, Tree};
use skep_fs::Root;
use skep_fs::apply::copy_metadata;
use skep_runtime::spec;
use skep_types::{Digest, ErrorKind};

use super::super::cachedirs::Taken;
use super::super::error::{failed, store};
use super::super::{files, tree};
use super::agent;
use super::room::Room;
use super::stubs::Point;
use crate::engine::Inner;

/// A mount with what others had of it.
pub(super) struct Brought {
    /// Absolute.
    target: PathBuf,
    readonly: bool,
    what: What,
}

enum What {
    Bind { from: Tree, source: PathBuf },
    Cache { taken: Taken, from: Option<(Tree, PathBuf)>, mode: u32, owner: (u32, u32) },
    Tmpfs { size: u64 },
    Secret { value: Vec<u8>, secret: Secret },
    Agent { id: String, mode: u32, owner: (u32, u32) },
    Inline { data: Bytes, mode: u32 },
}

/// Mounts for a specification, and what belongs to them.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) mounts: Vec<spec::Mount>,
    pub(super) points: Vec<(PathBuf, Point)>,
    pub(super) secret_env: Vec<String>,
}

/// Gets from others what they have of a step's mounts. `inputs` are the trees that the mounts name, in order.
pub(super) async fn bring(
    engine: &Arc<Inner>,
    run: &Run,
    inputs: &[Tree],
    context: &Context,
) -> Result<Vec<Brought>, BuildError> {
    let mut inputs = inputs.iter().cloned();
    let mut input = || inputs.next().ok_or_else(|| BuildError::new(ErrorKind::System, "a mount without its files"));
    let mut all = Vec::new();
    for mount in &run.mounts {
        let what = match &mount.kind {
            MountKind::Bind { source, .. } => What::Bind { from: input()?, source: source.clone() },
            MountKind::Cache { id, sharing, from, mode, uid, gid } => {
                let from = from.as_ref().map(|(_, path)| Ok::<_, BuildError>((input()?, path.clone()))).transpose()?;
                let name = cache_name(id, from.as_ref(), (*mode, *uid, *gid));
                let taken = take_cache(engine, (&name, id), *sharing, context).await?;
                What::Cache { taken, from, mode: *mode, owner: (*uid, *gid) }
            }
            MountKind::Tmpfs { size } => What::Tmpfs { size: *size },
            MountKind::Secret(secret) => match context.services.secret(&secret.id).await? {
                Some(value) => What::Secret { value, secret: secret.clone() },
                None if secret.required => {
                    return Err(BuildError::new(ErrorKind::NotFound, format!("secret {}: not found", secret.id)));
                }
                None => continue,
            },
            MountKind::Ssh { id, required, mode, uid, gid } => match context.services.has_agent(id).await? {
                true => What::Agent { id: id.clone(), mode: *mode, owner: (*uid, *gid) },
                false if *required => return Err(BuildError::invalid(format!("unset ssh forward key {id}"))),
                false => continue,
            },
            MountKind::Inline { data, mode } => What::Inline { data: data.clone(), mode: *mode },
        };
        all.push(Brought { target: run.cwd.join(&mount.target), readonly: mount.readonly, what });
    }
    // Outer ones first, whatever the order in which they were named.
    all.sort_by_key(|mount| mount.target.components().count());
    Ok(all)
}

/// What a cache directory is found by: everything that a new one is made from.
pub(in crate::build) fn cache_name(id: &str, from: Option<&(Tree, PathBuf)>, owner: (u32, u32, u32)) -> String {
    let from = from.map(|(tree, path)| match tree {
        Tree::Layers(stack) => format!("{stack:?} {}", path.display()),
        Tree::Dir(dir) => format!("{:?} {}", dir.identity, path.display()),
    });
    let digest: Digest = skep_registry::digest_of(format!("{id:?} {from:?} {owner:?}").as_bytes());
    digest.hex()[..32].to_owned()
}

async fn take_cache(
    engine: &Arc<Inner>,
    name: (&str, &str),
    sharing: Sharing,
    context: &Context,
) -> Result<Taken, BuildError> {
    let top = engine.config.data_root.join("build/cache");
    let store = engine.storage.store().clone();
    let taking = engine.builds.caches.take(&top, store.db(), name, sharing);
    tokio::select! {
        taken = taking => taken,
        () = context.cancel.cancelled() => Err(super::super::error::cancelled()),
    }
}

/// Makes mounts of what was brought. Blocking, but inside a runtime.
pub(super) fn place(
    engine: &Arc<Inner>,
    room: &mut Room,
    brought: Vec<Brought>,
    context: &Context,
) -> Result<Placed, BuildError> {
    let mut placed = Placed::default();
    for (number, Brought { target, readonly, what }) in brought.into_iter().enumerate() {
        let placing = Placing { engine, number, target, readonly };
        placing.place(room, what, context, &mut placed)?;
    }
    Ok(placed)
}

struct Placing<'a> {
    engine: &'a Arc<Inner>,
    number: usize,
    target: PathBuf,
    readonly: bool,
}

impl Placing<'_> {
    fn place(self, room: &mut Room, what: What, context: &Context, placed: &mut Placed) -> Result<(), BuildError> {
        let access = if self.readonly { "ro" } else { "rw" };
        let (mount, point) = match what {
            What::Bind { from, source } => self.bind(room, &from, &source)?,
            What::Cache { taken, from, mode, owner } => {
                let taken = self.fill(room, taken, from, mode, owner)?;
                let path = taken.path.clone();
                room.held.push(Box::new(taken));
                (self.mount("bind", &path, &["rbind", "rprivate", access]), Point::Directory)
            }
            What::Tmpfs { size } => {
                let size = format!("size={size}");
                let mut options = vec!["nosuid", access];
                options.extend((size != "size=0").then_some(size.as_str()));
                (self.mount("tmpfs", Path::new("tmpfs"), &options), Point::Directory)
            }
            What::Secret { value, secret } => {
                if let Some(name) = &secret.env {
                    let text = String::from_utf8_lossy(&value);
                    placed.secret_env.push(format!("{name}={text}"));
                }
                if !secret.file {
                    return Ok(());
                }
                let path = room.secrets()?.join(self.number.to_string());
                // Not every kernel can map owners in memory; this file has but one reader, and can have the right one.
                let owner = self.outside((secret.uid, secret.gid))?;
                write(&path, &value, secret.mode, owner)?;
                let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
                (self.mount_as_it_is("bind", &path, &options), Point::File)
            }
            What::Agent { id, mode, owner } => {
                let path = room.directory("agents")?.join(self.number.to_string());
                let serving = agent::serve(&self.engine.tasks, &path, Arc::clone(&context.services), id);
                room.held.push(Box::new(serving.map_err(failed("listen for a step's ssh clients"))?));
                set_owner(&path, mode, owner)?;
                (self.mount("bind", &path, &["bind", "rprivate", "nosuid", "nodev", "noexec"]), Point::File)
            }
            What::Inline { data, mode } => {
                let path = room.directory("inline")?.join(self.number.to_string());
                write(&path, &data, mode, (0, 0))?;
                (self.mount("bind", &path, &["bind", "rprivate", "ro"]), Point::File)
            }
        };
        placed.points.push((self.target, point));
        placed.mounts.push(mount);
        Ok(())
    }

    /// What the engine shows belongs to the ids that the Dockerfile names, in whatever user namespace they are.
    fn mount(&self, kind: &str, source: &Path, options: &[&str]) -> spec::Mount {
        let mapped = self.engine.config.userns_remap.is_some() && kind != "tmpfs";
        let mut mount = self.mount_as_it_is(kind, source, options);
        mount.options.extend(mapped.then(|| "idmap".to_owned()));
        mount
    }

    fn mount_as_it_is(&self, kind: &str, source: &Path, options: &[&str]) -> spec::Mount {
        spec::Mount {
            destination: self.target.clone(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            ..spec::Mount::default()
        }
    }

    /// What the host calls an owner that a step knows.
    fn outside(&self, owner: (u32, u32)) -> Result<(u32, u32), BuildError> {
        let Some(maps) = &self.engine.config.userns_remap else { return Ok(owner) };
        maps.outside(owner).ok_or_else(|| {
            let text = format!("there is no user {} or no group {} in the user namespaces of steps", owner.0, owner.1);
            BuildError::invalid(text)
        })
    }

    /// Files of another step. What is written there goes to a directory that is thrown away.
    fn bind(&self, room: &mut Room, from: &Tree, source: &Path) -> Result<(spec::Mount, Point), BuildError> {
        let layers = self.engine.storage.store().layers();
        let empty = room.directory("empty")?;
        let root = tree::open(layers, from, &empty)?;
        let found = root.open_at(source, OFlags::PATH, 0).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let path = Path::new("/").join(source.strip_prefix("/").unwrap_or(source));
                BuildError::new(ErrorKind::NotFound, format!("\"{}\": not found", path.display()))
            }
            _ => failed("open the source of a mount")(error),
        })?;
        let stat = rustix::fs::fstat(&found).map_err(|error| failed("look at the source of a mount")(error.into()))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let point = if is_dir { Point::Directory } else { Point::File };
        let subpath = Some(Path::new(".").join(source.strip_prefix("/").unwrap_or(source)));
        let dirs = match from {
            Tree::Dir(dir) if self.readonly => {
                room.held.push(Box::new(Arc::clone(dir)));
                let mount = self.mount("bind", &dir.path, &["bind", "rprivate", "ro"]);
                return Ok((spec::Mount { subpath, ..mount }, point));
            }
            Tree::Dir(dir) => {
                room.held.push(Box::new(Arc::clone(dir)));
                vec![dir.path.clone()]
            }
            Tree::Layers(stack) => {
                let lease = layers.lease();
                stack.iter().for_each(|top| lease.hold(top));
                room.held.push(Box::new(lease));
                tree::directories(layers, *stack)?
            }
        };
        let option = |key: &str, path: &Path| format!("{key}={}", path.display());
        let mut options: Vec<String> = dirs.iter().chain([&empty]).map(|path| option("lowerdir+", path)).collect();
        if self.readonly {
            options.push("ro".to_owned());
        } else {
            let upper = layers.stage_upper(None).map_err(store)?;
            let written = upper.path();
            Root::open(&written)
                .and_then(|own| copy_metadata(&root, &own))
                .map_err(failed("make room for what is written to a mount"))?;
            options.extend([option("upperdir", &written), option("workdir", &upper.work())]);
            room.held.push(Box::new(upper));
        }
        let mut mount = spec::Mount { subpath, ..self.mount("overlay", Path::new("overlay"), &[]) };
        mount.options.extend(options);
        Ok((mount, point))
    }

    /// Gives a new cache directory what it begins with.
    fn fill(
        &self,
        room: &Room,
        mut taken: Taken,
        from: Option<(Tree, PathBuf)>,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<Taken, BuildError> {
        let Some(fresh) = taken.fresh() else { return Ok(taken) };
        set_owner(fresh, mode, owner)?;
        if let Some((from, path)) = &from {
            let root = tree::open(self.engine.storage.store().layers(), from, &room.directory("empty")?)?;
            files::copy_directory(&root, path, fresh)?;
        }
        taken.install().map_err(failed("make a cache directory"))?;
        Ok(taken)
    }
}

fn write(path: &Path, data: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), BuildError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(data)).map_err(failed("write a file for a step"))?;
    set_owner(path, mode, owner)
}

fn set_owner(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<(), BuildError> {
    chown(path, Some(uid), Some(gid))
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7777)))
        .map_err(failed("set the owner of a file for a step"))
}
