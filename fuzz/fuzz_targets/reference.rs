//! References and digests: what is read is written so that it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_types::{Digest, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().expect("its own text"), reference);
        assert_eq!(reference.familiar().parse::<Reference>().expect("its short text"), reference);
        assert!(!reference.path().contains("..") && !reference.path().starts_with('/'), "{reference}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let _ = text.parse::<Platform>();
});
