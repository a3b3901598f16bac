//! Credentials: logging in and out, where they are kept, and who gets to see them.

use std::os::unix::fs::PermissionsExt;

use skep_testkit::{Command, Engine, EngineKind, Image, Registry};

use super::engine;

fn config_file(engine: &Engine) -> std::path::PathBuf {
    engine.scratch().join("client/config.json")
}

/// A command of a user with a config file of its own.
fn as_user<const N: usize>(engine: &Engine, words: [&str; N]) -> Command {
    let dir = engine.scratch().join("client");
    std::fs::create_dir_all(&dir).unwrap();
    engine.command(words).env("DOCKER_CONFIG", dir)
}

#[test]
fn a_protected_registry() {
    let (engine, registry) = (engine(), Registry::start_protected());
    let (server, name) = (registry.address().to_owned(), registry.name("app:1"));
    engine.run(["tag", "busybox", &name]).success();
    as_user(&engine, ["push", &name]).run().code_is(1).stderr_has("no basic auth credentials");
    let refused = format!("login attempt to http://{server}/v2/ failed with status: 401 Unauthorized");
    as_user(&engine, ["login", "-u", "me", "--password-stdin", &server])
        .stdin("wrong\n")
        .run()
        .code_is(1)
        .stderr_has(&refused);
    assert!(!config_file(&engine).exists(), "nothing is kept of a login that failed");
    as_user(&engine, ["login", "-u", "me", "--password-stdin", &server])
        .stdin("secret\n")
        .run()
        .success()
        .stdout_is("Login Succeeded\n")
        .stderr_has("WARNING! Your credentials are stored unencrypted in");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(config_file(&engine)).unwrap()).unwrap();
    assert_eq!(kept, serde_json::json!({"auths": {&server: {"auth": "bWU6c2VjcmV0"}}}));
    assert_eq!(std::fs::metadata(config_file(&engine)).unwrap().permissions().mode() & 0o777, 0o600);
    as_user(&engine, ["login", &server])
        .run()
        .success()
        .stdout_is("Login Succeeded\n")
        .stderr_has("Authenticating with existing credentials... [Username: me]");

    as_user(&engine, ["push", &name]).run().success();
    engine.run(["rmi", "-f", "busybox", &name]).success();
    engine.run(["pull", &name]).code_is(1).stderr_has("no basic auth credentials");
    as_user(&engine, ["pull", &name]).run().success();
    as_user(&engine, ["logout", &server])
        .run()
        .success()
        .stdout_is(&format!("Removing login credentials for {server}\n"));
    as_user(&engine, ["pull", &name]).run().code_is(1).stderr_has("no basic auth credentials");
    let log = engine.log();
    assert!(!log.contains("secret") && !log.contains("bWU6c2VjcmV0"), "the password is in the daemon's log");
}

#[test]
fn the_command_line_has_dockers_words() {
    let (engine, registry) = (Engine::start(), Registry::start_protected());
    let server = registry.address();
    as_user(&engine, ["login", "-u", "me", server])
        .run()
        .code_is(1)
        .stderr_has("Error: Cannot perform an interactive login from a non TTY device");
    as_user(&engine, ["login", "--password-stdin", server])
        .run()
        .code_is(1)
        .stderr_has("the --password-stdin option requires --username to be set");
    as_user(&engine, ["login", "-u", "me", "-p", "secret", server])
        .run()
        .success()
        .stderr_has("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    as_user(&engine, ["logout", "nobody.example"]).run().success();
}

#[test]
fn a_helper_program_keeps_credentials() {
    let (engine, registry) = (Engine::start(), Registry::start_protected());
    let server = registry.address().to_owned();
    let dir = engine.scratch();
    let program = dir.join("docker-credential-x");
    let script = format!(
        "#!/bin/sh\ncd '{}'\necho \"$@\" >> calls\ncase $1 in\nstore) cat > kept ;;\nerase) cat >/dev/null; rm -f kept ;;\n\
         get) cat > asked; if [ -e kept ]; then cat kept; else echo 'credentials not found in native keychain'; exit 1; fi ;;\nesac\n",
        dir.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("client")).unwrap();
    std::fs::write(
        config_file(&engine),
        r#"{"credsStore": "x", "detachKeys": "ctrl-q", "HttpHeaders": {"X-Own": "1"}}"#,
    )
    .unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let user = |words: [&str; 5]| as_user(&engine, words).env("PATH", &path);
    user(["login", "-u", "me", "--password-stdin", &server]).stdin("secret").run().success();
    let kept = std::fs::read_to_string(dir.join("kept")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&kept).unwrap(),
        serde_json::json!({"ServerURL": server, "Username": "me", "Secret": "secret"})
    );
    let config = std::fs::read_to_string(config_file(&engine)).unwrap();
    assert!(!config.contains("bWU6") && config.contains("detachKeys"), "{config}");
    let name = registry.name("app:1");
    engine.load(Image::busybox());
    engine.run(["tag", "busybox", &name]).success();
    as_user(&engine, ["push", &name]).env("PATH", &path).run().success();
    as_user(&engine, ["logout", &server]).env("PATH", &path).run().success();
    assert!(!dir.join("kept").exists());
    as_user(&engine, ["push", &name]).env("PATH", &path).run().code_is(1).stderr_has("no basic auth credentials");
    let calls = std::fs::read_to_string(dir.join("calls")).unwrap();
    assert!(!calls.contains("secret"), "secrets are not arguments");
}

#[test]
fn logging_in_at_a_terminal() {
    let (engine, registry) = (Engine::start(), Registry::start_protected());
    if engine.kind() == EngineKind::Docker {
        return; // the terminal of the tests has no config directory of its own
    }
    let mut terminal = engine.terminal(["login", registry.address()]);
    terminal.expect("Username: ");
    terminal.send("me\n");
    terminal.expect("Password: ");
    terminal.send("secret\n");
    terminal.expect("Login Succeeded");
    assert!(!terminal.shown().contains("secret"), "what is typed is not shown");
}
