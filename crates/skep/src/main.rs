//! skep: command line and daemon in one program. Called as `docker` it answers to that name; called as `skepd` it is the daemon.

mod cli;
mod daemon;
mod on_demand;
mod ui;

fn main() {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let mut words: Vec<String> = words.collect();
    if name == "skepd" {
        words.insert(0, "daemon".to_owned());
    }
    let program = if name == "docker" { "docker" } else { "skep" };
    std::process::exit(cli::main(program, &words));
}
