//! Registries that want to see a client's certificate: `certs.d/HOST:PORT/{ca.crt,client.cert,client.key}`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use skep_testkit::{Engine, EngineKind, Image, Registry};

/// An authority, and what it vouches for.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Its certificate goes to `file`.
    fn new(file: &Path) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        Authority(Issuer::new(parameters, key))
    }

    fn sign(&self, certificate: &Path, key: &Path, usage: ExtendedKeyUsagePurpose, name: &str, until: i32) {
        let pair = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.extended_key_usages = vec![usage];
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        std::fs::write(certificate, parameters.signed_by(&pair, &self.0).unwrap().pem()).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
    }
}

/// The folder of one registry's certificates; goes with this value, for dockerd's are in a place that is not the test's.
struct Folder(PathBuf);

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_registry_that_wants_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (certs, server) = (dir.path().join("certs.d"), dir.path().join("server"));
    std::fs::create_dir_all(&server).unwrap();
    let builder = Engine::builder();
    let engine = match Engine::kind_under_test() {
        EngineKind::Skep => builder.argument("--certs-dir").argument(&certs).start(),
        EngineKind::Docker => builder.start(),
    };
    engine.load(Image::busybox());
    // Not on loopback: what is there needs no certificate, and Docker shows none.
    let bridge = engine.slot().bip();
    let ip = bridge.split('/').next().unwrap();
    let authority = Authority::new(&server.join("ca.pem"));
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    authority.sign(&server.join("server.pem"), &server.join("server.key"), usage, ip, 2100);
    let registry = Registry::start_certified(ip, &server);
    let certs = if engine.kind() == EngineKind::Docker { PathBuf::from("/etc/docker/certs.d") } else { certs };
    let folder = Folder(certs.join(registry.address()));
    std::fs::create_dir_all(&folder.0).unwrap();
    let name = registry.name("some/app:1");
    engine.run(["tag", "busybox", &name]).success();
    let refused = |part: &str| {
        engine.run(["push", &name]).code_is(1).stderr_has(part);
    };

    refused("tls: failed to verify certificate: x509: ");
    std::fs::copy(server.join("ca.pem"), folder.file("ca.crt")).unwrap();
    refused("remote error: tls: certificate required");
    let client = |until| {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        authority.sign(&folder.file("client.cert"), &folder.file("client.key"), usage, "me", until);
    };
    client(2001);
    refused("remote error: tls: expired certificate");
    std::fs::remove_file(folder.file("client.key")).unwrap();
    refused("missing key");
    client(2100);
    engine.run(["push", &name]).success();
    engine.run(["rmi", "-f", "busybox", &name]).success();
    engine.run(["pull", &name]).success();

    // That the daemon has open connections to the registry makes no difference: files count as they are.
    std::fs::remove_file(folder.file("client.cert")).unwrap();
    engine.run(["pull", &name]).code_is(1).stderr_has("missing client certificate");
    std::fs::remove_file(folder.file("client.key")).unwrap();
    engine.run(["pull", &name]).code_is(1).stderr_has("remote error: tls: certificate required");
}
