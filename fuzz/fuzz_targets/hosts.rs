//! hosts.toml: which hosts a registry's content comes from.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| skep_registry::fuzzing::hosts(text));
