//! `--output`: what is made of the result, and where it goes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::csv;

/// Where the bytes of a result go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// It stays with the engine, or goes to a registry.
    Engine,
    /// An archive, to a file.
    File(PathBuf),
    /// An archive, to standard output.
    Stdout,
    /// Files, to a directory.
    Directory(PathBuf),
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    /// BuildKit's name of the exporter.
    pub(super) kind: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) destination: Destination,
}

impl Output {
    /// An image that stays with the engine.
    pub(super) fn image() -> Self {
        Output { kind: "moby".to_owned(), attributes: BTreeMap::new(), destination: Destination::Engine }
    }

    /// An image that goes to its registry.
    pub(super) fn registry() -> Self {
        let attributes = [("push".to_owned(), "true".to_owned())].into();
        Output { kind: "moby".to_owned(), attributes, destination: Destination::Engine }
    }

    /// Reads `type=local,dest=out`, or just a path: a directory, or `-` for an archive of the files on standard output.
    pub(super) fn parse(text: &str, stdout_is_terminal: bool) -> Result<Self, String> {
        let fields = csv::fields(text)?;
        if let [field] = fields.as_slice()
            && field == text
            && !field.starts_with("type=")
        {
            let (kind, destination) = match field.as_str() {
                "-" => ("tar", Destination::Stdout),
                path => ("local", Destination::Directory(PathBuf::from(path))),
            };
            let output = Output { kind: kind.to_owned(), attributes: BTreeMap::new(), destination };
            return output.checked(stdout_is_terminal);
        }
        let mut attributes = BTreeMap::new();
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid value {field}"))?;
            attributes.insert(key.trim().to_lowercase(), value.to_owned());
        }
        let kind = attributes.remove("type").ok_or("type is required for output")?;
        let dest = attributes.remove("dest");
        Output::of(&kind, attributes, dest)?.checked(stdout_is_terminal)
    }

    fn of(kind: &str, mut attributes: BTreeMap<String, String>, dest: Option<String>) -> Result<Self, String> {
        let unpacked = attributes.get("tar").is_some_and(|value| value == "false");
        let (kind, destination) = match (kind, dest) {
            ("registry", None) => {
                attributes.entry("push".to_owned()).or_insert_with(|| "true".to_owned());
                ("moby", Destination::Engine)
            }
            ("image" | "docker" | "moby", None) => ("moby", Destination::Engine),
            ("image" | "registry" | "moby", Some(_)) => {
                return Err(format!("dest is not supported by {kind} exporter"));
            }
            ("local", Some(path)) => ("local", Destination::Directory(PathBuf::from(path))),
            ("local", None) => return Err("output directory is required for local exporter".to_owned()),
            ("oci" | "docker", Some(path)) if unpacked => (kind, Destination::Directory(PathBuf::from(path))),
            ("tar" | "oci", None) => (kind, Destination::Stdout),
            ("tar" | "oci" | "docker", Some(path)) if path == "-" => (kind, Destination::Stdout),
            ("tar" | "oci" | "docker", Some(path)) => (kind, Destination::File(PathBuf::from(path))),
            ("cacheonly", _) => ("cacheonly", Destination::Engine),
            (other, _) => {
                return Err(format!(
                    "unsupported output type {other:?}: it is one of local, tar, oci, docker, image, registry, cacheonly"
                ));
            }
        };
        Ok(Output { kind: kind.to_owned(), attributes, destination })
    }

    fn checked(self, stdout_is_terminal: bool) -> Result<Self, String> {
        if self.destination == Destination::Stdout && stdout_is_terminal {
            return Err(format!("dest file is required for {} exporter. refusing to write to console", self.kind));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Output, String> {
        Output::parse(text, false)
    }

    #[test]
    fn outputs_in_every_form() {
        let output = parse("out").expect("a directory");
        assert_eq!((output.kind.as_str(), output.destination), ("local", Destination::Directory("out".into())));
        let output = parse("-").expect("stdout");
        assert_eq!((output.kind.as_str(), output.destination), ("tar", Destination::Stdout));
        let output = parse("type=docker,dest=x.tar,compression=zstd").expect("a file");
        assert_eq!(output.destination, Destination::File("x.tar".into()));
        assert_eq!(output.attributes["compression"], "zstd");
        let output = parse("type=registry,name=localhost:5000/x").expect("a registry");
        assert_eq!((output.kind.as_str(), output.attributes["push"].as_str()), ("moby", "true"));
        assert_eq!(
            parse("type=oci,tar=false,dest=d").expect("a layout").destination,
            Destination::Directory("d".into())
        );
        assert_eq!(parse("type=image,\"name=a,b\"").expect("two names").attributes["name"], "a,b");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("dest=x,a=b"), Err("type is required for output".to_owned()));
        assert_eq!(parse("type=local"), Err("output directory is required for local exporter".to_owned()));
        assert!(parse("type=nope").expect_err("unknown").contains("\"nope\""));
        assert_eq!(
            Output::parse("type=tar", true),
            Err("dest file is required for tar exporter. refusing to write to console".to_owned())
        );
    }
}
