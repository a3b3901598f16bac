//! The ways to reach an engine other than its socket: tcp, TLS, a socket that the service manager passes, none at all.

use std::net::TcpListener;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use skep_testkit::{Api, Command, Engine, EngineKind, Image, Outcome, program};

use super::peers;

/// A port of the loopback that is free now.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// An engine that listens at `address`, too, and has busybox.
fn listening(address: &str, options: &[&str]) -> Engine {
    let mut builder = Engine::builder().argument("--host").argument(format!("tcp://{address}"));
    for option in options {
        builder = builder.argument(*option);
    }
    let engine = builder.start();
    engine.load(Image::busybox());
    engine
}

/// An engine that listens without TLS, and where.
pub(crate) fn over_tcp() -> (Engine, String) {
    let address = free_address();
    (listening(&address, &[]), address)
}

#[test]
fn tcp() {
    let (engine, address) = over_tcp();
    let clients = [None, peers::fetched("docker"), peers::installed("docker")];
    for client in clients {
        let over_tcp = |arguments: &[&str]| {
            let command = match &client {
                None => engine.command(arguments),
                Some(program) => Command::new(program, arguments).env("HOME", engine.scratch()),
            };
            command.env("DOCKER_HOST", format!("tcp://{address}"))
        };
        over_tcp(&["run", "--rm", "busybox", "echo", "hello"]).run().success().stdout_is("hello\n");
        // Both directions, and the end of one before that of the other.
        let echo = over_tcp(&["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end"]);
        echo.stdin("over tcp\n").run().success().stdout_is("over tcp\nend\n");
        over_tcp(&["run", "-d", "--name", "one", "--init", "busybox", "sleep", "1000"]).run().success();
        over_tcp(&["exec", "-i", "one", "cat"]).stdin("to exec").run().success().stdout_is("to exec");
        over_tcp(&["exec", "one", "sh", "-c", "exit 7"]).run().code_is(7);
        over_tcp(&["rm", "-f", "one"]).run().success();
    }
}

/// Certificates below `dir` as Docker's documentation makes them: `ca.pem`, `cert.pem`, `key.pem` for the client, `server-*.pem`.
fn certificates(dir: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("ca.pem"), ca_pem).unwrap();
    for (prefix, usage) in [("server-", ExtendedKeyUsagePurpose::ServerAuth), ("", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![usage];
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{prefix}cert.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{prefix}key.pem")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn tls() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
    certificates(&ours);
    certificates(&others);
    let address = free_address();
    let option = |name: &str, file: &str| format!("--{name}={}", ours.join(file).display());
    let files =
        [option("tlscacert", "ca.pem"), option("tlscert", "server-cert.pem"), option("tlskey", "server-key.pem")];
    let engine = listening(&address, &["--tlsverify", &files[0], &files[1], &files[2]]);

    let clients = [None, peers::fetched("docker"), peers::installed("docker")];
    for client in clients {
        let run = |certificates: &Path, arguments: &[&str]| -> Outcome {
            let command = match &client {
                None => engine.command(arguments),
                Some(program) => Command::new(program, arguments).env("HOME", engine.scratch()),
            };
            let command = command.env("DOCKER_HOST", format!("tcp://{address}")).env("DOCKER_TLS_VERIFY", "1");
            command.env("DOCKER_CERT_PATH", certificates).stdin("through TLS").run()
        };
        run(&ours, &["run", "-i", "--rm", "busybox", "cat"]).success().stdout_is("through TLS");
        // Neither does the client trust another's engine, nor the engine another's client.
        assert_ne!(run(&others, &["version"]).code, 0);
        let mixed = dir.path().join("mixed");
        std::fs::create_dir_all(&mixed).unwrap();
        for (from, file) in [(&ours, "ca.pem"), (&others, "cert.pem"), (&others, "key.pem")] {
            std::fs::copy(from.join(file), mixed.join(file)).unwrap();
        }
        assert_ne!(run(&mixed, &["ps"]).code, 0);
    }
    // Without TLS nobody is let in.
    let reply = Api::Tcp(address).request("GET", "/info", None).unwrap();
    assert_eq!((reply.status, reply.text().trim_end()), (400, "Client sent an HTTP request to an HTTPS server."));
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn a_passed_socket() {
    let mut engine = Engine::builder().passed_socket().start();
    engine.load(Image::busybox());
    let id = engine.run(["run", "-d", "--init", "busybox", "sleep", "1000"]).success().word();
    engine.stop();
    // The socket is the service manager's: it stays.
    assert!(engine.socket().exists());
    engine.launch();
    engine.run(["ps", "-q", "--no-trunc"]).success().stdout_is(&format!("{id}\n"));
}

/// Nobody works with it and no container runs: it ends by itself.
#[test]
fn an_idle_engine() {
    if Engine::kind_under_test() == EngineKind::Docker {
        return println!("SKIPPED an idle engine: Docker's stays");
    }
    let mut engine = Engine::builder().argument("--idle-timeout=1s").start();
    engine.load(Image::busybox());
    engine.run(["run", "-d", "--name", "one", "busybox", "sleep", "3"]).success();
    engine.until_ended();
    engine.launch();
    // It stayed as long as the container ran.
    assert_eq!(engine.inspect("one")["State"]["ExitCode"], 0);
}

/// In namespaces of its own, as it is about the places that an engine has if nothing else is said.
#[test]
fn an_engine_on_demand() {
    if Engine::kind_under_test() == EngineKind::Docker {
        return println!("SKIPPED an engine on demand: Docker has none");
    }
    let engine = Engine::start();
    let archive = engine.scratch().join("busybox.tar");
    std::fs::write(&archive, Image::busybox().archive()).unwrap();
    let script = "set -e
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /var/lib
        ip link set lo up
        \"$0\" load -q -i \"$1\"
        \"$0\" run --rm busybox echo hello
        kill $(cat /run/skep/skep.pid)
        while [ -e /run/skep/skep.pid ]; do sleep 0.05; done";
    let arguments = ["--mount", "--net", "--propagation", "private", "sh", "-c", script];
    let skep = program("skep").display().to_string();
    let arguments = arguments.into_iter().map(str::to_owned).chain([skep, archive.display().to_string()]);
    let outcome = Command::new("unshare", arguments).env("HOME", engine.scratch()).run().success();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["Loaded image: busybox:latest", "hello"]);
    assert_eq!(outcome.stderr.matches("no engine is running, starting one").count(), 1, "{}", outcome.stderr);
}
