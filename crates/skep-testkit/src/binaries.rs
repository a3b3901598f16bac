//! The programs under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The directory with `skep` and `skep-runtime`: that of this test's own build, brought up to date first.
pub(crate) fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        if let Some(directory) = std::env::var_os("SKEP_BIN_DIR") {
            return directory.into();
        }
        // target/TRIPLE/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("the test's own path");
        let directory = test.parent().and_then(|deps| deps.parent()).expect("a test in target/").to_owned();
        // Cargo itself does not know that the tests need the programs. Under nextest each test is a process, so there whoever
        // starts it builds them.
        if std::env::var_os("NEXTEST").is_none() {
            build(&directory);
        }
        for program in ["skep", "skep-runtime"] {
            assert!(directory.join(program).exists(), "{program} is not built: cargo build -p {program}");
        }
        directory
    })
}

fn build(directory: &std::path::Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "skep", "--package", "skep-runtime"]);
    if directory.ends_with("release") {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command.status().expect("cargo");
    assert!(status.success(), "the programs under test could not be built");
}

/// The path of a program.
pub fn program(name: &str) -> PathBuf {
    directory().join(name)
}
