//! Writes the corpus of hostile inputs as seeds: `seeds DIRECTORY`, one directory below it for each target.

use std::path::Path;

// For the counters that all instrumented code refers to.
use libfuzzer_sys as _;

fn main() {
    let target = std::env::args().nth(1).expect("usage: seeds DIRECTORY");
    let write = |name: &str, number: usize, bytes: &[u8]| {
        let dir = Path::new(&target).join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        // Long ones only slow the fuzzer down.
        if bytes.len() < 64 * 1024 {
            std::fs::write(dir.join(format!("seed-{number}")), bytes).expect("a seed");
        }
    };
    let outside = Path::new("/nonexistent/outside");
    for (number, layer) in skep_evil::layers::all(outside).into_iter().enumerate() {
        write("tar_apply", number, &layer.bytes);
        write("tar_diff", number, &layer.bytes);
    }
    for (number, archive) in skep_evil::archives::all(outside).into_iter().enumerate() {
        write("load", number, &archive.bytes);
    }
    for (number, document) in skep_evil::documents::manifests().into_iter().enumerate() {
        write("manifest", number, &document.bytes);
    }
    for (number, document) in skep_evil::documents::configs(&skep_evil::digest(b"")).into_iter().enumerate() {
        write("config", number, &document.bytes);
    }
    let digest = skep_evil::digest(b"");
    for (number, text) in ["busybox", "a.b:5/c/d:t", &format!("x@{digest}"), "[::1]:1/a", &digest].iter().enumerate() {
        write("reference", number, text.as_bytes());
    }
    for (number, text) in [r#"Bearer realm="a",service="b\"c""#, "Basic realm=x, Bearer a=b"].iter().enumerate() {
        write("challenge", number, text.as_bytes());
    }
    for (number, text) in
        ["ENV a=b c=\"d e\"\nCMD [\"sh\"]", "LABEL x=y", "EXPOSE 80/tcp", "VOLUME /a"].iter().enumerate()
    {
        write("change", number, text.as_bytes());
    }
    for (number, message) in [
        &b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03web\x05front\0\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\0"[..],
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x02",
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01",
    ]
    .iter()
    .enumerate()
    {
        write("dns", number, message);
    }
    let hosts = "server = \"https://a.b\"\n[host.\"http://c:5\"]\ncapabilities = [\"pull\"]\nca = \"ca.pem\"\n\
                 client = [[\"c\", \"k\"], \"b\"]\ndial_timeout = \"1.5s\"\noverride_path = true\n[host.\"http://c:5\".header]\nx = [\"a\"]";
    write("hosts", 0, hosts.as_bytes());
    let kept = r#"{"auths":{"https://a.b/v1/":{"auth":"dTpw"},"https://index.docker.io/v1/":{"username":"u","identitytoken":"t"}}}"#;
    for (number, text) in
        ["eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ==", r#"{"username":"u","password":"p","auth":""}"#, kept]
            .iter()
            .enumerate()
    {
        write("credentials", number, text.as_bytes());
    }
    for (number, text) in [
        "# escape=`\n# check=experimental=all\nARG v=1\nFROM --platform=$TARGETPLATFORM a:$v AS b\nRUN <<EOF cat `\n x\n\ny\nEOF\n",
        "FROM scratch\nRUN --mount=type=cache,id=a,target=/x,uid=1 [\"a\", \"b\"]\nCOPY --chown=1 <<-'A' b /c\n\td\nA\nEXPOSE 1-2/udp 3:4\n",
        "FROM scratch\nENV a=${b:-\"c\"} d=${a//x/y}${a##*/}\nHEALTHCHECK --interval=1s CMD x\nONBUILD ADD https://a/b /\nVOLUME [\"x\"]\n",
    ]
    .iter()
    .enumerate()
    {
        write("dockerfile", number, text.as_bytes());
    }
    for (number, text) in ["a\n!a/b\n**/c*\0a/b/c", "# x\n/[a-b^]\\?/**\n\0b"].iter().enumerate() {
        write("dockerignore", number, text.as_bytes());
    }
    let policy =
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a.b":[{"type":"sigstoreSigned","keyPath":"/k"}]}}}"#;
    write("policy", 0, policy.as_bytes());
}
