//! Policies, keys and signed documents: read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_policy::key::PublicKey;
use skep_policy::payload::Payload;
use skep_policy::{Policy, Source};

fuzz_target!(|data: &[u8]| {
    if let Ok(policy) = Policy::parse(data) {
        assert!(!policy.requirements(&Source::DockerArchive).is_empty());
        assert!(!policy.requirements(&Source::Docker(&"a.b/c:1".parse().expect("a reference"))).is_empty());
    }
    let _ = Payload::parse(data);
    if let Ok(key) = PublicKey::from_pem(data) {
        assert!(!key.verifies(b"message", data));
    }
});
