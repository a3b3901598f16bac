//! `info`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use skep_client::NEWEST_API;
use skep_wire::Info;

use super::version::client_version;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;
use crate::ui::template::{Format, Purpose, raw_json_path};

flags! {
    pub(crate) struct InfoFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["info", "system info"],
    usage: "[OPTIONS]",
    about: "Display system-wide information",
    args: Args::None,
    completion: Completion::Nothing,
    flags: InfoFlags::specs,
    run: runner!(InfoFlags, run),
};

async fn run(cli: &Cli, flags: InfoFlags, _: Vec<String>) -> Outcome {
    match flags.format.as_str() {
        "" => print_all(cli).await,
        "json" => print_template(cli, "{{json .}}").await,
        template => print_template(cli, template).await,
    }
}

async fn print_all(cli: &Cli) -> Outcome {
    let client = format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        cli.globals.debug
    );
    // The client's half comes first and comes even without an engine.
    ui::print(&client);
    let info: Info = cli.client().await?.get("/info").await?;
    ui::print(&text(&info));
    for warning in &info.warnings {
        ui::error_line(warning);
    }
    Ok(())
}

async fn print_template(cli: &Cli, template: &str) -> Outcome {
    const BAD_TEMPLATE: i32 = 64;
    let format = Format::parse(template, Purpose::Data).map_err(|text| Failure::new(BAD_TEMPLATE, text))?;
    let raw = cli.client().await?.get_raw("/info").await?;
    let mut client = serde_json::to_value(client_version(NEWEST_API.to_string()))?;
    if let Value::Object(fields) = &mut client {
        fields.remove("ApiVersion");
        fields.insert("Debug".to_owned(), cli.globals.debug.into());
        fields.insert("Plugins".to_owned(), json!([]));
        fields.insert("Warnings".to_owned(), Value::Null);
    }
    let raw = String::from_utf8_lossy(&raw);
    let raw = raw.trim_end();
    // Joined as text: the engine's fields keep their order.
    let joined = format!("{},\"ClientInfo\":{client}}}", raw.strip_suffix('}').unwrap_or(raw));
    let shown = match raw_json_path(template, &joined) {
        Some(text) => text,
        None => format.render(&serde_json::from_str(&joined)?, "system.dockerInfo")?,
    };
    ui::line(&shown);
    Ok(())
}

fn text(info: &Info) -> String {
    let mut out = String::new();
    counts_and_drivers(&mut out, info);
    if !info.cdi_spec_dirs.is_empty() {
        list(&mut out, "CDI spec directories", &info.cdi_spec_dirs);
    }
    field(&mut out, "Swarm", &info.swarm.local_node_state);
    runtimes(&mut out, info);
    security(&mut out, &info.security_options);
    machine(&mut out, info);
    registries(&mut out, info);
    let _ = writeln!(out, " Live Restore Enabled: {}", info.live_restore_enabled);
    if let Some(firewall) = &info.firewall_backend {
        field(&mut out, "Firewall Backend", &firewall.driver);
        for [name, value] in &firewall.info {
            let _ = writeln!(out, "  {name}: {value}");
        }
    }
    out.push('\n');
    out
}

/// A line, unless there is nothing to say.
fn field(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(out, " {name}: {value}");
    }
}

fn list(out: &mut String, name: &str, values: &[String]) {
    let _ = writeln!(out, " {name}:");
    for value in values {
        let _ = writeln!(out, "  {value}");
    }
}

fn counts_and_drivers(out: &mut String, info: &Info) {
    let _ = writeln!(
        out,
        " Containers: {}\n  Running: {}\n  Paused: {}\n  Stopped: {}\n Images: {}",
        info.containers, info.containers_running, info.containers_paused, info.containers_stopped, info.images
    );
    field(out, "Server Version", &info.server_version);
    field(out, "Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().chain(&info.system_status) {
        let _ = writeln!(out, "  {name}: {value}");
    }
    field(out, "Logging Driver", &info.logging_driver);
    field(out, "Cgroup Driver", &info.cgroup_driver);
    field(out, "Cgroup Version", &info.cgroup_version);
    let _ = writeln!(
        out,
        " Plugins:\n  Volume: {}\n  Network: {}",
        info.plugins.volume.join(" "),
        info.plugins.network.join(" ")
    );
    if !info.plugins.authorization.is_empty() {
        let _ = writeln!(out, "  Authorization: {}", info.plugins.authorization.join(" "));
    }
    let _ = writeln!(out, "  Log: {}", info.plugins.log.join(" "));
}

