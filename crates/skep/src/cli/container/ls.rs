//! `ps`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_types::Reference;
use skep_wire::ContainerSummary;

use super::published;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::listing::{self, Columns};
use crate::ui::{self, human};

const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

flags! {
    pub(crate) struct ListFlags {
        all: bool => "all" 'a', "Show containers that are not running, too";
        filter: Filter => "filter" 'f', "Show only what the filter lets through";
        format: String => "format", "Form of the output: table, 'table TEMPLATE', json, or a Go TEMPLATE";
        last: i64 = -1i64 => "last" 'n', "Show the n containers created last, in any state";
        latest: bool => "latest" 'l', "Show the container created last, in any state";
        no_trunc: bool => "no-trunc", "Do not shorten the output";
        quiet: bool => "quiet" 'q', "Print IDs only";
        size: bool => "size" 's', "Show the size of the files";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["ps", "container ls", "container list", "container ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("LabelMap", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];
const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
                   state:{{pad .State 1 0}}\nstatus:{{pad .Status 1 0}}\nnames: {{.Names}}\n\
                   labels:{{pad .Labels 1 0}}\nports:{{pad .Ports 1 0}}\n";

async fn run(cli: &Cli, flags: ListFlags, _: Vec<String>) -> Outcome {
    let format = match (flags.format.as_str(), &cli.config().ps_format) {
        ("", Some(configured)) if !flags.quiet => configured.clone(),
        (given, _) => given.to_owned(),
    };
    // A template that shows sizes needs them measured.
    let size = flags.size || format.contains(".Size");
    let limit = if flags.latest { 1 } else { flags.last };
    let containers: Vec<ContainerSummary> = cli
        .client()
        .await?
        .request(Method::GET, "/containers/json")
        .query_flag("all", flags.all)
        .query_opt("limit", (limit > 0).then(|| limit.to_string()))
        .query_flag("size", size)
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    let rows: Vec<Value> =
        containers.iter().map(|container| row(container, !flags.no_trunc, flags.format == "json")).collect();
    let default_table = if flags.size { TABLE_WITH_SIZE } else { TABLE };
    let columns = Columns { type_name: "*formatter.ContainerContext", titles: TITLES, default_table };
    let format = match format.trim() {
        "" | "table" if flags.quiet => "{{.ID}}".to_owned(),
        "raw" if flags.quiet => "container_id: {{.ID}}".to_owned(),
        "raw" if flags.size => format!("{RAW}size: {{{{.Size}}}}\n"),
        "raw" => RAW.to_owned(),
        _ => format,
    };
    ui::print(&listing::render(&columns, &format, &rows)?);
    Ok(())
}

/// The fields of one line.
fn row(container: &ContainerSummary, truncate: bool, as_json: bool) -> Value {
    let id = if truncate { human::short_id(&container.id) } else { &container.id };
    let command = match truncate {
        true => human::ellipsis(&container.command, COMMAND_WIDTH),
        false => container.command.clone(),
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { &mount.source } else { &mount.name })
        .map(|name| if truncate { human::ellipsis(name, MOUNT_WIDTH) } else { name.clone() })
        .collect();
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    json!({
        "ID": id,
        "Names": names(&container.names, truncate),
        "Image": image(container, truncate),
        "Command": quote(&command),
        "CreatedAt": human::local_time(container.created),
        "RunningFor": human::ago(container.created),
        "Ports": published::display(&container.ports),
        "State": container.state,
        "Status": container.status,
        "Size": size(container),
        "Labels": labels.join(","),
        "LabelMap": container.labels,
        "Mounts": mounts.join(","),
        "LocalVolumes": container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string(),
        "Networks": networks.join(","),
        "Platform": platform(container, as_json),
    })
}

/// The platform of the image as JSON, or as a template shows it: Go's word for nothing where the engine doesn't say.
fn platform(container: &ContainerSummary, as_json: bool) -> Value {
    let known = container.image_manifest_descriptor.as_ref().and_then(|descriptor| descriptor.platform.as_ref());
    match known {
        Some(platform) if as_json => json!(platform),
        Some(platform) => {
            let parts = [&platform.os, &platform.architecture, &platform.variant].map(String::as_str);
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            Value::from(parts.join("/"))
        }
        None if as_json => Value::Null,
        None => Value::from("<nil>"),
    }
}

/// All names; shortened, only the container's own, without those that links gave it.
fn names(names: &[String], truncate: bool) -> String {
    let mut plain = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    let own = plain.clone().find(|name| !name.contains('/'));
    match own {
        Some(own) if truncate => own.to_owned(),
        _ => plain.by_ref().collect::<Vec<_>>().join(","),
    }
}

fn image(container: &ContainerSummary, truncate: bool) -> String {
    let image = container.image.as_str();
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return image.to_owned();
    }
    let short = human::short_id(&container.image_id);
    if !short.is_empty() && short == human::short_id(image) {
        return short.to_owned();
    }
    match image.parse::<Reference>() {
        Ok(reference) => match reference.tag() {
            Some(tag) => format!("{}:{tag}", reference.familiar_name()),
            None => reference.familiar_name(),
        },
        Err(_) => image.to_owned(),
    }
}

fn size(container: &ContainerSummary) -> String {
    let own = human::size(container.size_rw);
    match container.size_root_fs {
        total if total > 0 => format!("{own} (virtual {})", human::size(total)),
        _ => own,
    }
}

/// A text in double quotes as Go's `strconv.Quote` writes it.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..' ' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> ContainerSummary {
        ContainerSummary {
            id: "0123456789abcdef".into(),
            names: vec!["/other/alias".into(), "/web".into()],
            image:
                "docker.io/library/busybox:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                    .into(),
            image_id: "sha256:fedcba9876543210".into(),
            command: "sh -c 'echo \"hello\" world'".into(),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn a_row_is_shortened_unless_told_otherwise() {
        let short = row(&container(), true, false);
        assert_eq!(short["ID"], "0123456789ab");
        assert_eq!(short["Names"], "web");
        assert_eq!(short["Image"], "busybox:1");
        assert_eq!(short["Command"], "\"sh -c 'echo \\\"hello\\\"…\"");
        let long = row(&container(), false, false);
        assert_eq!(long["Names"], "other/alias,web");
        assert_eq!(long["Command"], "\"sh -c 'echo \\\"hello\\\" world'\"");
        let by_id = ContainerSummary { image: "sha256:fedcba9876543210".into(), ..container() };
        assert_eq!(row(&by_id, true, false)["Image"], "fedcba987654");
    }

    #[test]
    fn sizes_and_quotes() {
        let sized = ContainerSummary { size_rw: 1500, size_root_fs: 4_423_456, ..container() };
        assert_eq!(row(&sized, true, false)["Size"], "1.5kB (virtual 4.42MB)");
        assert_eq!(quote("a\tb\u{1}\u{7f}ö"), "\"a\\tb\\x01\\x7fö\"");
    }
}
