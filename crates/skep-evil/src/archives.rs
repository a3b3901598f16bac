//! Archives of images for `load`: what is around the layers.

use std::path::Path;

use serde_json::json;

use crate::tar::{Header, Tar, header, octal};
use crate::{Fate, digest, documents, layers};

/// An archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Names the case in failures.
    pub name: String,
    /// It.
    pub bytes: Vec<u8>,
    /// What becomes of it.
    pub fate: Fate,
}

/// An archive as `docker save` writes it, of one image with this configuration and these layers.
pub fn docker(config: &[u8], layers: &[Vec<u8>], tag: &str) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).to_string();
    let tar = names.iter().zip(layers).fold(Tar::new(), |tar, (name, layer)| tar.file(name, layer));
    tar.file("config.json", config).file("manifest.json", manifest.as_bytes()).end()
}

/// A configuration for layers that are not compressed.
pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

/// All of them, with all layers and configurations of the corpus in archives of their own.
pub fn all(outside: &Path) -> Vec<Archive> {
    let layer = Tar::new().file("f", b"1").end();
    let own = std::slice::from_ref(&layer);
    let mut cases: Vec<Archive> = documents::configs(&digest(&layer))
        .into_iter()
        .map(|config| Archive {
            name: format!("configuration: {}", config.name),
            bytes: docker(&config.bytes, own, "evil:1"),
            fate: config.fate,
        })
        .collect();
    for evil in layers::all(outside) {
        let stack: Vec<Vec<u8>> = evil.below.iter().cloned().chain([evil.bytes.clone()]).collect();
        // What is compressed has the digest of what it is not; those cases are the store's.
        if evil.bytes.starts_with(&[0x1f, 0x8b])
            || evil.bytes.starts_with(&[0x28, 0xb5])
            || evil.bytes.first() == Some(&0x50)
        {
            continue;
        }
        let bytes = docker(&config(&stack), &stack, "evil:1");
        cases.push(Archive { name: format!("layer: {}", evil.name), bytes, fate: evil.fate });
    }
    cases.extend(around(&layer, outside));
    cases
}

fn around(layer: &[u8], outside: &Path) -> Vec<Archive> {
    use Fate::{Harmless, Refused};
    let case = |name: &str, fate, tar: Tar| Archive { name: name.to_owned(), bytes: tar.end(), fate };
    let config = config(&[layer.to_vec()]);
    let item = |config: &str, tag: &str, layer: &str| json!([{"Config": config, "RepoTags": [tag], "Layers": [layer]}]);
    let whole = |manifest: serde_json::Value| {
        Tar::new().file("config.json", &config).file("l", layer).file("manifest.json", manifest.to_string().as_bytes())
    };
    let named = |config: &str, tag: &str, layer: &str| whole(item(config, tag, layer));
    let outside = outside.join("file").display().to_string();
    let up = format!("{}{}", "../".repeat(30), outside.trim_start_matches('/'));
    let good = || named("config.json", "evil:1", "l");
    let again: Vec<_> = (0..9000).map(|_| json!({"Config": "big", "RepoTags": [], "Layers": []})).collect();
    let big = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[]}},"comment":"{}"}}"#, "x".repeat(1 << 20));
    vec![
        case("as it should be", Harmless, good()),
        case("old names beside it", Harmless, good().file("repositories", br#"{"../../etc":{"latest":"../../x"}}"#)),
        case("a layer that is a link in the archive", Harmless, named("config.json", "evil:1", "k").symlink("k", "l")),
        case("a layer that is a link to the host", Refused, named("config.json", "evil:1", "k").symlink("k", &outside)),
        case(
            "a layer that is a hard link to the host",
            Refused,
            named("config.json", "evil:1", "k").hard_link("k", &outside),
        ),
        case("a layer that is a link upwards", Refused, named("config.json", "evil:1", "k").symlink("k", &up)),
        case("a layer that is a link to itself", Refused, named("config.json", "evil:1", "k").symlink("k", "k")),
        case("a layer of the host", Refused, named("config.json", "evil:1", &outside)),
        case("a layer above", Refused, named("config.json", "evil:1", &up)),
        case("a configuration of the host", Refused, named(&outside, "evil:1", "l")),
        case("a configuration above", Refused, named(&up, "evil:1", "l")),
        case(
            "a configuration that is a device",
            Refused,
            named("tty", "evil:1", "l").raw(&Header { device: (5, 0), ..header(b'3', "tty") }),
        ),
        case("a configuration that is a FIFO", Refused, named("f", "evil:1", "l").raw(&header(b'6', "f"))),
        case("a name that is a path", Refused, named("config.json", "../../etc/passwd:1", "l")),
        case("a name with a digest", Refused, named("config.json", &format!("evil@{}", digest(b"")), "l")),
        case("an entry above", Refused, good().file("../x", b"evil")),
        case("an entry of the host", Refused, good().pax([("path", &outside)]).file("x", b"evil")),
        case("a manifest of a text", Refused, Tar::new().file("manifest.json", b"\"x\"")),
        case("a manifest of null", Refused, Tar::new().file("manifest.json", b"null")),
        case("a manifest of nothing", Refused, Tar::new().file("manifest.json", b"[{}]")),
        case(
            "a manifest with lists without end",
            Refused,
            Tar::new().file("manifest.json", "[".repeat(100_000).as_bytes()),
        ),
        case(
            "one configuration again and again",
            Refused,
            Tar::new().file("big", big.as_bytes()).file("manifest.json", json!(again).to_string().as_bytes()),
        ),
        case(
            "a file with holes",
            Refused,
            good().pax([("GNU.sparse.size", "1000000000000"), ("GNU.sparse.map", "0,4")]).file("h", b"data"),
        ),
        case("records of 4 GiB", Refused, Tar::new().raw(&Header { size: octal(1 << 32, 12), ..header(b'x', "pax") })),
        case(
            "a size beyond the end",
            Refused,
            Tar::new().raw(&Header { size: octal(1 << 32, 12), ..header(b'0', "manifest.json") }),
        ),
        case(
            "a layout that says nothing",
            Refused,
            Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", b"{}"),
        ),
        case(
            "a layout of the future",
            Refused,
            Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"9"}"#).file("index.json", br#"{"manifests":[]}"#),
        ),
    ]
}
