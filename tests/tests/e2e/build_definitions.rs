//! Steps that a client wrote down itself (LLB): sent by hand, and by `docker buildx bake`, which reads definitions from elsewhere so.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use prost::Message;
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::proto::moby::buildkit::v1::frontend as gateway;
use skep_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use skep_buildkit::proto::pb;
use skep_buildkit::proto::pb::file_action::Action;
use skep_buildkit::proto::pb::op::Op;
use skep_testkit::{Command, Engine, EngineKind, sha256};

use super::build_clients::Docker;
use super::project::{Project, cat, inspect, repository};
use super::serve::Server;
use super::upkeep::own_words;
use super::{engine, peers};

/// The address of busybox as a source.
const BUSYBOX: &str = "docker-image://docker.io/library/busybox:latest";

/// A definition, operation by operation.
#[derive(Default)]
struct Definition(pb::Definition);

impl Definition {
    fn add(&mut self, op: Option<Op>, inputs: &[&pb::Input]) -> pb::Input {
        let platform = pb::Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Default::default() };
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        let op = pb::Op { op, inputs, platform: Some(platform), ..pb::Op::default() };
        let bytes = op.encode_to_vec();
        let digest = sha256(&bytes);
        self.0.def.push(bytes);
        pb::Input { digest, index: 0 }
    }

    fn source(&mut self, identifier: &str, attributes: &[(&str, &str)]) -> pb::Input {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.add(Some(Op::Source(pb::SourceOp { identifier: identifier.to_owned(), attrs })), &[])
    }

    /// One action on the first input; a copy takes from the second.
    fn file(&mut self, inputs: &[&pb::Input], actions: Vec<Action>) -> pb::Input {
        let (count, last) = (i64::try_from(inputs.len()).unwrap(), actions.len() - 1);
        let one = |(number, action): (usize, Action)| pb::FileAction {
            input: if number == 0 { 0.min(count - 1) } else { count + i64::try_from(number).unwrap() - 1 },
            secondary_input: if matches!(action, Action::Copy(_)) { 1 } else { -1 },
            output: if number == last { 0 } else { -1 },
            action: Some(action),
        };
        let actions = actions.into_iter().enumerate().map(one).collect();
        self.add(Some(Op::File(pb::FileOp { actions })), inputs)
    }

    /// A shell script on the first input, with the others mounted at `/in/1` and so on.
    fn run(&mut self, inputs: &[&pb::Input], script: &str) -> pb::Input {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let meta = pb::Meta { args, env: vec!["PATH=/bin".to_owned()], cwd: "/".to_owned(), ..pb::Meta::default() };
        let mount = |number: usize| pb::Mount {
            input: i64::try_from(number).unwrap(),
            dest: if number == 0 { "/".to_owned() } else { format!("/in/{number}") },
            output: if number == 0 { 0 } else { -1 },
            readonly: number > 0,
            ..pb::Mount::default()
        };
        let mounts = (0..inputs.len()).map(mount).collect();
        let network = pb::NetMode::None.into();
        let exec = pb::ExecOp { meta: Some(meta), mounts, network, ..pb::ExecOp::default() };
        self.add(Some(Op::Exec(exec)), inputs)
    }

    fn end(mut self, result: &pb::Input) -> pb::Definition {
        self.add(None, &[result]);
        self.0
    }
}

fn make_dir(path: &str) -> Action {
    let path = path.to_owned();
    Action::Mkdir(pb::FileActionMkDir { path, mode: 0o755, make_parents: true, timestamp: -1, ..Default::default() })
}

fn make_file(path: &str, text: &str) -> Action {
    let (path, data) = (path.to_owned(), text.as_bytes().to_vec());
    Action::Mkfile(pb::FileActionMkFile { path, mode: 0o640, data, timestamp: -1, ..Default::default() })
}

fn copy(src: &str, dest: &str, contents: bool) -> Action {
    Action::Copy(pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        dir_copy_contents: contents,
        create_dest_path: true,
        ..pb::FileActionCopy::default()
    })
}

fn remove(path: &str, missing: bool) -> Action {
    let (path, allow_not_found) = (path.to_owned(), missing);
    Action::Rm(pb::FileActionRm { path, allow_not_found, allow_wildcard: true })
}

