//! Definitions written by hand, and the graphs that they become.

use std::collections::BTreeMap;

use skep_build::graph::{FileAction, MountKind, Network, Owner, Run};
use skep_build::request::PullMode;

use super::*;
use crate::buildkit::result;

/// Operations, each named by the digest of the one before.
#[derive(Default)]
struct Writer(pb::Definition);

impl Writer {
    fn add(&mut self, op: Option<Wire>, inputs: &[&pb::Input]) -> pb::Input {
        let inputs = inputs.iter().map(|input| (*input).clone()).collect();
        let bytes = pb::Op { op, inputs, ..pb::Op::default() }.encode_to_vec();
        let digest = sha256(&bytes);
        self.0.def.push(bytes);
        pb::Input { digest, index: 0 }
    }

    fn source(&mut self, identifier: &str, attributes: &[(&str, &str)]) -> pb::Input {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.add(Some(Wire::Source(pb::SourceOp { identifier: identifier.to_owned(), attrs })), &[])
    }

    fn exec(&mut self, exec: pb::ExecOp, inputs: &[&pb::Input]) -> pb::Input {
        self.add(Some(Wire::Exec(exec)), inputs)
    }

    fn file(&mut self, actions: Vec<pb::FileAction>, inputs: &[&pb::Input]) -> pb::Input {
        self.add(Some(Wire::File(pb::FileOp { actions })), inputs)
    }

    fn read(mut self, end: &pb::Input, allow: &Allow) -> Result<Definition> {
        self.add(None, &[end]);
        read_with(&self.0, allow)
    }
}

fn read_with(definition: &pb::Definition, allow: &Allow) -> Result<Definition> {
    let given = |id: &str| (id == "known").then(|| Given { stack: None, diff_ids: Vec::new() });
    read(definition, &Surroundings { given: &given, allow, session: "s" })
}

fn action(input: i64, secondary_input: i64, output: i64, action: pb::file_action::Action) -> pb::FileAction {
    pb::FileAction { input, secondary_input, output, action: Some(action) }
}

fn make_dir(path: &str) -> pb::file_action::Action {
    let (path, mode) = (path.to_owned(), 0o700);
    pb::file_action::Action::Mkdir(pb::FileActionMkDir { path, mode, timestamp: -1, ..Default::default() })
}

fn copy(src: &str, dest: &str) -> pb::FileActionCopy {
    let (src, dest) = (src.to_owned(), dest.to_owned());
    pb::FileActionCopy { src, dest, mode: -1, timestamp: -1, ..pb::FileActionCopy::default() }
}

fn program(mounts: Vec<pb::Mount>) -> pb::ExecOp {
    let meta = pb::Meta { args: vec!["make".to_owned()], cwd: "/src".to_owned(), ..pb::Meta::default() };
    pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() }
}

fn mount(dest: &str, input: i64, output: i64) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), input, output, ..pb::Mount::default() }
}

