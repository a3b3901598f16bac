//! The runtime's program: shim, `--init` process, or OCI runtime, by its first argument or its name.

mod cli;

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
        // What clones containers runs from a file that they can't write.
        Some(command) if command == "shim" && !cli::protected() => ExitCode::FAILURE,
        Some(command) if command == "shim" => skep_runtime::shim::run(&mut rest).into(),
        Some(command) if command == "init" => skep_runtime::init::run(&mut rest).into(),
        _ => cli::run(env::args_os().skip(1)).into(),
    }
}
