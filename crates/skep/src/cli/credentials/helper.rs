//! Programs that keep credentials: `docker-credential-NAME get|store|erase`, words on stdin, JSON on stdout.
//!
//! Secrets pass through pipes only, never through arguments.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use skep_wire::AuthConfig;

use crate::cli::Failure;

/// The user name that stands for "the secret is a token".
const TOKEN_USER: &str = "<token>";
/// How a helper says that it has nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

pub(super) struct Helper {
    program: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    pub(super) fn new(name: &str) -> Self {
        Helper { program: format!("docker-credential-{name}") }
    }

    #[cfg(test)]
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// What it keeps for a server, if anything.
    pub(super) fn get(&self, server: &str) -> Result<Option<AuthConfig>, Failure> {
        let out = match self.call("get", server.as_bytes()) {
            Ok(out) => out,
            Err(Refusal { output, .. }) if output == NOT_FOUND => return Ok(None),
            Err(refusal) => return Err(refusal.while_doing("getting")),
        };
        let kept: Kept = serde_json::from_str(&out)
            .map_err(|error| Failure::message(format!("error getting credentials: {}: {error}", self.program)))?;
        let serveraddress = server.to_owned();
        Ok(Some(match kept.username.as_str() {
            TOKEN_USER => AuthConfig { identitytoken: kept.secret, serveraddress, ..AuthConfig::default() },
            _ => AuthConfig { username: kept.username, password: kept.secret, serveraddress, ..AuthConfig::default() },
        }))
    }

    pub(super) fn store(&self, auth: &AuthConfig) -> Result<(), Failure> {
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.clone(), auth.password.clone()),
            token => (TOKEN_USER.to_owned(), token.to_owned()),
        };
        let kept = Kept { server_url: auth.serveraddress.clone(), username, secret };
        let input = serde_json::to_vec(&kept)?;
        self.call("store", &input).map(drop).map_err(|refusal| refusal.while_doing("storing"))
    }

    pub(super) fn erase(&self, server: &str) -> Result<(), Failure> {
        match self.call("erase", server.as_bytes()) {
            Ok(_) => Ok(()),
            Err(Refusal { output, .. }) if output == NOT_FOUND => Ok(()),
            Err(refusal) => Err(refusal.while_doing("erasing")),
        }
    }

    fn call(&self, action: &str, input: &[u8]) -> Result<String, Refusal> {
        let failed = |reason: String| Refusal { reason, output: String::new() };
        let mut command = Command::new(&self.program);
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                failed(format!("exec: {:?}: executable file not found in $PATH", self.program))
            }
            _ => failed(error.to_string()),
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that doesn't read says by its end why.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(text),
            Some(code) => Err(Refusal { reason: format!("exit status {code}"), output: text }),
            None => Err(Refusal { reason: output.status.to_string(), output: text }),
        }
    }
}

/// A call that came to nothing.
struct Refusal {
    reason: String,
    /// What the program wrote: by the protocol, an error message.
    output: String,
}

impl Refusal {
    fn while_doing(self, what: &str) -> Failure {
        Failure::message(format!("error {what} credentials - err: {}, out: `{}`", self.reason, self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A helper that keeps what it is given in a file beside it.
    fn helper(folder: &std::path::Path) -> Helper {
        let program = folder.join("docker-credential-file");
        let script = format!(
            "#!/bin/sh\ncd '{}'\ncase $1 in\nstore) cat > kept ;;\nerase) cat > erased ;;\n\
             get) cat > asked; if [ -e kept ]; then cat kept; else echo '{NOT_FOUND}'; exit 1; fi ;;\nesac\n",
            folder.display()
        );
        std::fs::write(&program, script).expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Helper { program: program.display().to_string() }
    }

    #[test]
    fn passwords_and_tokens_go_there_and_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let helper = helper(folder.path());
        assert!(helper.get("reg:5000").ok().flatten().is_none(), "nothing is kept");
        let serveraddress = "reg:5000".to_owned();
        let password =
            AuthConfig { username: "u".into(), password: "p".into(), serveraddress, ..AuthConfig::default() };
        assert!(helper.store(&password).is_ok());
        assert_eq!(helper.get("reg:5000").ok().flatten(), Some(password.clone()));
        let token = AuthConfig { identitytoken: "t".into(), password: String::new(), ..password };
        assert!(helper.store(&token).is_ok());
        let kept = helper.get("reg:5000").ok().flatten().expect("kept");
        assert_eq!((kept.username.as_str(), kept.identitytoken.as_str()), ("", "t"));
        assert!(helper.erase("reg:5000").is_ok());
        assert_eq!(std::fs::read_to_string(folder.path().join("erased")).expect("called"), "reg:5000");
    }

    #[test]
    fn a_missing_helper_is_named() {
        let failure = Helper::new("nobody-has-this").get("x").expect_err("there is none");
        assert_eq!(
            failure.text,
            "error getting credentials - err: exec: \"docker-credential-nobody-has-this\": executable file not found in \
             $PATH, out: ``"
        );
    }
}
