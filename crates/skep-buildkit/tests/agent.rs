//! The agent, asked by OpenSSH's own client: which keys it has, and whether its signatures are right.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use skep_buildkit::agent::{KeyError, Keys};
use tokio::net::UnixListener;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Makes a key; `form` is PEM or PKCS8 or none for OpenSSH's own.
fn make(folder: &Path, kind: &[&str], form: Option<&str>, passphrase: &str) -> std::path::PathBuf {
    let path = folder.join(format!("{}-{}{passphrase}", kind.join("-"), form.unwrap_or("own")));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", passphrase, "-C", "test", "-t"]).args(kind).arg("-f").arg(&path);
    if let Some(form) = form {
        command.args(["-m", form]);
    }
    run(&mut command);
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_takes_the_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for kind in [
        &["ed25519"][..],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["ecdsa", "-b", "521"],
        &["rsa", "-b", "2048"],
    ] {
        files.push(make(folder.path(), kind, None, ""));
        if kind[0] != "ed25519" {
            files.extend(["PEM", "PKCS8"].map(|form| make(folder.path(), kind, Some(form), "")));
        }
    }
    let keys = Keys::read(&files).unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            keys.serve(stream).await;
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        let listed = run(Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", &socket)).stdout;
        for file in files {
            let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
            let blob = public.split(' ').nth(1).unwrap();
            assert!(String::from_utf8_lossy(&listed).contains(blob), "{}", file.display());
            let data = file.with_extension("data");
            std::fs::write(&data, "what is signed").unwrap();
            // With the public key alone it is the agent that signs.
            let sign = ["-q", "-Y", "sign", "-n", "test", "-f"];
            let mut signing = Command::new("ssh-keygen");
            signing.args(sign).arg(file.with_extension("pub")).arg(&data).env("SSH_AUTH_SOCK", &socket);
            std::fs::remove_file(&file).unwrap();
            run(&mut signing);
            let mut checking = Command::new("ssh-keygen");
            checking.args(["-Y", "check-novalidate", "-n", "test", "-s"]).arg(file.with_extension("data.sig"));
            run(checking.stdin(std::fs::File::open(&data).unwrap()));
        }
    });
    asked.await.unwrap();
    serving.abort();
}

#[test]
fn keys_with_a_passphrase_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for form in [None, Some("PEM"), Some("PKCS8")] {
        let file = make(folder.path(), &["rsa", "-b", "2048"], form, "secret");
        assert!(matches!(Keys::read(&[file]), Err(KeyError::Protected(_))), "{form:?}");
    }
}
