use super::*;

#[test]
fn null_counts_as_missing() {
    let text = br#"{"ociVersion":"1.0.2","mounts":null,"process":{"args":["a"],"env":null,"cwd":"/","rlimits":null},
        "linux":{"namespaces":[{"type":"pid"},{"type":"mount","path":""}],"resources":{"devices":null,"pids":null}}}"#;
    let spec = Spec::from_slice(text).expect("a specification");
    assert_eq!(spec.process.as_ref().map(|process| process.args.clone()), Some(vec!["a".to_owned()]));
    assert_eq!(spec.namespace(NamespaceKind::Mount).and_then(Namespace::path), None);
    assert!(spec.namespace(NamespaceKind::Pid).is_some() && spec.namespace(NamespaceKind::Ipc).is_none());
}

#[test]
fn unknown_fields_are_ignored_and_wrong_types_are_not() {
    assert!(Spec::from_slice(br#"{"ociVersion":"1.2.0","windows":{"x":1},"process":{"later":true}}"#).is_ok());
    assert!(Spec::from_slice(br#"{"process":{"user":{"uid":-1}}}"#).is_err());
    assert!(Spec::from_slice(br#"{"process":{"user":{"uid":4294967296}}}"#).is_err(), "never wraps to root");
    assert!(Spec::from_slice(br#"{"linux":{"namespaces":[{"type":"moon"}]}}"#).is_err());
}

#[test]
fn the_example_survives_its_own_json() {
    let mut spec = Spec::example();
    let text = serde_json::to_vec(&spec).expect("json");
    assert_eq!(Spec::from_slice(&text).expect("a specification"), spec);
    spec.make_rootless(1000, 100);
    let text = serde_json::to_string(&spec).expect("json");
    assert!(text.contains(r#""uidMappings":[{"containerID":0,"hostID":1000,"size":1}]"#), "{text}");
    assert!(!text.contains("gid=5"));
}
