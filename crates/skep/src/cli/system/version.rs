//! `version`.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use skep_client::NEWEST_API;
use skep_wire::Version;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;
use crate::ui::template::{Format, Purpose, raw_json_path};

flags! {
    pub(crate) struct VersionFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["version"],
    usage: "[OPTIONS]",
    about: "Show the version information of client and engine",
    args: Args::None,
    completion: Completion::Nothing,
    flags: VersionFlags::specs,
    run: runner!(VersionFlags, run),
};

const OWN: &str = env!("CARGO_PKG_VERSION");

/// The exit code of a template that cannot be read.
const BAD_TEMPLATE: i32 = 64;

/// The client's half, in the order of Docker's JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ClientVersion {
    version: &'static str,
    api_version: String,
    #[serde(rename = "DefaultAPIVersion")]
    default_api_version: String,
    git_commit: &'static str,
    go_version: &'static str,
    os: &'static str,
    arch: &'static str,
    context: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    client: ClientVersion,
    server: Option<Version>,
}

/// `--version`: one line, in the form that scripts cut the number out of.
pub(crate) fn one_line(program: &str) -> String {
    let mut letters = program.chars();
    let name: String = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    format!("{name} version {OWN}, build skep")
}

/// The client, speaking `api`.
pub(crate) fn client_version(api: String) -> ClientVersion {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ClientVersion {
        version: OWN,
        api_version: api,
        default_api_version: NEWEST_API.to_string(),
        git_commit: "",
        go_version: "",
        os: std::env::consts::OS,
        arch,
        context: "default",
    }
}

async fn run(cli: &Cli, flags: VersionFlags, _: Vec<String>) -> Outcome {
    let format = match flags.format.as_str() {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let parsed = match format {
        Some(text) => {
            Some((text, Format::parse(text, Purpose::Data).map_err(|text| Failure::new(BAD_TEMPLATE, text))?))
        }
        None => None,
    };
    let mut api = NEWEST_API.to_string();
    // The client's half is of use without an engine, too.
    let (server, failure) = match server(cli, &mut api).await {
        Ok(version) => (Some(version), None),
        Err(failure) => (None, Some(failure)),
    };
    let versions = Versions { client: client_version(api), server };
    match parsed {
        None => ui::print(&ui::table::align_with(&text(&versions), 20, 1)),
        Some((template, format)) => ui::line(&rendered(&versions, template, &format)?),
    }
    failure.map_or(Ok(()), Err)
}

async fn server(cli: &Cli, api: &mut String) -> Result<Version, Failure> {
    let client = cli.client().await?;
    let version = client.get("/version").await?;
    *api = client.version().to_string();
    Ok(version)
}

fn rendered(versions: &Versions, template: &str, format: &Format) -> Result<String, Failure> {
    if let Some(text) = raw_json_path(template, &serde_json::to_string(versions)?) {
        return Ok(text);
    }
    let mut value = serde_json::to_value(versions)?;
    for half in ["Client", "Server"] {
        if let Some(Value::Object(fields)) = value.get_mut(half)
            && let Some(api) = fields.get("ApiVersion").cloned()
        {
            // The field's name in Go.
            fields.insert("APIVersion".to_owned(), api);
        }
    }
    Ok(format.render(&value, "system.versionInfo")?)
}

/// The lines before alignment. What is not known has none.
fn text(versions: &Versions) -> String {
    let client = &versions.client;
    let mut api = client.api_version.clone();
    if client.api_version != client.default_api_version {
        let _ = write!(api, " (downgraded from {})", client.default_api_version);
    }
    let mut out = String::from("Client:\n");
    let platform = format!("{}/{}", client.os, client.arch);
    for (name, value) in
        [("Version", client.version), ("API version", &api), ("OS/Arch", &platform), ("Context", client.context)]
    {
        let _ = writeln!(out, " {name}:\t{value}");
    }
    let Some(server) = &versions.server else { return out };
    let _ = writeln!(out, "\n{}", format!("Server: {}", server.platform.name).trim_end());
    for component in &server.components {
        let _ = writeln!(out, " {}:\n  Version:\t{}", component.name, component.version);
        let detail = |name: &str| component.details.get(name).map(String::as_str).unwrap_or_default();
        if component.name != "Engine" {
            for (name, value) in &component.details {
                let _ = writeln!(out, "  {name}:\t{value}");
            }
            continue;
        }
        let api = format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion"));
        let platform = format!("{}/{}", detail("Os"), detail("Arch"));
        for (name, value) in [
            ("API version", api.as_str()),
            ("Go version", detail("GoVersion")),
            ("Git commit", detail("GitCommit")),
            ("Built", detail("BuildTime")),
            ("OS/Arch", &platform),
            ("Experimental", detail("Experimental")),
        ] {
            if !value.is_empty() {
                let _ = writeln!(out, "  {name}:\t{value}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions() -> Versions {
        let engine = skep_wire::VersionComponent {
            name: "Engine".into(),
            version: "9.8.7".into(),
            details: [
                ("ApiVersion", "1.51"),
                ("MinAPIVersion", "1.24"),
                ("Os", "linux"),
                ("Arch", "amd64"),
                ("Experimental", "false"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        };
        let platform = skep_wire::VersionPlatform { name: "skep".into() };
        let server = Version { platform, components: vec![engine], version: "9.8.7".into(), ..Version::default() };
        let mut client = client_version("1.47".to_owned());
        (client.version, client.os, client.arch) = ("1.2.3", "linux", "amd64");
        Versions { client, server: Some(server) }
    }

    #[test]
    fn both_halves_are_shown() {
        let downgraded = format!("1.47 (downgraded from {NEWEST_API})");
        let shown = ui::table::align_with(&text(&versions()), 20, 1).replace(&downgraded, "1.47 (downgraded)");
        insta::assert_snapshot!(shown, @r"
        Client:
         Version:           1.2.3
         API version:       1.47 (downgraded)
         OS/Arch:           linux/amd64
         Context:           default

        Server: skep
         Engine:
          Version:          9.8.7
          API version:      1.51 (minimum version 1.24)
          OS/Arch:          linux/amd64
          Experimental:     false
        ");
    }

    #[test]
    fn templates_use_gos_names() {
        let render = |template: &str| {
            let format = Format::parse(template, Purpose::Data).expect("good");
            rendered(&versions(), template, &format).expect("known fields")
        };
        assert_eq!(render("{{.Client.APIVersion}} {{.Server.Version}}"), "1.47 9.8.7");
        assert!(render("{{json .}}").starts_with(r#"{"Client":{"Version":"1.2.3","ApiVersion":"1.47","#));
    }

    #[test]
    fn one_line_is_dockers() {
        assert_eq!(one_line("docker"), format!("Docker version {OWN}, build skep"));
    }
}
