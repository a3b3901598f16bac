//! Dockerfile instructions of `commit --change`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| skep_engine::images::fuzzing::change(text));