/// Does something with the engine's builder.
fn with_builder<T, F: Future<Output = T>>(engine: &Engine, work: impl FnOnce(Channel) -> F) -> T {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.write_all(b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (channel, driver) = Channel::connect(tokio::net::UnixStream::from_std(stream).unwrap()).await.unwrap();
        let driving = tokio::spawn(driver);
        let done = work(channel).await;
        driving.abort();
        done
    })
}

/// Solves a definition, and stores the result as an image of that name.
fn solve(engine: &Engine, definition: pb::Definition, name: &str) -> Result<(), String> {
    with_builder(engine, |channel| async {
        let mut control = ControlClient::with_origin(channel, Channel::origin());
        let attrs = HashMap::from([("name".to_owned(), name.to_owned())]);
        let request = wire::SolveRequest {
            r#ref: format!("by-hand-{name}"),
            definition: Some(definition),
            exporters: vec![wire::Exporter { r#type: "moby".to_owned(), attrs }],
            ..wire::SolveRequest::default()
        };
        control.solve(request).await.map(drop).map_err(|status| status.message().to_owned())
    })
}

/// What the engine knows of sources that it has not fetched.
fn look_up(
    engine: &Engine,
    sources: Vec<gateway::ResolveSourceMetaRequest>,
) -> Vec<Result<gateway::ResolveSourceMetaResponse, String>> {
    with_builder(engine, |channel| async {
        let mut control = ControlClient::with_origin(channel.clone(), Channel::origin());
        let mut bridge = LlbBridgeClient::with_origin(channel, Channel::origin());
        let request = wire::SolveRequest { r#ref: "lookup".to_owned(), ..wire::SolveRequest::default() };
        let solving = tokio::spawn(async move { control.solve(request).await.map(drop) });
        let mut found = Vec::new();
        for source in sources {
            let mut request = tonic::Request::new(source);
            request.metadata_mut().insert("buildkit-controlapi-buildid", "lookup".parse().unwrap());
            let answer = bridge.resolve_source_meta(request).await;
            found.push(answer.map(|answer| answer.into_inner()).map_err(|status| status.message().to_owned()));
        }
        let mut end = tonic::Request::new(gateway::ReturnRequest::default());
        end.metadata_mut().insert("buildkit-controlapi-buildid", "lookup".parse().unwrap());
        bridge.r#return(end).await.unwrap();
        solving.await.unwrap().unwrap();
        found
    })
}

#[test]
fn sources_are_looked_up_without_being_built_from() {
    if !own_words("sources_are_looked_up_without_being_built_from") {
        return; // BuildKit has it since 0.26
    }
    let engine = engine();
    let project = Project::empty(&engine, "project").file("file", "text\n");
    let name = repository(&project);
    let git = |words: &[&str]| {
        let words = [&["-c", "user.name=test", "-c", "user.email=test@localhost"], words].concat();
        let folder = engine.scratch().join(&name);
        Command::new("git", words).current_dir(&folder).env("HOME", &folder).run().success().word()
    };
    let commit = git(&["rev-parse", "HEAD"]);
    git(&["tag", "-a", "-m", "one", "v1"]);
    let tag = git(&["rev-parse", "refs/tags/v1"]);
    let server = Server::start(engine.scratch());
    let address = server.address();
    let url = format!("http://{address}/{name}");
    let source = |identifier: String, attributes: &[(&str, &str)]| gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp {
            identifier,
            attrs: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }),
        git: Some(gateway::ResolveSourceGitRequest { return_object: true }),
        http: Some(gateway::ResolveSourceHttpRequest {
            checksum_request: Some(gateway::ChecksumRequest { algo: 0, suffix: b"!".to_vec() }),
        }),
        ..gateway::ResolveSourceMetaRequest::default()
    };
    let of_git = |reference: &str| source(format!("git://{address}/{name}{reference}"), &[("git.fullurl", &url)]);
    let found = look_up(
        &engine,
        vec![
            of_git(""),
            of_git("#v1"),
            of_git("#none"),
            source(format!("http://{address}/project/file"), &[]),
            source(format!("http://{address}/project/none"), &[]),
            source(BUSYBOX.to_owned(), &[]),
            source("local://x".to_owned(), &[]),
        ],
    );
    let head = found[0].as_ref().unwrap().git.clone().unwrap();
    assert_eq!((head.checksum.as_str(), head.r#ref.as_str()), (commit.as_str(), "refs/heads/main"));
    assert!(head.commit_checksum.is_empty() && head.commit_object.starts_with(b"tree "));
    let tagged = found[1].as_ref().unwrap().git.clone().unwrap();
    assert_eq!((&tagged.checksum, &tagged.commit_checksum), (&tag, &commit));
    assert!(tagged.r#ref == "refs/tags/v1" && tagged.tag_object.starts_with(b"object "));
    assert!(found[2].as_ref().unwrap_err().contains("repository does not contain ref none"));
    let file = found[3].as_ref().unwrap().http.clone().unwrap();
    assert_eq!((file.filename.as_str(), file.checksum), ("file", sha256(b"text\n")));
    assert_eq!(file.checksum_response.unwrap().digest, sha256(b"text\n!"));
    assert!(found[4].as_ref().unwrap_err().contains("404"));
    assert!(!found[5].as_ref().unwrap().image.clone().unwrap().config.is_empty());
    assert!(found[6].as_ref().unwrap_err().contains("not looked up"));
}

#[test]
fn files_are_made_copied_and_removed() {
    let engine = engine();
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let made = definition.file(
        &[&base],
        vec![make_dir("/tree/deep"), make_file("/tree/deep/file", "text\n"), make_file("/tree/gone", "")],
    );
    let link = pb::FileActionSymlink {
        oldpath: "deep/file".to_owned(),
        newpath: "/tree/link".to_owned(),
        timestamp: -1,
        ..pb::FileActionSymlink::default()
    };
    let made = definition.file(&[&made], vec![Action::Symlink(link), remove("/tree/g*", false), remove("/none", true)]);
    let copies = vec![
        make_dir("/whole"),
        copy("/tree", "/whole", false),
        copy("/tree", "/contents", true),
        copy("/tree/link", "/itself", true),
        make_file("/whole/tree/deep/file", "changed\n"),
    ];
    let end = definition.file(&[&base, &made], copies);
    solve(&engine, definition.end(&end), "files").unwrap();
    assert_eq!(cat(&engine, "files", "/whole/tree/deep/file"), "changed\n");
    assert_eq!(cat(&engine, "files", "/contents/deep/file"), "text\n");
    let list =
        "ls -R /contents /whole && stat -c '%a %u' /contents/deep/file && readlink /contents/link && readlink /itself";
    let shown = engine.run(["run", "--rm", "--network=none", "files", "sh", "-c", list]).success().stdout;
    assert!(!shown.contains("gone") && shown.ends_with("640 0\ndeep/file\ndeep/file\n"), "{shown}");
    let config = inspect(&engine, "files");
    assert_eq!(config["Config"]["WorkingDir"], "/", "{config}");
}

#[test]
fn programs_run_and_their_layers_are_combined() {
    let engine = engine();
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let tree = definition.file(&[&base], vec![make_file("/name", "me\n")]);
    let one = definition.run(&[&base, &tree], "cat /in/1/name > /one");
    let two = definition.run(&[&base], "echo two > /two && rm /bin/true");
    let diff = |definition: &mut Definition, upper: &pb::Input| {
        let (lower, above) = (pb::LowerDiffInput { input: 0 }, pb::UpperDiffInput { input: 1 });
        let diff = pb::DiffOp { lower: Some(lower), upper: Some(above) };
        definition.add(Some(Op::Diff(diff)), &[&base, upper])
    };
    let (first, second) = (diff(&mut definition, &one), diff(&mut definition, &two));
    let inputs = [0, 1, 2].map(|input| pb::MergeInput { input }).to_vec();
    let end = definition.add(Some(Op::Merge(pb::MergeOp { inputs })), &[&base, &first, &second]);
    solve(&engine, definition.end(&end), "merged").unwrap();
    assert_eq!(cat(&engine, "merged", "/one") + &cat(&engine, "merged", "/two"), "me\ntwo\n");
    engine.run(["run", "--rm", "--network=none", "merged", "ls", "/bin/true"]).code_is(1);
    let layers = inspect(&engine, "merged")["RootFS"]["Layers"].as_array().unwrap().len();
    let below = inspect(&engine, "busybox")["RootFS"]["Layers"].as_array().unwrap().len();
    if engine.kind() == EngineKind::Skep {
        assert_eq!(layers, below + 2, "no layer is copied or lost");
    }
}

#[test]
fn sources_of_servers() {
    let engine = engine();
    let project = Project::empty(&engine, "project").file("file", "of a repository\n").file("sub/inner", "inner\n");
    let name = repository(&project);
    let server = Server::start(engine.scratch());
    let address = server.address();
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let url = format!("http://{address}/{name}");
    let git = definition.source(&format!("git://{address}/{name}#main:sub"), &[("git.fullurl", &url)]);
    let http = definition.source(&format!("http://{address}/project/file"), &[("http.filename", "renamed")]);
    let with = definition.file(&[&base, &git], vec![copy("/", "/git", true)]);
    let end = definition.file(&[&with, &http], vec![copy("/renamed", "/http", true)]);
    solve(&engine, definition.end(&end), "sources").unwrap();
    assert_eq!(cat(&engine, "sources", "/git/inner") + &cat(&engine, "sources", "/http"), "inner\nof a repository\n");
}

#[test]
fn failures_of_definitions_are_told() {
    let engine = engine();
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let end = definition.run(&[&base], "exit 7");
    let error = solve(&engine, definition.end(&end), "fails").unwrap_err();
    assert!(error.contains("did not complete successfully: exit code: 7"), "{error}");
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let end = definition.file(&[&base], vec![remove("/none", false)]);
    let error = solve(&engine, definition.end(&end), "missing").unwrap_err();
    assert!(error.contains("no such file or directory"), "{error}");
    let mut definition = Definition::default();
    let end = definition.source("local://x", &[]);
    let error = solve(&engine, definition.end(&end), "local").unwrap_err();
    assert!(!error.is_empty());
}

#[test]
fn what_skep_does_not_do_is_refused_by_name() {
    if !own_words("what_skep_does_not_do_is_refused_by_name") {
        return;
    }
    let engine = engine();
    let mut definition = Definition::default();
    let base = definition.source(BUSYBOX, &[]);
    let end = definition.add(Some(Op::Build(pb::BuildOp::default())), &[&base]);
    let error = solve(&engine, definition.end(&end), "build").unwrap_err();
    assert_eq!(error, "failed to load LLB: a build op is not supported by skep");
}

const BAKE: &str = "target \"default\" {\n  tags = [\"whole\"]\n}\ntarget \"part\" {\n  context = \"sub\"\n  \
    tags = [\"part\"]\n}\n";

#[test]
fn bake_of_a_repository() {
    let engine = engine();
    let Some(docker) = Docker::new(&engine, peers::fetched("docker")) else {
        return println!("SKIPPED bake of a repository: `cargo xtask peers` has not fetched the client");
    };
    let project = Project::new(&engine, "bake", "FROM busybox\nCOPY file /\n")
        .file("file", "whole\n")
        .file("docker-bake.hcl", BAKE)
        .file("sub/Dockerfile", "FROM busybox\nCOPY file /\n")
        .file("sub/file", "part\n");
    let name = repository(&project);
    let server = Server::start(engine.scratch());
    let url = format!("http://{}/{name}", server.address());
    let elsewhere = Path::new("/");
    docker.run(elsewhere, &["buildx", "bake", &url]).success();
    docker.run(elsewhere, &["buildx", "bake", &url, "part"]).success();
    assert_eq!(cat(&engine, "whole", "/file") + &cat(&engine, "part", "/file"), "whole\npart\n");
    let missing = docker.run(elsewhere, &["buildx", "bake", &url, "-f", "none.hcl"]);
    assert!(missing.code != 0 && missing.stderr.contains("no such file"), "{missing}");
}

#[test]
fn bake_and_build_of_files_of_a_server() {
    let engine = engine();
    let Some(docker) = Docker::new(&engine, peers::fetched("docker")) else {
        return println!("SKIPPED bake of a server's files: `cargo xtask peers` has not fetched the client");
    };
    let project = Project::empty(&engine, "served")
        .file("bake.hcl", BAKE)
        .file("Dockerfile.far", "FROM busybox\nCOPY file /near\n");
    let server = Server::start(project.path().to_owned());
    let url = |name: &str| format!("http://{}/{name}", server.address());
    let shown = docker.run(Path::new("/"), &["buildx", "bake", &url("bake.hcl"), "--print", "part"]).success().json();
    assert_eq!(shown["target"]["part"]["tags"][0], "part");
    let near = Project::empty(&engine, "near").file("file", "near\n");
    docker.run(near.path(), &["buildx", "build", "-t", "far", "-f", &url("Dockerfile.far"), "."]).success();
    assert_eq!(cat(&engine, "far", "/near"), "near\n");
}
