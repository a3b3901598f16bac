//! `--secret` and `--ssh`: what steps may use without it becoming part of the image.

use std::path::PathBuf;
use std::sync::Arc;

use skep_buildkit::agent::Keys;
use skep_buildkit::provider;

use crate::cli::csv;
use crate::cli::failure::go_io_error;

/// The largest secret, as BuildKit has it.
const LARGEST: u64 = 500 << 10;

/// A secret, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) id: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Environment(String),
}

impl Secret {
    /// Reads `id=mysecret[,src=PATH|,env=NAME][,type=file|env]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut id, mut source, mut environment, mut kind) = (None, None, None, None);
        for field in csv::fields(text).map_err(|error| format!("failed to parse csv secret: {error}"))? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
            match key.to_lowercase().as_str() {
                "id" => id = Some(value.to_owned()),
                "src" | "source" => source = Some(value.to_owned()),
                "env" => environment = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
                "type" => return Err(format!("unsupported secret type {value:?}")),
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or("secret missing ID")?;
        let source = match (kind.as_deref(), source, environment) {
            (Some("env"), source, environment) => Source::Environment(environment.or(source).unwrap_or(id.clone())),
            (_, _, Some(name)) => Source::Environment(name),
            (_, Some(path), None) => Source::File(PathBuf::from(path)),
            (None, None, None) if std::env::var_os(&id).is_some() => Source::Environment(id.clone()),
            (_, None, None) => Source::File(PathBuf::from(&id)),
        };
        Ok(Secret { id, source })
    }

    /// Its value.
    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        let value = match &self.source {
            Source::Environment(name) => {
                use std::os::unix::ffi::OsStringExt;
                std::env::var_os(name).map(OsStringExt::into_vec).unwrap_or_default()
            }
            Source::File(path) => {
                let fail =
                    |error: &std::io::Error| format!("failed to stat {}: {}", path.display(), go_io_error(error));
                let length = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
                if length > LARGEST {
                    return Err(format!("secret {} too big. max size 500KB", self.id));
                }
                std::fs::read(path).map_err(|error| fail(&error))?
            }
        };
        Ok(value)
    }
}

/// An ssh agent: its socket, or files of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) id: String,
    source: Signatures,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Signatures {
    Socket(PathBuf),
    Keys(Vec<PathBuf>),
}

impl Agent {
    /// Reads `default`, `ID=SOCKET` or `ID=KEY,KEY…`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        use std::os::unix::fs::FileTypeExt;
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let own = std::env::var("SSH_AUTH_SOCK").unwrap_or_default();
        let paths = if paths.is_empty() { own.as_str() } else { paths };
        if paths.is_empty() {
            return Err(format!(
                "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set, or name a socket: --ssh {id}=PATH"
            ));
        }
        let paths: Vec<PathBuf> = paths.split(',').map(PathBuf::from).collect();
        let is_socket = |path: &PathBuf| match std::fs::metadata(path) {
            Ok(found) => Ok(found.file_type().is_socket()),
            Err(error) => Err(format!("failed to stat {}: {}", path.display(), go_io_error(&error))),
        };
        let sockets = paths.iter().map(is_socket).collect::<Result<Vec<_>, _>>()?;
        let source = match (paths.as_slice(), sockets.contains(&true)) {
            ([socket], true) => Signatures::Socket(socket.clone()),
            (_, true) => {
                return Err("invalid ssh agent: a socket stands alone, without other sockets or keys".to_owned());
            }
            (_, false) => Signatures::Keys(paths),
        };
        Ok(Agent { id: id.to_owned(), source })
    }

    /// What is served under its id.
    pub(super) fn open(&self) -> Result<provider::Agent, String> {
        match &self.source {
            Signatures::Socket(path) => Ok(provider::Agent::Socket(path.clone())),
            Signatures::Keys(files) => {
                let keys = Keys::read(files).map_err(|error| error.to_string())?;
                Ok(provider::Agent::Keys(Arc::new(keys)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        std::fs::write(&path, "hush").expect("write");
        let secret = Secret::parse(&format!("id=a,src={}", path.display())).expect("a file");
        assert_eq!((secret.id.as_str(), secret.read()), ("a", Ok(b"hush".to_vec())));
        let secret = Secret::parse("id=PATH").expect("a variable of that name");
        assert_eq!(secret.source, Source::Environment("PATH".into()));
        let secret = Secret::parse("type=env,id=a,env=HOME").expect("a variable");
        assert_eq!(secret.source, Source::Environment("HOME".into()));
        assert_eq!(Secret::parse("id=skep-none").expect("a file").source, Source::File("skep-none".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("mine", "invalid field 'mine' must be a key=value pair"),
            ("id=a,size=3", "unexpected key 'size' in 'size=3'"),
            ("src=/x", "secret missing ID"),
            ("id=a,type=vault", "unsupported secret type \"vault\""),
        ] {
            assert_eq!(Secret::parse(text), Err(wanted.to_owned()));
        }
        let big = tempfile::NamedTempFile::new().expect("a file");
        big.as_file().set_len(LARGEST + 1).expect("grow");
        let secret = Secret::parse(&format!("id=a,src={}", big.path().display())).expect("good");
        assert_eq!(secret.read(), Err("secret a too big. max size 500KB".to_owned()));
    }
}
