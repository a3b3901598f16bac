//! Manifests and indexes, served as anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_registry::{Manifest, media_type};

fuzz_target!(|data: &[u8]| {
    for served in ["", media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST] {
        let _ = Manifest::parse(data, served);
    }
});
