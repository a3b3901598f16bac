//! `RUN --mount`.

use crate::csv;
use crate::expand::Expander;
use crate::suggest::suggest;

use super::InstructionError;
use super::run::boolean;

/// `--mount` as written. Its values may have variables, so that most of it can be read only where they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// What stands after `--mount=`.
    pub text: String,
    /// `from=`: a stage, a named context or an image. The one value that never has variables.
    pub from: Option<String>,
}

/// Kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MountKind {
    /// Files of the build context, a stage or an image. What is written to it is dropped.
    #[default]
    Bind,
    /// A directory that is kept from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the client, as a file or an environment variable.
    Secret,
    /// The client's ssh agent.
    Ssh,
}

impl MountKind {
    /// The name, as in `type=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All; the default.
    Shared,
    /// Nobody else: a second step gets a directory of its own.
    Private,
    /// Nobody else: a second step waits.
    Locked,
}

/// A mount with its values known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`.
    pub from: Option<String>,
    /// `source`, `src`; empty if not said.
    pub source: String,
    /// `target`, `dst`, `destination`; empty if not said.
    pub target: String,
    /// `readonly`, `ro`, `readwrite`, `rw`; by default only caches and tmpfs can be written to.
    pub read_only: bool,
    /// `id` of caches, secrets and ssh agents.
    pub id: Option<String>,
    /// `sharing`.
    pub sharing: Option<Sharing>,
    /// `required`: the step fails if the client has no such secret or agent.
    pub required: bool,
    /// `env`: the variable that a secret is in. It is then a file only if a target is given too. Means nothing elsewhere.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `size` of a tmpfs in bytes.
    pub size: Option<u64>,
}

/// Keys, in the order in which they are suggested.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountFlag {
    pub(super) fn read(text: &str) -> Result<MountFlag, InstructionError> {
        let mut from = None;
        for field in fields(text)? {
            let Some((key, value)) = field.split_once('=') else { continue };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(InstructionError::MountFrom);
            }
            from = Some(value.to_owned()).filter(|from| !from.is_empty());
        }
        Ok(MountFlag { text: text.to_owned(), from })
    }

    /// Where it is to be seen, as written.
    pub(crate) fn target(&self) -> String {
        let fields = csv::fields(&self.text).unwrap_or_default();
        let target = fields.iter().rev().find_map(|field| {
            let (key, value) = field.split_once('=')?;
            ["target", "dst", "destination"].iter().any(|name| key.eq_ignore_ascii_case(name)).then_some(value)
        });
        target.unwrap_or_default().to_owned()
    }

    /// Expands the values and reads all of it.
    ///
    /// # Errors
    /// A key that doesn't exist or doesn't belong to the type, a value that makes no sense.
    pub fn resolve(&self, expander: &mut Expander<'_>) -> Result<Mount, InstructionError> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in fields(&self.text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expander.word(value)?)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("readonly" | "ro", None) => read_only = Some(true),
                ("readwrite" | "rw", None) => read_only = Some(false),
                ("readonly" | "ro", Some(value)) => read_only = Some(boolean(&key, &value)?),
                ("readwrite" | "rw", Some(value)) => read_only = Some(!boolean(&key, &value)?),
                ("required", value) if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => {
                    mount.required = value.map_or(Ok(true), |value| boolean(&key, &value))?;
                }
                ("required", _) => return Err(foreign(&key, mount.kind)),
                (_, None) => return Err(InstructionError::NoPair(field)),
                (_, Some(value)) => mount.set(&key, value, &field)?,
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.check()?;
        Ok(mount)
    }
}

fn fields(text: &str) -> Result<Vec<String>, InstructionError> {
    csv::fields(text).map_err(|problem| InstructionError::Csv { what: "mounts", problem })
}

fn foreign(key: &str, kind: MountKind) -> InstructionError {
    InstructionError::MountKeyOfOther { key: key.to_owned(), kind: kind.as_str() }
}

impl Mount {
    /// Where a bind, cache or tmpfs mount is to be seen: an absolute path, from `workdir` if the target isn't one.
    ///
    /// # Errors
    /// It would be the root.
    pub fn path(&self, workdir: &str) -> Result<String, InstructionError> {
        let path =
            if self.target.starts_with('/') { self.target.clone() } else { format!("/{workdir}/{}", self.target) };
        match crate::glob::clean(&path).as_str() {
            "/" => Err(InstructionError::MountTarget),
            path => Ok(path.to_owned()),
        }
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), InstructionError> {
        let number = |radix| u32::from_str_radix(&value, radix).ok().filter(|_| !value.starts_with('+'));
        let invalid = |name: &str| InstructionError::MountNumber { value: value.clone(), key: name.to_owned() };
        match key {
            "type" => self.kind = kind(&value)?,
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = Some(value).filter(|id| !id.is_empty()),
            "sharing" => self.sharing = Some(sharing(&value)?),
            "mode" => self.mode = Some(number(8).ok_or_else(|| invalid("mode"))?),
            "uid" => self.uid = Some(number(10).ok_or_else(|| invalid("uid"))?),
            "gid" => self.gid = Some(number(10).ok_or_else(|| invalid("gid"))?),
            "env" => self.env = Some(value),
            "size" if self.kind == MountKind::Tmpfs => {
                let size = skep_types::parse_bytes(&value).ok().and_then(|size| u64::try_from(size).ok());
                self.size = Some(size.ok_or(InstructionError::Value { key: key.to_owned(), value })?);
            }
            "size" => return Err(foreign(key, self.kind)),
            _ => {
                let hint = suggest(key, KEYS).into();
                return Err(InstructionError::Key { key: key.to_owned(), field: field.to_owned(), hint });
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), InstructionError> {
        let has_owner = matches!(self.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
        let owner = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        if let Some((key, _)) = owner.into_iter().find(|(_, value)| value.is_some() && !has_owner) {
            return Err(InstructionError::MountOwner { key, kind: self.kind.as_str() });
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(InstructionError::MountSharing(self.kind.as_str()));
        }
        if self.kind == MountKind::Secret {
            if self.from.is_some() {
                return Err(InstructionError::SecretFrom);
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_none() {
                return Err(InstructionError::SecretSource);
            }
            if !self.source.is_empty() && self.id.is_some() {
                return Err(InstructionError::SecretSourceAndId);
            }
        }
        Ok(())
    }
}

fn kind(value: &str) -> Result<MountKind, InstructionError> {
    let all = [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];
    all.into_iter().find(|kind| value.eq_ignore_ascii_case(kind.as_str())).ok_or_else(|| InstructionError::MountKind {
        value: value.to_owned(),
        hint: suggest(value, all.map(MountKind::as_str)).into(),
    })
}

fn sharing(value: &str) -> Result<Sharing, InstructionError> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(InstructionError::Sharing(value.to_owned())),
    }
}
