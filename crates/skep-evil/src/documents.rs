//! Manifests and image configurations that are not what they should be.

use crate::{Fate, digest};

/// A document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Names the case in failures.
    pub name: &'static str,
    /// It.
    pub bytes: Vec<u8>,
    /// What becomes of it.
    pub fate: Fate,
}

fn case(name: &'static str, fate: Fate, bytes: impl Into<Vec<u8>>) -> Document {
    Document { name, bytes: bytes.into(), fate }
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Manifests; the type that they are served as is OCI's for a manifest.
pub fn manifests() -> Vec<Document> {
    use Fate::{Harmless, Refused};
    let sum = digest(b"");
    let config = format!(r#""config":{{"mediaType":"{CONFIG}","digest":"{sum}","size":2}}"#);
    let layer = |digest: &str, size: &str| format!(r#"{{"mediaType":"{LAYER}","digest":"{digest}","size":{size}}}"#);
    let one = layer(&sum, "9");
    let with = |more: &str, layers: &str| format!(r#"{{"schemaVersion":2,{more}{config},"layers":[{layers}]}}"#);
    let good = with("", &one);
    let sized = |size: &str| with("", &layer(&sum, size));
    let named = |digest: &str| with("", &layer(digest, "9"));
    vec![
        case("as it should be", Harmless, good.clone()),
        // CVE-2021-41190.
        case("a manifest that is an index, too", Refused, with(r#""manifests":[],"#, &one)),
        case("a manifest that is an index, in other letters", Refused, with(r#""Manifests":[],"#, &one)),
        case("layers in other letters beside the layers", Refused, with(r#""Layers":[],"#, &one)),
        case("layers with a letter that folds to theirs", Refused, with("\"layer\u{17f}\":[],", &one)),
        case("layers in letters that only look the same", Harmless, with("\"l\u{430}yers\":[],", &one)),
        case("layers twice", Refused, with(r#""layers":[],"#, &one)),
        case("an index of the oldest sort", Refused, with(r#""fsLayers":[],"#, &one)),
        case(
            "another type than it is served as",
            Refused,
            with(r#""mediaType":"application/vnd.oci.image.index.v1+json","#, &one),
        ),
        case("a digest that is a path (CVE-2024-3727)", Refused, named("sha256:../../../../../../etc/passwd")),
        case("a digest in upper case", Refused, named(&sum.to_uppercase().replace("SHA256", "sha256"))),
        case("a digest that is too short", Refused, named("sha256:e3b0")),
        case("a digest that is too long", Refused, named(&format!("{sum}00"))),
        case("a digest of nothing", Refused, named("")),
        case("a digest with a zero byte", Refused, named("sha256:\\u0000")),
        case("a digest of another sort", Refused, named(&format!("md5:{}", "0".repeat(32)))),
        case("a negative size", Refused, sized("-1")),
        case("a size beyond 2^64", Refused, sized("18446744073709551616")),
        case("a size beyond all numbers", Refused, sized("1e999")),
        case("a size with a point", Refused, sized("9.5")),
        case("a size that is a text", Refused, sized("\"9\"")),
        case("no size", Refused, good.replace(",\"size\":9", "")),
        case("nothing but null", Refused, r#"{"schemaVersion":null,"config":null,"layers":null}"#),
        case("a layer of null", Refused, with("", "null")),
        case("a layer of a list", Refused, with("", "[[]]")),
        case("too many layers", Refused, with("", &vec![one.as_str(); 5000].join(","))),
        case(
            "lists without end",
            Refused,
            with(&format!(r#""x":{}{},"#, "[".repeat(100_000), "]".repeat(100_000)), &one),
        ),
        case("objects without end", Refused, format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000))),
        case("a long number", Harmless, with(&format!(r#""x":{},"#, "9".repeat(300)), &one)),
        case("a long text", Harmless, with(&format!(r#""x":"{}","#, "9".repeat(1 << 20)), &one)),
        case("no JSON", Refused, "<html>"),
        case("half of it", Refused, good[..good.len() / 2].to_owned()),
        case("two of it", Refused, format!("{good}{good}")),
        case("nothing", Refused, ""),
        case("a list", Refused, "[]"),
        case("a byte order mark", Refused, format!("\u{feff}{good}")),
        case("no UTF-8", Refused, [br#"{"x":""#, &[0xff, 0xfe][..], br#""}"#].concat()),
        case("a chart", Harmless, good.replace(CONFIG, "application/vnd.cncf.helm.config.v1+json")),
        case("a layer of an unknown type", Refused, good.replace(LAYER, &format!("{LAYER}+encrypted"))),
        case("a size in two spellings", Refused, good.replacen("\"size\"", "\"Size\":1,\"size\"", 1)),
    ]
}

/// Configurations of an image with one layer, whose diff id is `diff_id`. Where the fate is harmless the image may come in, and then
/// runs or doesn't.
pub fn configs(diff_id: &str) -> Vec<Document> {
    use Fate::{Either, Harmless, Refused};
    let whole = |more: &str, config: &str, diff_ids: &str| {
        format!(
            r#"{{"architecture":"amd64","os":"linux",{more}"config":{config},"rootfs":{{"type":"layers","diff_ids":{diff_ids}}}}}"#
        )
    };
    let own = format!(r#"["{diff_id}"]"#);
    let with = |config: &str| whole("", config, &own);
    let beside = |more: &str| whole(more, "{}", &own);
    vec![
        case("as it should be", Harmless, with("{}")),
        case(
            "null everywhere",
            Harmless,
            with(
                r#"{"Env":null,"Cmd":null,"Entrypoint":null,"Labels":null,"Volumes":null,"ExposedPorts":null,"User":null,"WorkingDir":null,"OnBuild":null,"Healthcheck":null,"Shell":null,"StopSignal":null,"StopTimeout":null}"#,
            ),
        ),
        case("no configuration", Harmless, with("null")),
        case("environment without values", Harmless, with(r#"{"Env":["A","=b","","C=d=e","A=\u0001"]}"#)),
        case("environment with a zero", Either, with(r#"{"Env":["A=\u0000B=c"]}"#)),
        case("environment that is a map", Refused, with(r#"{"Env":{"A":"b"}}"#)),
        case("a command that is a text", Refused, with(r#"{"Cmd":"sh"}"#)),
        case("a command of numbers", Refused, with(r#"{"Entrypoint":[1,2]}"#)),
        case("an empty command", Harmless, with(r#"{"Cmd":[],"Entrypoint":[""]}"#)),
        case(
            "volumes that lead out",
            Harmless,
            with(r#"{"Volumes":{"..":{},"/../../etc":{},"":{},"/":{},"a/../../b":{},"/proc":{}}}"#),
        ),
        case("a directory of a process", Harmless, with(r#"{"WorkingDir":"/proc/self/fd/8"}"#)),
        case("a directory that leads out", Harmless, with(r#"{"WorkingDir":"../../../../etc"}"#)),
        case("a user that is none", Harmless, with(r#"{"User":"-1:4294967296"}"#)),
        case("a user of many letters", Harmless, with(&format!(r#"{{"User":"{}"}}"#, "u".repeat(100_000)))),
        case("a signal that is none", Harmless, with(r#"{"StopSignal":"SIGNONE"}"#)),
        case("a time to stop beyond all time", Either, with(r#"{"StopTimeout":9223372036854775807}"#)),
        case(
            "ports that are none",
            Harmless,
            with(r#"{"ExposedPorts":{"70000/tcp":{},"x":{},"80/udp/x":{},"-1":{}}}"#),
        ),
        case(
            "a health check of odd things",
            Either,
            with(r#"{"Healthcheck":{"Test":[""],"Interval":-1,"Retries":-5}}"#),
        ),
        // What other engines obey (CVE-2026-53488).
        case(
            "labels that other engines obey",
            Harmless,
            with(
                r#"{"Labels":{"io.containerd.log.uri":"binary:///bin/sh","nvidia.com/gpu":"all","io.kubernetes.cri.sandbox-id":"x","devices.nvidia.com":"x","io.podman.annotations.privileged":"TRUE","com.docker.compose.project":"x"}}"#,
            ),
        ),
        case(
            "settings of the host in the image",
            Harmless,
            with(r#"{"HostConfig":{"Privileged":true,"Binds":["/:/host"]},"Runtime":"/bin/sh","CgroupParent":"/"}"#),
        ),
        case("keys twice", Refused, with(r#"{"User":"0","User":"1"}"#)),
        case("more history than layers", Harmless, beside(r#""history":[{},{},{"empty_layer":true}],"#)),
        case("history of null", Either, beside(r#""history":[null],"#)),
        case("history that is a text", Refused, beside(r#""history":"x","#)),
        case("a time that is none", Refused, beside(r#""created":"yesterday","#)),
        case("a time of the year 10000", Either, beside(r#""created":"10000-01-01T00:00:00Z","#)),
        case("an operating system with a path", Either, beside("").replace("\"linux\"", "\"../../etc\"")),
        case("an architecture that is a number", Refused, beside("").replace("\"amd64\"", "64")),
        case("no layers", Refused, whole("", "{}", "[]")),
        case("layers of null", Refused, whole("", "{}", "null")),
        case("more layers than there are", Refused, whole("", "{}", &format!(r#"["{diff_id}","{diff_id}"]"#))),
        case("a layer of another digest", Refused, whole("", "{}", &format!(r#"["{}"]"#, digest(b"another")))),
        case("a layer whose digest is a path", Refused, whole("", "{}", r#"["sha256:../../../etc/passwd"]"#)),
        case(
            "ten thousand layers",
            Refused,
            whole("", "{}", &format!("[{}]", vec![format!("\"{diff_id}\""); 10_000].join(","))),
        ),
        case("layers of another sort", Refused, with("{}").replace("\"layers\"", "\"squashfs\"")),
        case("lists without end", Either, beside(&format!(r#""x":{}{},"#, "[".repeat(100_000), "]".repeat(100_000)))),
        case("no JSON", Refused, "<html>"),
        case("nothing", Refused, ""),
        case("a list", Refused, "[]"),
    ]
}
