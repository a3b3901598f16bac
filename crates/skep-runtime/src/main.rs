//! The runtime's program: shim, `--init` process, or OCI runtime, by its first argument or its name.

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|n| n == skep_runtime::init::NAME) {
        return skep_runtime::init::run(arguments).into();
    }
    let mut rest = env::args_os().skip(2);
    match env::args_os().nth(1) {
        Some(command) if command == "shim" => skep_runtime::shim::run(&mut rest).into(),
        Some(command) if command == "init" => skep_runtime::init::run(&mut rest).into(),
        _ => ExitCode::FAILURE,
    }
}
