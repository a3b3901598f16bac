//! `inspect`, for one kind of object or for whatever has the name.
//!
//! The engine's JSON is shown as it came: order of keys, numbers and unknown fields stay.

use serde_json::Value;
use skep_client::{Bytes, Client, Method};

use super::command::read;
use super::flags::{FlagSet, Order, flags};
use super::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::template::{Format, Purpose, raw_json_path};

flags! {
    pub(crate) struct AnyFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
        size: bool => "size" 's', "Display total file sizes if the type is container";
        kind: Option<String> => "type", "Only inspect objects of the given type";
    }
}

flags! {
    pub(crate) struct ContainerFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
        size: bool => "size" 's', "Display total file sizes";
    }
}

flags! {
    pub(crate) struct ImageFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
        platform: Option<String> => "platform", "Inspect this platform of an image for several: os[/arch[/variant]]";
    }
}

flags! {
    pub(crate) struct NetworkFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
        verbose: bool => "verbose" 'v', "Verbose output for diagnostics";
    }
}

flags! {
    pub(crate) struct VolumeFlags {
        format: String => "format" 'f', "Format output: 'json' or a Go template";
    }
}

/// The `run` member of a command of this file: reads its flags, and inspects what they make of themselves.
macro_rules! inspects {
    ($command:ident, $flags:ty) => {
        |cli, words| {
            Box::pin(async move {
                match read::<$flags>(&$command, cli, words, Order::Mixed)? {
                    Some((flags, words)) => {
                        let (query, format) = <$flags as Asked>::query(flags)?;
                        inspect(cli, &query, &format, &words).await
                    }
                    None => Ok(()),
                }
            })
        }
    };
}

pub(crate) const ANY: Command = Command {
    paths: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: AnyFlags::specs,
    run: inspects!(ANY, AnyFlags),
};

pub(crate) const CONTAINER: Command = Command {
    paths: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: ContainerFlags::specs,
    run: inspects!(CONTAINER, ContainerFlags),
};

pub(crate) const IMAGE: Command = Command {
    paths: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    args: Args::AtLeast(1),
    completion: Completion::Images,
    flags: ImageFlags::specs,
    run: inspects!(IMAGE, ImageFlags),
};

pub(crate) const NETWORK: Command = Command {
    paths: &["network inspect"],
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    args: Args::AtLeast(1),
    completion: Completion::Networks,
    flags: NetworkFlags::specs,
    run: inspects!(NETWORK, NetworkFlags),
};

