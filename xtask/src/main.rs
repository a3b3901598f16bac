//! What is done to the project from outside of cargo: `cargo xtask <task>`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod demo;
mod deps;
mod edges;
mod fuzz;
mod install;
mod paths;
mod peers;
mod prove;
mod record_builds;
mod test;
mod vm;
mod vm_test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks around the project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures skep beside Docker, Podman and runc
    Bench(bench::Arguments),
    /// Checks that crates depend only on what ARCHITECTURE.md lets them
    CheckEdges,
    /// Shows a container's life, command by command
    Demo,
    /// Installs the Debian packages that building, testing or the demo need
    Deps(deps::Arguments),
    /// Fuzzes the parsers of what others say
    Fuzz(fuzz::Arguments),
    /// Installs the programs, systemd units and completions
    Install(install::Arguments),
    /// Fetches Docker's programs from Debian's suite sid, and prints the folder with them
    Peers,
    /// Runs the end-to-end scenarios against Docker
    Prove(prove::Arguments),
    /// Records what Docker's builder makes of the corpus of builds
    RecordBuilds(record_builds::Arguments),
    /// Runs all checks and tests, and counts them
    Test(test::Arguments),
    /// Runs shell commands as root in a throw-away virtual machine with pure cgroup v2
    Vm(vm::Arguments),
    /// Runs the tests that depend on the cgroup version, and a few scenarios, in the virtual machine
    VmTest(vm_test::Arguments),
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::CheckEdges => edges::check(),
        Task::Demo => demo::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Install(arguments) => install::run(&arguments),
        Task::Deps(arguments) => deps::install(&arguments),
        Task::Peers => peers::show(),
        Task::Prove(arguments) => prove::run(&arguments),
        Task::RecordBuilds(arguments) => record_builds::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::VmTest(arguments) => vm_test::run(&arguments),
    }
}