fn run_of(definition: &Definition) -> &Run {
    match &definition.graph.steps[definition.target.0].op {
        Op::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn message(answer: Result<Definition>) -> String {
    answer.expect_err("refused").message
}

#[test]
fn sources_are_what_their_attributes_say() {
    let one = |identifier: &str, attributes: &[(&str, &str)]| {
        let mut writer = Writer::default();
        let end = writer.source(identifier, attributes);
        writer.read(&end, &Allow::default()).map(|definition| definition.graph.steps[0].op.clone())
    };
    let pulled = one("docker-image://docker.io/library/a:1", &[("image.resolvemode", "pull")]);
    assert!(matches!(pulled, Ok(Op::Image(image)) if image.pull == PullMode::Always));
    let git = one("git://h/x.git#v1:sub", &[("git.fullurl", "https://h/x.git"), ("git.keepgitdir", "true")]);
    let Ok(Op::Git(git)) = git else { panic!("{git:?}") };
    assert_eq!((git.remote.as_str(), git.keep_git_dir), ("https://h/x.git", true));
    assert_eq!((git.reference.as_deref(), git.subdir.as_deref()), (Some("v1"), Some("sub")));
    let http = one("http://h/f?x=1", &[("http.filename", "context")]);
    assert!(
        matches!(http, Ok(Op::Http(http)) if http.name.as_deref() == Some("context") && http.url == "http://h/f?x=1")
    );
    let local = one("local://src", &[("local.followpaths", "[\"a\"]"), ("local.session", "s")]);
    assert!(matches!(local, Ok(Op::Local(local)) if local.follow == ["a"] && local.name == "src"));
    assert!(matches!(one("skep-result://known", &[]), Ok(Op::Given(_))));
    for (identifier, attributes, text) in [
        ("local://src", &[("local.session", "other")][..], "the attribute local.session (other) of a source"),
        ("http://h/f", &[("http.header.authorization", "x")], "the attribute http.header.authorization (x)"),
        ("http://h/f", &[("http.filename", "../x")], "invalid http.filename"),
        ("docker-image+blob://a@sha256:0", &[], "a source docker-image+blob:// is not supported by skep"),
        ("oci-layout://a:1", &[], "has no digest"),
        ("skep-result://other", &[], "no such ref: other"),
        ("nothing", &[], "invalid source"),
    ] {
        let error = message_of(one(identifier, attributes));
        assert!(error.starts_with("failed to load LLB: ") && error.contains(text), "{identifier}: {error}");
    }
}

fn message_of(answer: Result<Op>) -> String {
    answer.expect_err("refused").message
}

#[test]
fn a_program_has_its_mounts() {
    let mut writer = Writer::default();
    let (image, local) = (writer.source("docker-image://a", &[]), writer.source("local://src", &[]));
    let mut bind = mount("/src", 1, 1);
    bind.selector = "/below".to_owned();
    let cache = pb::Mount {
        mount_type: pb::MountType::Cache.into(),
        cache_opt: Some(pb::CacheOpt { id: "c".to_owned(), ..pb::CacheOpt::default() }),
        ..mount("/cache", -1, -1)
    };
    let mut exec = program(vec![mount("/", 0, 0), bind, cache]);
    exec.secretenv = vec![pb::SecretEnv { id: "t".to_owned(), name: "TOKEN".to_owned(), optional: true }];
    let end = writer.exec(exec, &[&image, &local]);
    let definition = writer.read(&end, &Allow::default()).expect("a definition");
    let run = run_of(&definition);
    assert!(matches!(&definition.graph.steps[run.base.0].op, Op::Image(_)));
    assert!(matches!(&run.mounts[0].kind, MountKind::Bind { source, .. } if source == std::path::Path::new("/below")));
    assert!(matches!(&run.mounts[1].kind, MountKind::Cache { id, .. } if id == "c"));
    assert!(matches!(&run.mounts[2].kind, MountKind::Secret(secret) if secret.env.as_deref() == Some("TOKEN")));
    assert_eq!(definition.graph.steps[definition.target.0].name, "make");
}

#[test]
fn privileges_have_to_be_allowed() {
    let with = |exec: pb::ExecOp, allow: &Allow| {
        let mut writer = Writer::default();
        let end = writer.exec(exec, &[]);
        writer.read(&end, allow)
    };
    let all = Allow { network_host: true, insecure: true, ..Allow::default() };
    let mut host = program(vec![mount("/", -1, 0)]);
    host.network = pb::NetMode::Host.into();
    assert_eq!(message(with(host.clone(), &Allow::default())), "failed to load LLB: network.host is not allowed");
    assert_eq!(run_of(&with(host, &all).expect("allowed")).network, Network::Host);
    let mut insecure = program(vec![mount("/", -1, 0)]);
    insecure.security = pb::SecurityMode::Insecure.into();
    assert_eq!(
        message(with(insecure.clone(), &Allow::default())),
        "failed to load LLB: security.insecure is not allowed"
    );
    assert!(run_of(&with(insecure, &all).expect("allowed")).insecure);
}

#[test]
fn actions_that_follow_one_another_are_one_layer() {
    let mut writer = Writer::default();
    let local = writer.source("local://src", &[]);
    let actions = vec![
        action(-1, -1, -1, make_dir("/a")),
        action(1, 0, -1, pb::file_action::Action::Copy(copy("/x", "/a/"))),
        action(2, -1, 0, make_dir("/a/b")),
    ];
    let end = writer.file(actions, &[&local]);
    let definition = writer.read(&end, &Allow::default()).expect("a definition");
    let Op::Files(files) = &definition.graph.steps[definition.target.0].op else { panic!("no files") };
    assert_eq!(files.actions.len(), 3);
    let FileAction::Copy(copied) = &files.actions[1] else { panic!("no copy") };
    assert!(copied.rules.whole && copied.rules.links && !copied.rules.some);
    assert_eq!((copied.dest.as_str(), &copied.owner), ("/a/", &Owner::Keep));
    assert!(definition.graph.is_ordered());
}

#[test]
fn what_is_used_twice_is_a_layer_of_its_own() {
    let mut writer = Writer::default();
    let scratch = writer.source("docker-image://a", &[]);
    let actions = vec![
        action(0, -1, -1, make_dir("/a")),
        action(1, -1, -1, make_dir("/b")),
        action(1, 2, 0, pb::file_action::Action::Copy(copy("/b", "/c"))),
    ];
    let end = writer.file(actions, &[&scratch]);
    let definition = writer.read(&end, &Allow::default()).expect("a definition");
    let layers = definition.graph.steps.iter().filter(|step| matches!(step.op, Op::Files(_))).count();
    assert_eq!(layers, 3);
    assert!(definition.graph.is_ordered());
}

#[test]
fn results_are_put_together_and_taken_apart() {
    let mut writer = Writer::default();
    let (one, two) = (writer.source("docker-image://a", &[]), writer.source("local://src", &[]));
    let inputs = [0, 1].map(|input| pb::MergeInput { input }).to_vec();
    let merged = writer.add(Some(Wire::Merge(pb::MergeOp { inputs })), &[&one, &two]);
    let (lower, upper) = (pb::LowerDiffInput { input: 0 }, pb::UpperDiffInput { input: 1 });
    let diff = pb::DiffOp { lower: Some(lower), upper: Some(upper) };
    let end = writer.add(Some(Wire::Diff(diff)), &[&one, &merged]);
    let definition = writer.read(&end, &Allow::default()).expect("a definition");
    let steps = &definition.graph.steps;
    let Op::Diff { lower: Some(lower), upper } = &steps[definition.target.0].op else { panic!("no diff") };
    assert!(matches!(&steps[lower.0].op, Op::Image(_)));
    let Op::Merge(several) = &steps[upper.0].op else { panic!("no merge") };
    assert!(matches!(&steps[several[1].0].op, Op::Files(_)), "a directory becomes a layer");
    assert!(definition.graph.is_ordered());
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let refused = |op: Wire, inputs: usize, index: i64| {
        let mut writer = Writer::default();
        let image = writer.source("docker-image://a", &[]);
        let mut end = writer.add(Some(op), &vec![&image; inputs]);
        end.index = index;
        message(writer.read(&end, &Allow::default()))
    };
    let copying = |copy: pb::FileActionCopy| {
        let actions = vec![action(0, 0, 0, pb::file_action::Action::Copy(copy))];
        Wire::File(pb::FileOp { actions })
    };
    let mut codes = program(vec![mount("/", 0, 0)]);
    codes.meta.get_or_insert_default().valid_exit_codes = vec![0, 3];
    for (op, index, text) in [
        (Wire::Build(pb::BuildOp::default()), 0, "a build op is not supported by skep"),
        (Wire::Exec(program(vec![mount("/", 0, 0), mount("/out", -1, 1)])), 1, "in its mount at /out is not supported"),
        (Wire::Exec(program(vec![mount("/x", 0, 0)])), 0, "invalid exec op with no root mount"),
        (Wire::Exec(codes), 0, "another code than 0"),
        (Wire::Diff(pb::DiffOp::default()), 0, "a diff whose upper is nothing"),
        (
            copying(pb::FileActionCopy { include_patterns: vec!["a".to_owned()], ..copy("/", "/") }),
            0,
            "included patterns",
        ),
        (copying(pb::FileActionCopy { always_replace_existing_dest_paths: true, ..copy("/", "/") }), 0, "replaces"),
        (copying(copy("/*", "/")), 0, "wildcards in it"),
        (Wire::File(pb::FileOp { actions: vec![action(9, -1, 0, make_dir("/a"))] }), 0, "invalid input 9"),
    ] {
        let inputs = if matches!(op, Wire::Diff(_)) { 0 } else { 1 };
        let error = refused(op, inputs, index);
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn broken_definitions_are_refused() {
    let none = Allow::default();
    let definition = |def: Vec<Vec<u8>>| pb::Definition { def, ..pb::Definition::default() };
    assert!(message(read_with(&definition(vec![vec![0xff; 9]]), &none)).contains("failed to parse llb proto op"));
    let mut writer = Writer::default();
    writer.source("local://a", &[]);
    assert!(message(read_with(&writer.0, &none)).contains("invalid LLB with 1 vertexes"));
    writer.source("local://b", &[]);
    assert!(message(read_with(&writer.0, &none)).contains("no inputs on last vertex"));
    let nowhere = pb::Input { digest: sha256(b"nothing"), index: 0 };
    let mut writer = Writer::default();
    let end = writer.exec(program(vec![mount("/", 0, 0)]), &[&nowhere]);
    assert!(message(writer.read(&end, &none)).contains("invalid missing input digest"));
}

#[test]
fn a_deep_definition_is_read() {
    let mut writer = Writer::default();
    let mut end = writer.source("docker-image://a", &[]);
    for number in 0..20_000 {
        end = writer.file(vec![action(0, -1, 0, make_dir(&format!("/{number}")))], &[&end]);
    }
    assert_eq!(writer.read(&end, &Allow::default()).expect("a definition").graph.steps.len(), 20_001);
}

#[test]
fn steps_have_the_names_and_the_lines_of_their_clients() {
    let mut writer = Writer::default();
    let end = writer.source("local://src", &[]);
    let description = BTreeMap::from([("llb.customname".to_owned(), "own".to_owned())]);
    let meta = pb::OpMetadata { description, ignore_cache: true, ..pb::OpMetadata::default() };
    writer.0.metadata.insert(end.digest.clone(), meta);
    let at = |line| Some(pb::Position { line, character: 0 });
    let location = pb::Location { source_index: 0, ranges: vec![pb::Range { start: at(2), end: at(3) }] };
    let info = pb::SourceInfo { filename: "x.hcl".to_owned(), data: b"a\nb\nc\n".to_vec(), ..Default::default() };
    let locations = BTreeMap::from([(end.digest.clone(), pb::Locations { locations: vec![location] })]);
    writer.0.source = Some(pb::Source { locations, infos: vec![info] });
    let graph = writer.read(&end, &Allow::default()).expect("a definition").graph;
    let step = &graph.steps[0];
    assert_eq!((step.name.as_str(), step.ignore_cache, step.lines.clone()), ("own", true, Some(2..=3)));
    assert_eq!(graph.source.expect("a file").name, "x.hcl");
}

#[test]
fn only_what_was_handed_out_stands_for_a_ref() {
    let mut writer = Writer::default();
    let given = writer.source("skep-result://known", &[]);
    let end = writer.file(vec![action(0, -1, 0, make_dir("/a"))], &[&given]);
    writer.add(None, &[&end]);
    assert_eq!(result::of_definition(&writer.0), None, "it is made of a result, not one");
    assert_eq!(result::of_definition(&result::definition("known")).as_deref(), Some("known"));
}
