//! Clients that ask for what they may not have, and for nonsense.

use skep_buildkit::proto::moby::buildkit::v1::frontend::exec_message::Input;
use skep_buildkit::proto::pb;
use tonic::codegen::tokio_stream;

use super::*;
use crate::buildkit::containers;

fn begun(kit: &Arc<BuildKit>, build: &str, entitlements: &[&str]) -> Arc<crate::buildkit::builds::Build> {
    let entitlements = entitlements.iter().map(|&one| one.to_owned()).collect();
    let request = wire::SolveRequest { r#ref: build.to_owned(), entitlements, ..wire::SolveRequest::default() };
    kit.builds.begin(request).expect("begun").0
}

#[test]
fn cve_2024_23653_a_container_has_no_more_privileges_than_its_build() {
    let (kit, _) = kit();
    let (plain, allowed) = (begun(&kit, "a", &[]), begun(&kit, "b", &["security.insecure", "network.host"]));
    let init = gateway::InitMessage {
        meta: Some(pb::Meta { args: vec!["id".to_owned()], ..pb::Meta::default() }),
        security: pb::SecurityMode::Insecure.into(),
        ..gateway::InitMessage::default()
    };
    let refused = containers::process(&plain, &init).expect_err("refused");
    assert_eq!(refused.message(), "security.insecure is not allowed");
    assert!(containers::process(&allowed, &init).expect("allowed").insecure);
    let root = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
    let request = gateway::NewContainerRequest {
        container_id: "c".to_owned(),
        network: pb::NetMode::Host.into(),
        mounts: vec![root],
        ..gateway::NewContainerRequest::default()
    };
    let refused = kit.new_container(&plain, request.clone()).expect_err("refused");
    assert_eq!(refused.message(), "network.host is not allowed");
    let reached = kit.new_container(&allowed, request).expect_err("the pretender has no machine");
    assert_eq!(reached.message(), "there is no machine");
}

#[test]
fn ids_are_good_in_their_own_build_only() {
    let (kit, _) = kit();
    let (one, other) = (begun(&kit, "a", &[]), begun(&kit, "b", &[]));
    let id = one.hand_out_failure(&kit.builds, Status::unknown("why"));
    assert_eq!(one.handed(&id).err().map(|status| status.message().to_owned()).as_deref(), Some("why"));
    assert!(one.has(&id) && !other.has(&id));
    let mount = pb::Mount { dest: "/".to_owned(), result_id: id.clone(), ..pb::Mount::default() };
    let request = gateway::NewContainerRequest { mounts: vec![mount], ..gateway::NewContainerRequest::default() };
    assert!(kit.new_container(&other, request).expect_err("unknown there").message().starts_with("no such ref"));
    let answer = Err(Status::cancelled("over"));
    kit.builds.end(&one, &answer);
    assert!(!one.has(&id) && kit.builds.failure(&id).is_none(), "nothing is kept of a build that is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_23650_nonsense_is_answered_and_nothing_else_happens() {
    let (kit, _) = kit();
    let client = Client::connect(&kit, "FROM x").await;
    let solving = client.begin("n", "moby");
    let mut bridge = client.bridge.clone();
    bridge.ping(Client::in_build(gateway::PingRequest {}, "n")).await.expect("a pong");
    let junk = pb::Definition { def: vec![vec![0xff; 40], vec![], vec![0x0a, 0x7f]], ..pb::Definition::default() };
    let solve = |definition: pb::Definition| gateway::SolveRequest {
        definition: Some(definition),
        ..gateway::SolveRequest::default()
    };
    let source = |identifier: &str| {
        let op = pb::op::Op::Source(pb::SourceOp { identifier: identifier.to_owned(), ..pb::SourceOp::default() });
        pb::Definition { def: vec![pb::Op { op: Some(op), ..pb::Op::default() }.encode_to_vec()], ..Default::default() }
    };
    for definition in [junk.clone(), source(""), source("skep-result://none"), source("git://h/../../x#;id")] {
        assert!(bridge.solve(Client::in_build(solve(definition), "n")).await.is_err());
    }
    let inputs = HashMap::from([("x".to_owned(), junk)]);
    assert!(client.frontend_with("n", &[("context:x", "input:x")], inputs).await.is_err());
    for (name, value) in
        [("platform", "a/b/c/d/e"), ("shm-size", "-1"), ("ulimit", "="), ("cache-imports", "["), ("add-hosts", "x")]
    {
        assert!(client.frontend("n", &[(name, value)]).await.is_err(), "{name}");
    }
    let mount = |kind: i32| pb::Mount { dest: "/x".to_owned(), mount_type: kind, input: -9, ..pb::Mount::default() };
    let root = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
    for kind in [-1, 0, 1, 2, 3, 99] {
        let mounts = vec![root.clone(), mount(kind)];
        let request = gateway::NewContainerRequest { mounts, network: kind, ..gateway::NewContainerRequest::default() };
        assert!(bridge.new_container(Client::in_build(request, "n")).await.is_err(), "{kind}");
    }
    let read = gateway::ReadFileRequest { r#ref: "none".to_owned(), ..gateway::ReadFileRequest::default() };
    assert!(bridge.read_file(Client::in_build(read.clone(), "n")).await.is_err());
    assert!(bridge.read_file_container(Client::in_build(read, "n")).await.is_err());
    let stat = gateway::StatFileRequest { mount_index: -5, ..gateway::StatFileRequest::default() };
    assert!(bridge.stat_file_container(Client::in_build(stat, "n")).await.is_err());
    let meta = gateway::ResolveSourceMetaRequest::default();
    assert!(bridge.resolve_source_meta(Client::in_build(meta, "n")).await.is_err());
    for identifier in ["git://", "git://-x/y", "http://", "nothing://x", "docker-image://%"] {
        let source = pb::SourceOp { identifier: identifier.to_owned(), ..pb::SourceOp::default() };
        let meta = gateway::ResolveSourceMetaRequest { source: Some(source), ..Default::default() };
        let answer = bridge.resolve_source_meta(Client::in_build(meta, "n")).await;
        assert!(answer.is_err() || identifier.starts_with("git"), "{identifier}: git says so itself");
    }
    for input in [None, Some(Input::Init(gateway::InitMessage::default())), Some(Input::Done(gateway::DoneMessage {}))]
    {
        let messages = tokio_stream::iter([gateway::ExecMessage { process_id: "p".to_owned(), input }]);
        let answers = bridge.exec_process(Client::in_build(messages, "n")).await;
        if let Ok(answers) = answers {
            let _ = answers.into_inner().message().await; // it ends, one way or the other
        }
    }
    bridge.ping(Client::in_build(gateway::PingRequest {}, "n")).await.expect("still there");
    client.give("n", Err(rpc::Status { code: 2, message: "enough".to_owned(), details: vec![] })).await;
    assert_eq!(solving.await.expect("joined").expect_err("failed").message(), "enough");
    client.tasks.iter().for_each(JoinHandle::abort);
}