fn runtimes(out: &mut String, info: &Info) {
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        let _ = writeln!(out, " Runtimes: {}", names.join(" "));
        field(out, "Default Runtime", &info.default_runtime);
    }
    field(out, "Init Binary", &info.init_binary);
    for (name, commit) in [
        ("containerd version", &info.containerd_commit),
        ("runc version", &info.runc_commit),
        ("init version", &info.init_commit),
    ] {
        field(out, name, &commit.id);
    }
}

/// `name=seccomp,profile=builtin` is a name with indented options.
fn security(out: &mut String, options: &[String]) {
    if options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in options {
        for part in option.split(',') {
            let _ = match part.split_once('=') {
                Some(("name", name)) => writeln!(out, "  {name}"),
                Some(("profile", profile)) => writeln!(out, "   Profile: {profile}"),
                Some((key, value)) => writeln!(out, "   {key}: {value}"),
                None => writeln!(out, "  {part}"),
            };
        }
    }
}

fn machine(out: &mut String, info: &Info) {
    field(out, "Kernel Version", &info.kernel_version);
    field(out, "Operating System", &info.operating_system);
    field(out, "OSType", &info.os_type);
    field(out, "Architecture", &info.architecture);
    let memory = skep_types::format_binary(u64::try_from(info.mem_total).unwrap_or(0));
    let _ = writeln!(out, " CPUs: {}\n Total Memory: {memory}", info.ncpu);
    field(out, "Name", &info.name);
    field(out, "ID", &info.id);
    field(out, "Docker Root Dir", &info.docker_root_dir);
    let _ = writeln!(out, " Debug Mode: {}", info.debug);
    if info.debug {
        let _ = writeln!(
            out,
            "  File Descriptors: {}\n  Goroutines: {}\n  System Time: {}\n  EventsListeners: {}",
            info.n_fd, info.n_goroutines, info.system_time, info.n_events_listener
        );
    }
    field(out, "HTTP Proxy", &info.http_proxy);
    field(out, "HTTPS Proxy", &info.https_proxy);
    field(out, "No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        list(out, "Labels", &info.labels);
    }
    let _ = writeln!(out, " Experimental: {}", info.experimental_build);
}

fn registries(out: &mut String, info: &Info) {
    let Some(config) = &info.registry_config else { return };
    let named = config.index_configs.values().filter(|index| !index.secure).map(|index| index.name.clone());
    let insecure: Vec<String> = named.chain(config.insecure_registry_cidrs.iter().cloned()).collect();
    if !insecure.is_empty() {
        list(out, "Insecure Registries", &insecure);
    }
    if !config.mirrors.is_empty() {
        list(out, "Registry Mirrors", &config.mirrors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_have_no_line() {
        let info = Info {
            containers: 2,
            server_version: "1.2.3".into(),
            driver: "overlay2".into(),
            driver_status: vec![["Backing Filesystem".into(), "extfs".into()]],
            security_options: vec!["name=seccomp,profile=builtin".into(), "name=cgroupns".into()],
            mem_total: 16 << 30,
            ncpu: 4,
            ..Info::default()
        };
        insta::assert_snapshot!(text(&info), @r"
         Containers: 2
          Running: 0
          Paused: 0
          Stopped: 0
         Images: 0
         Server Version: 1.2.3
         Storage Driver: overlay2
          Backing Filesystem: extfs
         Plugins:
          Volume: 
          Network: 
          Log: 
         Security Options:
          seccomp
           Profile: builtin
          cgroupns
         CPUs: 4
         Total Memory: 16GiB
         Debug Mode: false
         Experimental: false
         Live Restore Enabled: false
        ");
    }
}
