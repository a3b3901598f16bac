//! Archives of images.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| skep_engine::images::fuzzing::load(data));
