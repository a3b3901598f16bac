//! The corpus of hostile manifests.

use skep_registry::{Manifest, media_type};

#[test]
fn manifests_are_what_they_say_or_refused() {
    for document in skep_evil::documents::manifests() {
        let parsed = Manifest::parse(&document.bytes, media_type::OCI_MANIFEST);
        document.fate.check(document.name, &parsed);
    }
}
