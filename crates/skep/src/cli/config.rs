//! The client's config file, `~/.docker/config.json`: the keys that skep's commands look at, and the one way to change it.
//!
//! The file belongs to Docker's client and its plugins as much as to skep: keys that nobody here knows are written back as they
//! were. It is replaced as a whole, readable by its owner alone; a symbolic link in its place stays one.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use super::credentials::StoredAuth;
use super::failure::go_path_error;
use crate::ui;

/// Defaults that a user keeps in a file. Unknown keys belong to others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigFile {
    pub(crate) detach_keys: Option<String>,
    pub(crate) ps_format: Option<String>,
    pub(crate) images_format: Option<String>,
    pub(crate) stats_format: Option<String>,
    pub(crate) volumes_format: Option<String>,
    pub(crate) networks_format: Option<String>,
    /// Sent with every request to the engine.
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    /// The program that keeps all credentials: `docker-credential-NAME`.
    pub(crate) creds_store: String,
    /// The programs that keep the credentials of single registries.
    pub(crate) cred_helpers: BTreeMap<String, String>,
    pub(crate) auths: BTreeMap<String, StoredAuth>,
    /// Proxies for what runs in an engine, by its address; `default` is for all others.
    proxies: BTreeMap<String, Proxy>,
    #[serde(skip)]
    path: PathBuf,
}

/// Proxies for what runs in an engine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxy {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl Proxy {
    /// The variables that tell programs of them, in both spellings.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let all = [
            ("HTTP_PROXY", &self.http_proxy),
            ("HTTPS_PROXY", &self.https_proxy),
            ("NO_PROXY", &self.no_proxy),
            ("FTP_PROXY", &self.ftp_proxy),
            ("ALL_PROXY", &self.all_proxy),
        ];
        let set = all.into_iter().filter(|(_, value)| !value.is_empty());
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value.clone())]).collect()
    }
}

impl ConfigFile {
    /// The proxies for what runs in the engine at `host`.
    pub(crate) fn proxy(&self, host: &str) -> Proxy {
        self.proxies.get(host).or_else(|| self.proxies.get("default")).cloned().unwrap_or_default()
    }

    /// Reads the file; a missing one is empty, a broken one is reported and ignored.
    pub(crate) fn load(dir: &Path) -> Self {
        let path = dir.join("config.json");
        let Ok(bytes) = std::fs::read(&path) else { return ConfigFile { path, ..ConfigFile::default() } };
        let read = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            ui::error_line(&format!("WARNING: Error loading config file: {}: {error}", path.display()));
            ConfigFile::default()
        });
        ConfigFile { path, ..read }
    }

    /// Where it is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts an entry into the file's `auths`.
    pub(crate) fn store_auth(&self, server: &str, auth: &StoredAuth) -> Result<(), Failure> {
        let value = serde_json::to_value(auth)?;
        self.change(|document| {
            let auths = document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
            if !auths.is_object() {
                *auths = Value::Object(Map::new());
            }
            if let Value::Object(auths) = auths {
                auths.insert(server.to_owned(), value);
            }
            true
        })
    }

    /// Takes an entry out of the file's `auths`. A file that doesn't have it isn't written.
    pub(crate) fn erase_auth(&self, server: &str) -> Result<(), Failure> {
        self.change(|document| match document.get_mut("auths") {
            Some(Value::Object(auths)) => auths.remove(server).is_some(),
            _ => false,
        })
    }

    /// Reads the file anew, changes it, and replaces it if `edit` says that there is something new.
    fn change(&self, edit: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<(), Failure> {
        // A link leads to where the file really is, even if it isn't there yet.
        let target = match std::fs::read_link(&self.path) {
            Ok(to) => self.path.parent().unwrap_or(Path::new(".")).join(to),
            Err(_) => self.path.clone(),
        };
        let failed = |step: &str, error: &io::Error| Failure::message(go_path_error(step, &target, error));
        let mut document = match std::fs::read(&target) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::message(format!("{}: {error}", target.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(failed("open", &error)),
        };
        if !edit(&mut document) {
            return Ok(());
        }
        if let Some(dir) = target.parent() {
            make_private_dir(dir).map_err(|error| failed("mkdir", &error))?;
        }
        let before = std::fs::metadata(&target).ok();
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
        let mode = before.as_ref().map_or(0o600, |file| file.permissions().mode() & 0o600);
        skep_fs::atomic::write_file(&target, &bytes, mode).map_err(|error| failed("write", &error))?;
        if let Some(before) = before {
            // With sudo the file stays the user's. Where that isn't allowed it is ours already.
            let _ = std::os::unix::fs::chown(&target, Some(before.uid()), Some(before.gid()));
        }
        Ok(())
    }
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_keep_in_the_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().join("elsewhere.json");
        std::fs::write(&real, r#"{"plugins": {"x": {"hooks": "pull"}}, "auths": {"a": {"auth": "eA=="}}}"#)
            .expect("write");
        std::os::unix::fs::symlink("elsewhere.json", folder.path().join("config.json")).expect("a link");
        let config = ConfigFile::load(folder.path());
        config.store_auth("b", &StoredAuth { auth: "eTo=".into(), ..StoredAuth::default() }).expect("stored");
        config.erase_auth("a").expect("erased");
        let text = std::fs::read_to_string(&real).expect("read");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("json"),
            serde_json::json!({"plugins": {"x": {"hooks": "pull"}}, "auths": {"b": {"auth": "eTo="}}})
        );
        assert!(text.starts_with("{\n\t\"auths\": {\n\t\t\"b\""), "{text}");
        assert_eq!(std::fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(folder.path().join("config.json").is_symlink());
    }

    #[test]
    fn proxies_are_those_of_the_engine() {
        let text =
            r#"{"proxies": {"default": {"httpProxy": "http://a", "noProxy": "x"}, "tcp://b": {"allProxy": "b"}}}"#;
        let config: ConfigFile = serde_json::from_str(text).expect("good");
        let names = |host: &str| config.proxy(host).variables().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("unix:///s"), ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]);
        assert_eq!(names("tcp://b"), ["ALL_PROXY", "all_proxy"]);
    }

    #[test]
    fn a_file_is_made_where_there_was_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = ConfigFile::load(&folder.path().join("new"));
        config.erase_auth("a").expect("nothing to do");
        assert!(!config.path().exists());
        config.store_auth("a", &StoredAuth::default()).expect("stored");
        assert_eq!(std::fs::metadata(config.path()).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(ConfigFile::load(&folder.path().join("new")).auths.contains_key("a"));
    }
}
