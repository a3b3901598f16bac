//! Parsers of what registries say return, whatever they get: the fuzz targets' checks, on a few hundred inputs.

use proptest::prelude::*;
use skep_registry::{Manifest, fuzzing};

proptest! {
    #[test]
    fn challenges(text in "((Bearer|basic|,| |=|\"|\\\\|realm|error|scope|invalid_token|a)){0,30}") {
        fuzzing::challenge(&text);
    }

    #[test]
    fn challenges_of_any_text(text in ".{0,200}") {
        fuzzing::challenge(&text);
    }

    #[test]
    fn manifests(
        number in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        served in "(application/(json|vnd.oci.image.(manifest|index).v1\\+json))?",
    ) {
        let corpus = skep_evil::documents::manifests();
        let mut bytes = corpus[number.index(corpus.len())].bytes.clone();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Whatever comes out: it was read twice to the same end.
        let (one, two) = (Manifest::parse(&bytes, &served), Manifest::parse(&bytes, &served));
        prop_assert_eq!(one.ok(), two.ok());
    }
}
