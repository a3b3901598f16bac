//! Dockerfiles: read, expanded and checked, or refused.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use skep_dockerfile::ignore::Matcher;
use skep_dockerfile::lint::{Inputs, check};
use skep_dockerfile::syntax;

fuzz_target!(|data: &[u8]| {
    let count = data.split(|byte| *byte == b'\n').count();
    if let Ok(file) = syntax::parse(data) {
        let mut last = 0;
        for node in &file.nodes {
            assert!(last < node.lines.start && node.lines.start <= node.lines.end && node.lines.end <= count);
            last = node.lines.end;
        }
    }
    let platform = "linux/arm64".parse().expect("a platform");
    let matcher = Matcher::new(&["a", "!b"]).expect("patterns");
    let inputs = Inputs {
        arguments: &BTreeMap::from([("a".to_owned(), "$b".to_owned())]),
        build_platform: &platform,
        target_platform: &platform,
        target: None,
        all_stages: true,
        ignored: Some(&matcher),
        images: &(),
    };
    let report = check(data, &inputs);
    assert!(report.findings.iter().all(|finding| finding.lines.end <= count));
    if let Some(error) = report.error {
        assert!(!error.to_string().is_empty() && error.lines().is_none_or(|lines| lines.end <= count));
    }
});
