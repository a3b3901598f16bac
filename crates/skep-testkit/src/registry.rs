//! A registry on the loopback interface, with an empty store of its own: `skep registry serve`, or Debian's docker-registry with
//! `SKEP_TEST_REGISTRY=docker-registry`, to prove the tests.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::image::sha256;
use crate::{Api, Image, until};

/// A running registry, which ends and disappears with this value.
#[derive(Debug)]
pub struct Registry {
    address: String,
    server: Child,
    dir: tempfile::TempDir,
    users: Users,
    program: Program,
}

/// Which registry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// `skep registry serve`.
    Own,
    /// Debian's docker-registry.
    Foreign,
}

impl Program {
    fn wanted() -> Self {
        let foreign = std::env::var("SKEP_TEST_REGISTRY").is_ok_and(|wanted| wanted == "docker-registry");
        if foreign { Program::Foreign } else { Program::Own }
    }
}

/// Whom a registry serves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Users {
    Everybody,
    /// The one of the password file.
    Me,
    /// Those who show a certificate of the authority in this folder.
    Certified(PathBuf),
}

impl Registry {
    /// Starts a registry on a free port.
    pub fn start() -> Registry {
        Self::start_with("127.0.0.1", Users::Everybody, Program::wanted())
    }

    /// Starts `skep registry serve` on a free port, whatever the others use.
    pub fn start_own() -> Registry {
        Self::start_with("127.0.0.1", Users::Everybody, Program::Own)
    }

    /// Starts Debian's docker-registry, which knows nothing of referrers, on a free port.
    pub fn start_foreign() -> Registry {
        Self::start_with("127.0.0.1", Users::Everybody, Program::Foreign)
    }

    /// Starts a registry that wants the name `me` and the password `secret`.
    pub fn start_protected() -> Registry {
        Self::start_with("127.0.0.1", Users::Me, Program::wanted())
    }

    /// Starts a registry at an address of this machine that speaks TLS, and only with clients that show a certificate. `folder` has
    /// `server.pem` and `server.key`, and the clients' authority as `ca.pem`.
    pub fn start_certified(ip: &str, folder: &Path) -> Registry {
        Self::start_with(ip, Users::Certified(folder.to_owned()), Program::wanted())
    }

    fn start_with(ip: &str, users: Users, program: Program) -> Registry {
        let dir = tempfile::Builder::new().prefix("skep-registry-").tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        let passwords = dir.path().join("htpasswd");
        std::fs::write(&passwords, "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
            .expect("write the registry's passwords");
        // The port could be taken between here and the start of the registry; then it ends, and another is tried.
        for _ in 0..20 {
            let port = TcpListener::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a free port").port();
            let address = format!("{ip}:{port}");
            let mut server = serve(dir.path(), &address, &users, program);
            until("the registry answers or ends", || {
                server.try_wait().expect("wait for a child").is_some() || answers(&address, &users)
            });
            if server.try_wait().expect("wait for a child").is_none() {
                return Registry { address, server, dir, users, program };
            }
        }
        panic!("no registry: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Ends the registry, in the middle of whatever it does. What it has stored stays.
    pub fn kill(&mut self) {
        self.server.kill().expect("kill the registry");
        self.server.wait().expect("wait for the registry");
    }

    /// Starts it again, at the same address, after [`Registry::kill`].
    #[track_caller]
    pub fn launch(&mut self) {
        self.server = serve(self.dir.path(), &self.address, &self.users, self.program);
        until("the registry answers", || answers(&self.address, &self.users));
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The root of `skep registry serve`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// What it has logged: a line for each request, too.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("the registry's log")
    }

    /// For looking at it, or breaking it.
    pub fn api(&self) -> Api {
        Api::Tcp(self.address.clone())
    }

    /// The name of an image in this registry.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Stores an image as `name` (`repository:tag`), with uncompressed layers; returns the digest of the manifest.
    #[track_caller]
    pub fn push(&self, name: &str, image: &Image) -> String {
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let descriptor = |media_type: &str, bytes: &[u8]| {
            let digest = self.upload(repository, bytes);
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<_> =
            image.layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &image.config),
            "layers": layers,
        });
        self.put_manifest(repository, tag, MANIFEST, manifest.to_string().as_bytes())
    }

    /// Stores a blob; returns its digest.
    #[track_caller]
    pub fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let start =
            self.api().request("POST", &format!("/v2/{repository}/blobs/uploads/"), None).expect("start an upload");
        let location = start.header("location").expect("an upload has a place").to_owned();
        let path = location.split_once(&self.address).map_or(location.as_str(), |(_, path)| path);
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={digest}");
        let reply =
            self.api().send("PUT", &path, &[("Content-Type", "application/octet-stream")], bytes).expect("upload");
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    /// Stores a manifest or an index; returns its digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) -> String {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let reply = self.api().send("PUT", &path, &[("Content-Type", media_type)], manifest).expect("put a manifest");
        assert_eq!(reply.status, 201, "{}", reply.text());
        sha256(manifest)
    }
}

fn answers(address: &str, users: &Users) -> bool {
    match users {
        Users::Everybody | Users::Me => Api::Tcp(address.to_owned()).request("GET", "/v2/", None).is_ok(),
        Users::Certified(_) => TcpStream::connect(address).is_ok(),
    }
}

fn serve(dir: &Path, address: &str, users: &Users, program: Program) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log file");
    let mut command = match program {
        Program::Own => own(dir, address, users),
        Program::Foreign => foreign(dir, address, users),
    };
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second descriptor")).stderr(log);
    command.spawn().expect("a registry")
}

fn own(dir: &Path, address: &str, users: &Users) -> Command {
    let mut command = Command::new(crate::program("skep"));
    command.args(["registry", "serve", "--listen", address, "--root"]).arg(dir.join("store"));
    match users {
        Users::Everybody => {}
        Users::Me => {
            command.arg("--htpasswd").arg(dir.join("htpasswd"));
        }
        Users::Certified(folder) => {
            command.arg("--tls-cert").arg(folder.join("server.pem")).arg("--tls-key").arg(folder.join("server.key"));
            command.arg("--tls-client-ca").arg(folder.join("ca.pem"));
        }
    }
    command
}

fn foreign(dir: &Path, address: &str, users: &Users) -> Command {
    let (tls, auth) = match users {
        Users::Everybody => (String::new(), String::new()),
        Users::Me => {
            (String::new(), format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.join("htpasswd").display()))
        }
        Users::Certified(folder) => {
            let file = |name: &str| folder.join(name).display().to_string();
            let (certificate, key, authorities) = (file("server.pem"), file("server.key"), file("ca.pem"));
            (format!(", tls: {{certificate: {certificate}, key: {key}, clientcas: [{authorities}]}}"), String::new())
        }
    };
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: '{address}'{tls}}}\n{auth}",
        dir.join("store").display()
    );
    let config = dir.join("config.yml");
    std::fs::write(&config, text).expect("write the registry's configuration");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
    command
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_can_be_pushed() {
        let registry = Registry::start();
        let digest = registry.push("test/busybox:1", Image::busybox());
        let reply = registry.api().send("GET", "/v2/test/busybox/manifests/1", &[("Accept", MANIFEST)], &[]).unwrap();
        assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(reply.json()["config"]["digest"], Image::busybox().id());
    }
}
