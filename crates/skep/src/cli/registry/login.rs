//! `login`: asks the engine whether a registry takes a name and a password, and keeps them.

use std::io::{self, IsTerminal, Read, Write};

use skep_client::Error;
use skep_types::ErrorKind;
use skep_wire::{AuthConfig, AuthResponse};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials};
use crate::ui::{self, tty};

flags! {
    struct LoginFlags {
        password: Option<String> => "password" 'p', "Password or Personal Access Token (PAT)";
        from_stdin: bool => "password-stdin", "Take the Password or Personal Access Token (PAT) from stdin";
        username: Option<String> => "username" 'u', "Username";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: LoginFlags::specs,
    run: runner!(LoginFlags, run),
};

async fn run(cli: &Cli, flags: LoginFlags, words: Vec<String>) -> Outcome {
    let username = flags.username.as_deref().unwrap_or_default().trim().to_owned();
    let password = password_from(&flags, &username)?;
    let server = match words.first().map(String::as_str) {
        None | Some("" | "docker.io") => credentials::HUB.to_owned(),
        Some(credentials::HUB) => credentials::HUB.to_owned(),
        Some(server) => credentials::host_of(server).to_owned(),
    };
    let known = match username.is_empty() && password.is_empty() {
        true => credentials::find(cli.config(), &server)?,
        false => AuthConfig::default(),
    };
    if !known.username.is_empty()
        && !known.password.is_empty()
        && let Some(status) = with_stored(cli, known.clone()).await?
    {
        ui::line(&status);
        return Ok(());
    }
    let auth = ask(&server, username, password, known.username.trim())?;
    let answer = log_in(cli, &auth).await?;
    keep(cli, auth, &answer)?;
    if !answer.status.is_empty() {
        ui::line(&answer.status);
    }
    Ok(())
}

/// The password that the options give.
fn password_from(flags: &LoginFlags, username: &str) -> Result<String, Failure> {
    let given = flags.password.clone().unwrap_or_default();
    if !given.is_empty() && flags.from_stdin {
        return Err("conflicting options: cannot specify both --password and --password-stdin".into());
    }
    if !given.is_empty() {
        ui::error_line("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if !flags.from_stdin {
        return Ok(given);
    }
    if username.is_empty() {
        return Err("the --password-stdin option requires --username to be set".into());
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Tries what is kept already; nothing if it is of no use any more.
async fn with_stored(cli: &Cli, auth: AuthConfig) -> Result<Option<String>, Failure> {
    let name = &auth.username;
    ui::error_line(&format!("Authenticating with existing credentials... [Username: {name}]"));
    note("To login with a different account, run 'docker logout' followed by 'docker login'");
    ui::error_line("\n");
    match log_in(cli, &auth).await {
        Ok(answer) => {
            keep(cli, auth, &answer)?;
            Ok(Some(answer.status))
        }
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            ui::error_line("Stored credentials invalid or expired");
            Ok(None)
        }
        Err(error) => {
            ui::error_line(&format!("Login did not succeed, error: {error}"));
            Ok(None)
        }
    }
}

async fn log_in(cli: &Cli, auth: &AuthConfig) -> Result<AuthResponse, Error> {
    // A daemon that can't be reached is a failure like any other: there is no login without one.
    let client = cli.client().await.map_err(|failure| Error::Io(io::Error::other(failure.text)))?;
    client.post("/auth", auth).await
}

fn keep(cli: &Cli, mut auth: AuthConfig, answer: &AuthResponse) -> Result<(), Failure> {
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken.clone_from(&answer.identity_token);
    }
    credentials::store(cli.config(), &auth)
        .map_err(|failure| Failure::message(format!("Error saving credentials: {}", failure.text)))
}

/// Completes name and password by asking for them.
fn ask(server: &str, username: String, password: String, default_name: &str) -> Result<AuthConfig, Failure> {
    if (username.is_empty() || password.is_empty()) && !io::stdin().is_terminal() {
        return Err("Error: Cannot perform an interactive login from a non TTY device".into());
    }
    let username = match username.is_empty() {
        false => username,
        true => {
            let prompt = match default_name {
                "" => "Username: ".to_owned(),
                name => format!("Username ({name}): "),
            };
            let typed = read_line(&prompt)?;
            if typed.is_empty() { default_name.to_owned() } else { typed }
        }
    };
    if username.is_empty() {
        return Err("Error: Non-null Username Required".into());
    }
    let password = match password.trim().is_empty() {
        false => password,
        true => {
            if server == credentials::HUB {
                note("A Personal Access Token (PAT) can be used instead.");
            }
            let typed = {
                let _hidden = tty::Hidden::enter()?;
                read_line("Password: ")?
            };
            ui::line("");
            typed
        }
    };
    if password.is_empty() {
        return Err("Error: Password Required".into());
    }
    Ok(AuthConfig { username, password, serveraddress: server.to_owned(), ..AuthConfig::default() })
}

fn read_line(prompt: &str) -> Result<String, Failure> {
    ui::print(prompt);
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// A hint, set off as Docker's client does it.
fn note(text: &str) {
    ui::error_line(&match tty::is_terminal(io::stderr()) {
        true => format!("\n\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m\x1b[3m{text}\x1b[0m"),
        false => format!("\n Info -> {text}"),
    });
}
