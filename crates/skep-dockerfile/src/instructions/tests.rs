use std::collections::BTreeMap;

use super::*;
use crate::source::{Escape, Lines};
use crate::{TriggerError, parse, parse_trigger};

fn one(text: &str) -> Instruction {
    let file = parse(format!("FROM scratch\n{text}\n").as_bytes()).expect(text);
    file.stages[0].steps[0].instruction.clone()
}

fn variables() -> BTreeMap<String, String> {
    [("A", "x y"), ("P", "/p")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn expanded(text: &str) -> Instruction {
    let (mut instruction, variables) = (one(text), variables());
    instruction.expand(&mut Expander::new(Escape::Backslash, &variables)).expect(text);
    instruction
}

#[test]
fn files_with_all_flags() {
    let Instruction::Copy(copy) = expanded(
        "COPY --from=b --chown=$A --chmod=u=rw --link --parents --exclude=*.o --exclude=$A <<a <<'b' $P/*.c \"$A\" /d\n$P\na\n$P\nb",
    ) else {
        panic!("COPY")
    };
    let document =
        |name: &str, content: &str, expands| Document { name: name.to_owned(), content: content.to_owned(), expands };
    assert_eq!(copy.transfer.documents, [document("a", "/p\n", true), document("b", "$P\n", false)]);
    assert_eq!(copy.transfer.sources, ["/p/*.c", "x y"]);
    assert_eq!((copy.transfer.chown.as_deref(), copy.transfer.chmod.as_deref()), (Some("x y"), Some("u=rw")));
    assert_eq!(copy.transfer.exclude, ["*.o", "$A"], "exclusions are not expanded");
    assert_eq!((copy.from.as_deref(), copy.parents, copy.transfer.link), (Some("b"), true, true));
    let Instruction::Add(add) = expanded("ADD --keep-git-dir=false --checksum=sha256:$A --unpack [\"a b\", \"$P\"]")
    else {
        panic!("ADD")
    };
    assert_eq!((add.keep_git_dir, add.unpack, add.checksum.as_deref()), (Some(false), Some(true), Some("sha256:x y")));
    assert_eq!(
        (add.transfer.sources.as_slice(), add.transfer.destination.as_str()),
        (&["a".to_owned() + " b"][..], "/p")
    );
}

#[test]
fn words_of_others() {
    assert_eq!(
        expanded("EXPOSE 90 80 $A"),
        Instruction::Expose(Expose { ports: ["x", "y", "80", "90"].map(Into::into).into() })
    );
    assert_eq!(expanded("VOLUME $A \"$P\""), Instruction::Volume(Volume { paths: vec!["x y".into(), "/p".into()] }));
    assert_eq!(expanded("USER $A"), Instruction::User(User { user: "x y".into() }));
    assert_eq!(expanded("WORKDIR '$A'/$P"), Instruction::Workdir(Workdir { path: "$A//p".into() }));
    let pair = |name: &str, value: &str, is_legacy| Pair { name: name.into(), value: value.into(), is_legacy };
    let pairs = vec![pair("x y", "1", false), pair("B", "$P", false)];
    assert_eq!(expanded("ENV $A=1 B='$P'"), Instruction::Env(Env { pairs }));
    assert_eq!(expanded("LABEL a  $A b "), Instruction::Label(Label { pairs: vec![pair("a", "x y b", true)] }));
    assert_eq!(expanded("CMD $A"), Instruction::Cmd(Cmd { command: CommandLine::Shell("$A".into()) }));
}

#[test]
fn mounts() {
    let Instruction::Run(run) =
        one("RUN --mount=target=t,source=s,rw --mount=type=cache,id=$A,dst=$P,sharing=locked,mode=0755,uid=1,gid=2 \
         --mount=type=secret,id=k,env=K,required --mount=type=ssh --mount=type=tmpfs,target=/t,size=1m --network=host \
         --security=insecure --device=a.b/c=d,required make")
    else {
        panic!("RUN")
    };
    let variables = variables();
    let mounts = run.mounts(&mut Expander::new(Escape::Backslash, &variables)).expect("mounts");
    let bind = Mount { target: "t".into(), source: "s".into(), ..Mount::default() };
    let cache = Mount {
        kind: MountKind::Cache,
        id: Some("x y".into()),
        target: "/p".into(),
        sharing: Some(Sharing::Locked),
        mode: Some(0o755),
        uid: Some(1),
        gid: Some(2),
        ..Mount::default()
    };
    let id = Some("k".to_owned());
    let secret = Mount {
        kind: MountKind::Secret,
        id,
        env: Some("K".into()),
        required: true,
        read_only: true,
        ..Mount::default()
    };
    let ssh = Mount { kind: MountKind::Ssh, read_only: true, ..Mount::default() };
    let tmpfs = Mount { kind: MountKind::Tmpfs, target: "/t".into(), size: Some(1 << 20), ..Mount::default() };
    assert_eq!(mounts, [bind, cache, secret, ssh, tmpfs]);
    assert_eq!(mounts[0].path("/w").as_deref(), Ok("/w/t"));
    assert!(mounts[3].path("").is_err());
    assert_eq!((run.network, run.security), (Network::Host, Security::Insecure));
    assert_eq!(run.devices, [Device { name: "a.b/c=d".into(), required: true }]);
}

#[test]
fn scripts() {
    let script = |text: &str| match one(text) {
        Instruction::Run(run) => match run.script() {
            Script::Exec(words) => format!("exec {}", words.join("|")),
            Script::Shell(text) => format!("shell {text}"),
            Script::File { name, content } => format!("file {name} {content}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(script("RUN [\"a\", \"b\"]"), "exec a|b");
    assert_eq!(script("RUN a  $b"), "shell a  $b");
    assert_eq!(script("RUN <<E\na\nE"), "shell a\n");
    assert_eq!(script("RUN <<-E\n\ta\nE"), "shell a\n");
    assert_eq!(script("RUN <<E\n#!/bin/x\na\nE"), "file E #!/bin/x\na\n");
    assert_eq!(script("RUN cat <<E > f && <<F g\na\nE\nb\nF"), "shell cat <<E > f && <<F g\na\nE\nb\nF");
}

#[test]
fn health() {
    let Instruction::Healthcheck(check) = one("HEALTHCHECK --interval=1m30s --retries=3 --timeout=0 cmd a b") else {
        panic!("HEALTHCHECK")
    };
    assert_eq!((check.interval.as_secs(), check.retries, check.timeout.is_zero()), (90, 3, true));
    assert_eq!(check.probe, Probe::Command(CommandLine::Shell("a b".into())));
    assert!(matches!(one("HEALTHCHECK none"), Instruction::Healthcheck(Healthcheck { probe: Probe::None, .. })));
}

#[test]
fn triggers() {
    let trigger = |text: &str| match one(text) {
        Instruction::Onbuild(onbuild) => onbuild.trigger,
        other => panic!("{other:?}"),
    };
    assert_eq!(trigger("onbuild   RUN a \\\n b"), "RUN a  b");
    let copy = trigger("ONBUILD COPY <<E /x\n$a\nE");
    assert_eq!(copy, "COPY <<E /x\n$a\nE");
    let step = parse_trigger(&copy, Lines::one(7)).expect("a trigger");
    assert_eq!((step.instruction.name(), step.source.lines), ("COPY", Lines::one(7)));
    assert_eq!(parse_trigger("RUN a\nRUN b", Lines::one(1)), Err(TriggerError::NotSingle));
    assert_eq!(parse_trigger("FROM a", Lines::one(1)), Err(TriggerError::From));
}

#[test]
fn from_and_arg() {
    let file = parse(b"# v the version\nARG v=1 w\nFROM --platform=$P a:$v As Build\n").expect("a file");
    let [v, w] = file.global_arguments[0].0.arguments.as_slice() else { panic!("two") };
    assert_eq!((v.description.as_deref(), w.default.as_deref()), (Some("the version"), None));
    let mut from = file.stages[0].from.clone();
    assert_eq!((from.name.as_deref(), from.written), (Some("build"), Some(("Build".to_owned(), "As".to_owned()))));
    from.written = None;
    let values = BTreeMap::from([("v".to_owned(), "2".to_owned()), ("P".to_owned(), "linux/arm64".to_owned())]);
    from.expand(&mut Expander::new(Escape::Backslash, &values)).expect("expanded");
    assert_eq!((from.image.as_str(), from.platform.as_deref()), ("a:2", Some("linux/arm64")));
}