pub(crate) const VOLUME: Command = Command {
    paths: &["volume inspect"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    args: Args::AtLeast(1),
    completion: Completion::Volumes,
    flags: VolumeFlags::specs,
    run: inspects!(VOLUME, VolumeFlags),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// The order in which a bare name is tried.
const KINDS: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

/// Docker's types that this engine has no objects of.
const FOREIGN: [&str; 6] = ["config", "node", "plugin", "secret", "service", "task"];

/// What to ask the engine for.
#[derive(Debug, Default)]
struct Query {
    /// One kind; all in turn if none is given.
    kind: Option<Kind>,
    size: bool,
    platform: Option<String>,
    verbose: bool,
}

/// Flags that say what to ask for, and how to show it.
trait Asked {
    fn query(self) -> Result<(Query, String), Failure>;
}

impl Asked for AnyFlags {
    fn query(self) -> Result<(Query, String), Failure> {
        let kind = self.kind.as_deref().filter(|kind| !kind.is_empty()).map(parse_kind).transpose()?;
        Ok((Query { kind, size: self.size, ..Query::default() }, self.format))
    }
}

impl Asked for ContainerFlags {
    fn query(self) -> Result<(Query, String), Failure> {
        Ok((Query { kind: Some(Kind::Container), size: self.size, ..Query::default() }, self.format))
    }
}

impl Asked for ImageFlags {
    fn query(self) -> Result<(Query, String), Failure> {
        let platform = self.platform.as_deref().filter(|text| !text.is_empty()).map(platform_json).transpose()?;
        Ok((Query { kind: Some(Kind::Image), platform, ..Query::default() }, self.format))
    }
}

impl Asked for NetworkFlags {
    fn query(self) -> Result<(Query, String), Failure> {
        Ok((Query { kind: Some(Kind::Network), verbose: self.verbose, ..Query::default() }, self.format))
    }
}

impl Asked for VolumeFlags {
    fn query(self) -> Result<(Query, String), Failure> {
        Ok((Query { kind: Some(Kind::Volume), ..Query::default() }, self.format))
    }
}

fn parse_kind(text: &str) -> Result<Kind, Failure> {
    match text {
        "container" => Ok(Kind::Container),
        "image" => Ok(Kind::Image),
        "network" => Ok(Kind::Network),
        "volume" => Ok(Kind::Volume),
        _ if FOREIGN.contains(&text) => Err(Failure::message(format!("type {text:?} is not supported by this engine"))),
        _ => Err(Failure::message(format!(
            "unknown type: {text:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \
             \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
        ))),
    }
}

/// `os[/arch[/variant]]` as the JSON that the API wants.
fn platform_json(text: &str) -> Result<String, Failure> {
    let platform: skep_types::Platform =
        text.parse().map_err(|error| Failure::message(format!("invalid platform: {error}")))?;
    let mut json = serde_json::json!({"architecture": platform.architecture, "os": platform.os});
    if !platform.variant.is_empty() {
        json["variant"] = platform.variant.into();
    }
    Ok(json.to_string())
}

async fn inspect(cli: &Cli, query: &Query, format: &str, names: &[String]) -> Outcome {
    let mut output = Output::new(format)?;
    let client = cli.client().await?;
    let mut failed = Vec::new();
    for name in names {
        let shown = match fetch(client, query, name).await {
            Ok(json) => output.add(&json),
            Err(failure) => Err(failure.text),
        };
        failed.extend(shown.err());
    }
    ui::write_stdout(&output.finish());
    Failure::all(failed)
}

async fn fetch(client: &Client, query: &Query, name: &str) -> Result<Bytes, Failure> {
    if let Some(kind) = query.kind {
        let json = fetch_kind(client, query, kind, name).await?;
        if query.size && kind != Kind::Container {
            let kind = format!("{kind:?}").to_lowercase();
            ui::error_line(&format!("WARNING: --size ignored for {kind}"));
        }
        return json.map_err(Failure::from);
    }
    for kind in KINDS {
        match fetch_kind(client, query, kind, name).await? {
            Ok(json) => return Ok(json),
            Err(error) if error.is_not_found() => {}
            // A name that this kind of object cannot have may be another's.
            Err(error) if error.kind() == skep_types::ErrorKind::InvalidParameter => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::message(format!("Error: No such object: {name}")))
}

/// The outer error is a name that cannot be asked for at all.
async fn fetch_kind(
    client: &Client,
    query: &Query,
    kind: Kind,
    name: &str,
) -> Result<skep_client::Result<Bytes>, Failure> {
    let path = match kind {
        Kind::Container => reference::container(name, "/json")?,
        Kind::Image => reference::image(name, "/json")?,
        Kind::Network => reference::network(name, "")?,
        Kind::Volume => reference::volume(name)?,
    };
    let request = client.request(Method::GET, path);
    let request = match kind {
        Kind::Container => request.query_flag("size", query.size),
        Kind::Image => request.query_opt("platform", query.platform.as_deref()),
        Kind::Network if query.verbose => request.query("verbose", "true"),
        Kind::Network | Kind::Volume => request,
    };
    let answer = match request.send().await {
        Ok(response) => response.bytes().await,
        Err(error) => Err(error),
    };
    Ok(answer)
}

/// The objects found so far, as they will be shown.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Output {
    /// An array, indented.
    Indented(Vec<u8>),
    /// An array on one line.
    Json(String),
    /// A line for each object.
    Template { format: Format, template: String, text: String },
}

impl Output {
    fn new(format: &str) -> Result<Self, Failure> {
        match format {
            "" => Ok(Output::Indented(Vec::new())),
            "json" => Ok(Output::Json(String::new())),
            template => {
                const BAD_TEMPLATE: i32 = 64;
                let parsed = Format::parse(template, Purpose::Data).map_err(|text| Failure::new(BAD_TEMPLATE, text))?;
                Ok(Output::Template { format: parsed, template: template.to_owned(), text: String::new() })
            }
        }
    }

    fn add(&mut self, json: &[u8]) -> Result<(), String> {
        match self {
            Output::Indented(out) => {
                out.extend_from_slice(if out.is_empty() { b"[\n    " } else { b",\n    " });
                out.extend_from_slice(&ui::json::indent(json, "    "));
            }
            Output::Json(out) => {
                out.push(if out.is_empty() { '[' } else { ',' });
                out.push_str(&ui::json::compact(&String::from_utf8_lossy(json)));
            }
            Output::Template { format, template, text } => {
                text.push_str(&rendered(format, template, json)?);
                text.push('\n');
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Output::Indented(out) if out.is_empty() => b"[]\n".to_vec(),
            Output::Indented(mut out) => {
                out.extend_from_slice(b"\n]\n");
                out
            }
            Output::Json(out) if out.is_empty() => b"[]\n".to_vec(),
            Output::Json(out) => format!("{out}]\n").into_bytes(),
            Output::Template { text, .. } if text.is_empty() => b"\n".to_vec(),
            Output::Template { text, .. } => text.into_bytes(),
        }
    }
}

fn rendered(format: &Format, template: &str, json: &[u8]) -> Result<String, String> {
    if let Some(text) = std::str::from_utf8(json).ok().and_then(|json| raw_json_path(template, json)) {
        return Ok(text);
    }
    let mut object: Value =
        serde_json::from_slice(json).map_err(|error| format!("unable to read inspect data: {error}"))?;
    if let Value::Object(fields) = &mut object
        && let Some(id) = fields.get("Id").cloned()
    {
        // Templates know the field by its name in Go, too.
        fields.entry("ID").or_insert(id);
    }
    format.render(&object, "").map_err(|error| format!("template parsing error: {}", missing_key(&error)))
}

/// Where no field fits, Docker tries the bare JSON and reports that attempt's failure.
fn missing_key(error: &str) -> String {
    const FIELD: &str = "can't evaluate field ";
    match error.split_once(FIELD) {
        Some((place, rest)) => {
            let field = rest.split(' ').next().unwrap_or_default();
            format!("{place}map has no entry for key {field:?}")
        }
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str, objects: &[&str]) -> String {
        let mut output = Output::new(format).expect("a good format");
        for object in objects {
            output.add(object.as_bytes()).expect("a good object");
        }
        String::from_utf8(output.finish()).expect("text")
    }

    #[test]
    fn objects_become_an_array() {
        insta::assert_snapshot!(shown("", &[r#"{"Id":"a","L":[]}"#, r#"{"Id":"b"}"#]), @r#"
        [
            {
                "Id": "a",
                "L": []
            },
            {
                "Id": "b"
            }
        ]
        "#);
        assert_eq!(shown("", &[]), "[]\n");
        assert_eq!(shown("json", &[r#"{"Id": "a"}"#, r#"{"Id": "b"}"#]), "[{\"Id\":\"a\"},{\"Id\":\"b\"}]\n");
        assert_eq!(shown("json", &[]), "[]\n");
    }

    #[test]
    fn templates_make_a_line_each() {
        let objects = [r#"{"Id":"a","State":{"Z":1,"A":2}}"#, r#"{"Id":"b","State":{}}"#];
        assert_eq!(shown("{{.Id}} {{.ID}}", &objects), "a a\nb b\n");
        assert_eq!(shown("{{json .State}}", &objects), "{\"Z\":1,\"A\":2}\n{}\n");
        assert_eq!(shown("{{.Id}}", &[]), "\n");
        let format = Format::parse("{{.Nope}}", Purpose::Data).expect("good");
        assert_eq!(
            rendered(&format, "{{.Nope}}", b"{}").expect_err("no such key"),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
        );
    }

    #[test]
    fn unknown_types_are_refused() {
        assert_eq!(parse_kind("image").expect("known"), Kind::Image);
        assert!(
            parse_kind("foo")
                .expect_err("unknown")
                .text
                .starts_with("unknown type: \"foo\": must be one of \"config\", ")
        );
    }
}
