//! Credentials, as clients send them and as they keep them: X-Registry-Auth, X-Registry-Config, config.json.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use skep_wire::{AuthConfig, AuthConfigs};

#[path = "../../crates/skep/src/cli/credentials/stored.rs"]
mod stored;

/// What the client reads of its file.
#[derive(serde::Deserialize)]
struct File {
    auths: BTreeMap<String, stored::StoredAuth>,
}

fuzz_target!(|text: &str| {
    if let Ok(auth) = AuthConfig::from_header(text) {
        assert!(AuthConfig::from_header(&auth.to_header()).expect("its own header") == auth);
    }
    if let Ok(all) = AuthConfigs::from_header(text) {
        assert!(AuthConfigs::from_header(&all.to_header()).expect("its own header") == all);
    }
    // The header's content without its base64, which a fuzzer finds only slowly.
    if let Ok(auth) = skep_wire::from_slice::<AuthConfig>(text.as_bytes()) {
        assert!(AuthConfig::from_header(&auth.to_header()).expect("its own header") == auth);
    }
    let Ok(file) = serde_json::from_str::<File>(text) else { return };
    for server in file.auths.keys().map(|key| stored::host_of(key)).chain([stored::HUB, "reg.example:5000"]) {
        let Some(auth) = stored::lookup(&file.auths, server) else { continue };
        assert_eq!(auth.serveraddress, server);
        let kept = [(server.to_owned(), stored::StoredAuth::of(&auth))].into();
        let found = stored::lookup(&kept, server).expect("what was kept");
        // A colon ends the name, and NULs end the password.
        if !auth.username.contains(':') {
            assert_eq!(found.username, auth.username);
            assert_eq!(found.password, auth.password.trim_end_matches('\0'));
        }
    }
});
