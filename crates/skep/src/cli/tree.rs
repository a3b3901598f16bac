//! All commands, and the way from words to one of them.
//!
//! A command is listed once; each of its paths (`ps`, `container ls`) leads to it. Looking one up compares words with
//! constants, so that nothing has to be built before a command starts.

use std::fmt::Write as _;

use super::command::runner;
use super::flags::{FlagSet, NoFlags, Order, describe};
use super::globals::GlobalFlags;
use super::{
    Args, Cli, Command, Completion, Failure, build, builder, completion, container, daemon, image, inspect, manifest,
    network, registry, system, volume,
};
use crate::ui;

/// Commands that the help shows.
static COMMANDS: &[&Command] = &[
    &container::run::COMMAND,
    &container::exec::COMMAND,
    &container::ls::COMMAND,
    &build::command::COMMAND,
    &image::pull::COMMAND,
    &image::push::COMMAND,
    &image::ls::COMMAND,
    &system::version::COMMAND,
    &system::info::COMMAND,
    &builder::cache::export::COMMAND,
    &builder::cache::import::COMMAND,
    &builder::cache::ls::COMMAND,
    &builder::cache::rm::COMMAND,
    &builder::du::COMMAND,
    &builder::history::ls::COMMAND,
    &builder::history::attachment::COMMAND,
    &builder::history::inspect::COMMAND,
    &builder::history::logs::COMMAND,
    &builder::history::rm::COMMAND,
    &builder::inspect::COMMAND,
    &builder::ls::COMMAND,
    &builder::prune::COMMAND,
    &container::attach::COMMAND,
    &container::commit::COMMAND,
    &container::cp::COMMAND,
    &container::create::COMMAND,
    &container::diff::COMMAND,
    &container::export::COMMAND,
    &container::kill::COMMAND,
    &container::logs::COMMAND,
    &container::pause::COMMAND,
    &container::port::COMMAND,
    &container::prune::COMMAND,
    &container::rename::COMMAND,
    &container::restart::COMMAND,
    &container::rm::COMMAND,
    &container::start::COMMAND,
    &container::stats::COMMAND,
    &container::stop::COMMAND,
    &container::top::COMMAND,
    &container::unpause::COMMAND,
    &container::update::COMMAND,
    &container::wait::COMMAND,
    &image::history::COMMAND,
    &image::import::COMMAND,
    &image::load::COMMAND,
    &image::prune::COMMAND,
    &image::rmi::COMMAND,
    &image::save::COMMAND,
    &image::tag::COMMAND,
    &inspect::ANY,
    &inspect::CONTAINER,
    &inspect::IMAGE,
    &inspect::NETWORK,
    &inspect::VOLUME,
    &volume::create::COMMAND,
    &volume::ls::COMMAND,
    &volume::prune::COMMAND,
    &volume::rm::COMMAND,
    &network::connect::COMMAND,
    &network::create::COMMAND,
    &network::disconnect::COMMAND,
    &network::explain::COMMAND,
    &network::ls::COMMAND,
    &network::prune::COMMAND,
    &network::rm::COMMAND,
    &registry::login::COMMAND,
    &registry::logout::COMMAND,
    &registry::search::COMMAND,
    &manifest::inspect::COMMAND,
    &image::copy::COMMAND,
    &registry::gc::COMMAND,
    &registry::serve::COMMAND,
    &system::check::COMMAND,
    &system::df::COMMAND,
    &system::events::COMMAND,
    &system::gc::COMMAND,
    &system::prune::COMMAND,
    &completion::COMMAND,
    &daemon::COMMAND,
];

/// Commands that work but that no help shows.
static HIDDEN: &[&Command] = &[&system::dial_stdio::COMMAND, &completion::CALLBACK, &COMMAND];

/// The ones that the overview names first.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// Commands with one object in common.
pub(crate) struct Group {
    /// All of its words: `buildx history` is a group in the group `buildx`.
    pub(crate) name: &'static str,
    about: &'static str,
}

static GROUPS: [Group; 12] = [
    Group { name: "builder", about: "Manage builds" },
    Group { name: "builder cache", about: "Manage cache mounts of builds" },
    Group { name: "buildx", about: "Manage builds" },
    Group { name: "buildx cache", about: "Manage cache mounts of builds" },
    Group { name: "buildx history", about: "Commands to work on build records" },
    Group { name: "container", about: "Manage containers" },
    Group { name: "image", about: "Manage images" },
    Group { name: "manifest", about: "Manage image manifests and manifest lists" },
    Group { name: "network", about: "Manage networks" },
    Group { name: "registry", about: "Run a registry" },
    Group { name: "system", about: "Manage the engine" },
    Group { name: "volume", about: "Manage volumes" },
];

/// `help [COMMAND]`.
const COMMAND: Command = Command {
    paths: &["help"],
    usage: "[COMMAND]",
    about: "Help about the command",
    args: Args::AtLeast(0),
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: runner!(NoFlags, help, Order::FlagsFirst),
};

async fn help(cli: &Cli, _: NoFlags, words: Vec<String>) -> Result<(), Failure> {
    let program = &cli.program;
    let text = match find(&words) {
        Found::Command(command, _) => command.help(program),
        Found::Group(group) => group_help(program, group),
        Found::Nothing if words.is_empty() => overview(program),
        Found::Nothing => return Err(Failure::message(unknown(program, &words))),
    };
    ui::print(&text);
    Ok(())
}

/// What the first words of a command line lead to.
pub(crate) enum Found {
    /// A command, and how many words named it.
    Command(&'static Command, usize),
    /// A group without a command behind it, or with `--help`.
    Group(&'static Group),
    Nothing,
}

/// Finds the command that `words` begin with.
pub(crate) fn find(words: &[String]) -> Found {
    let mut above = None;
    let mut path = String::new();
    for (at, word) in words.iter().enumerate() {
        if above.is_some() && matches!(word.as_str(), "--help" | "-h") {
            break;
        }
        join(&mut path, word);
        if let Some(command) = by_path(|own| own == path) {
            // `history inspect` is a command, and so is `history inspect attachment`.
            let longer = words.get(at + 1).and_then(|next| by_path(|own| own == format!("{path} {next}")));
            return longer.map_or(Found::Command(command, at + 1), |longer| Found::Command(longer, at + 2));
        }
        let Some(found) = group(&path) else { return Found::Nothing };
        above = Some(found);
    }
    above.map_or(Found::Nothing, Found::Group)
}

fn join(path: &mut String, word: &str) {
    if !path.is_empty() {
        path.push(' ');
    }
    path.push_str(word);
}

fn by_path(mut matches: impl FnMut(&str) -> bool) -> Option<&'static Command> {
    COMMANDS.iter().chain(HIDDEN).find(|command| command.paths.iter().any(|path| matches(path))).copied()
}

fn group(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// The names that may follow `group` (or the program itself, for none), with what each is about; no aliases.
pub(crate) fn names(group: Option<&str>) -> Vec<(&'static str, &'static str)> {
    let mut names: Vec<_> = COMMANDS
        .iter()
        .filter_map(|command| {
            let name = command.paths.iter().find_map(|path| name_in(group, path))?;
            Some((name, command.about.lines().next().unwrap_or_default()))
        })
        .chain(groups(group).filter(|_| group.is_some()))
        .collect();
    names.sort_unstable();
    names
}

/// The last word of a path whose other words are those of the group.
fn name_in(group: Option<&str>, path: &'static str) -> Option<&'static str> {
    match path.rsplit_once(' ') {
        None => group.is_none().then_some(path),
        Some((parent, name)) => (Some(parent) == group).then_some(name),
    }
}

/// The names and descriptions of the groups in `group`, or of the program's own.
pub(crate) fn groups(group: Option<&str>) -> impl Iterator<Item = (&'static str, &'static str)> {
    GROUPS.iter().filter_map(move |own| Some((name_in(group, own.name)?, own.about)))
}

/// The help of the program as a whole.
pub(crate) fn overview(program: &str) -> String {
    let all = names(None);
    let common = COMMON.iter().filter_map(|&name| all.iter().find(|entry| entry.0 == name).copied());
    let others = all.iter().copied().filter(|entry| !COMMON.contains(&entry.0));
    let mut out = format!("Usage:  {program} [OPTIONS] COMMAND\n\nAn engine for containers, and its command line\n");
    section(&mut out, "Common Commands", common);
    section(&mut out, "Management Commands", groups(None));
    section(&mut out, "Commands", others);
    out.push_str("\nGlobal Options:\n");
    out.push_str(&describe(GlobalFlags::specs(), ui::tty::columns()));
    let _ = writeln!(out, "\nRun '{program} COMMAND --help' for more information on a command.");
    out
}

/// The help of a group.
pub(crate) fn group_help(program: &str, group: &Group) -> String {
    let mut out = format!("Usage:  {program} {} COMMAND\n\n{}\n", group.name, group.about);
    section(&mut out, "Commands", names(Some(group.name)).into_iter());
    let _ = writeln!(out, "\nRun '{program} {} COMMAND --help' for more information on a command.", group.name);
    out
}

fn section(out: &mut String, title: &str, entries: impl Iterator<Item = (&'static str, &'static str)>) {
    let _ = writeln!(out, "\n{title}:");
    for (name, about) in entries {
        let _ = writeln!(out, "  {name:<11} {about}");
    }
}

/// The error for words that name no command.
pub(crate) fn unknown(program: &str, words: &[String]) -> String {
    let (mut name, mut above) = (program.to_owned(), None);
    let mut rest = words.iter();
    let word = loop {
        let word = rest.next().map(String::as_str).unwrap_or_default();
        let path = above.map_or_else(|| word.to_owned(), |above: &Group| format!("{} {word}", above.name));
        match group(&path) {
            Some(found) => above = Some(found),
            None => break word,
        }
        join(&mut name, word);
    };
    let Some(_) = above else {
        return format!("{program}: unknown command: {program} {word}\n\nRun '{program} --help' for more information");
    };
    let problem = match word.starts_with('-') {
        true => format!("unknown flag: {word}"),
        false => format!("{program}: unknown command: {name} {word}"),
    };
    format!("{problem}\n\nUsage:  {name} COMMAND\n\nRun '{name} --help' for more information")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn found(line: &str) -> Option<(&'static str, usize)> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match find(&words) {
            Found::Command(command, used) => Some((command.name(), used)),
            Found::Group(group) => Some((group.name, 0)),
            Found::Nothing => None,
        }
    }

    #[test]
    fn every_path_leads_to_its_command() {
        let mut seen = HashSet::new();
        for command in COMMANDS.iter().chain(HIDDEN) {
            for path in command.paths {
                assert!(seen.insert(*path), "{path} is there twice");
                assert_eq!(found(path), Some((command.name(), path.split(' ').count())));
                if let Some((parent, _)) = path.rsplit_once(' ') {
                    let command = COMMANDS.iter().any(|command| command.paths.contains(&parent));
                    assert!(group(parent).is_some() || command, "{path} is in no group");
                }
            }
        }
    }

    #[test]
    fn words_behind_a_command_are_its_own() {
        assert_eq!(found("rm -f ls"), Some(("rm", 1)));
        assert_eq!(found("container rm -f"), Some(("rm", 2)));
        assert_eq!(found("volume"), Some(("volume", 0)));
        assert_eq!(found("volume --help"), Some(("volume", 0)));
        assert_eq!(found("volume foo"), None);
        assert_eq!(found("buildx history"), Some(("buildx history", 0)));
        assert_eq!(found("buildx history --help"), Some(("buildx history", 0)));
        assert_eq!(found("buildx history logs abc"), Some(("buildx history logs", 3)));
        assert_eq!(found("--help"), None);
        assert_eq!(found("foo"), None);
    }

    #[test]
    fn unknown_commands_are_reported_as_docker_does() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            unknown("docker", &words("foo bar")),
            "docker: unknown command: docker foo\n\nRun 'docker --help' for more information"
        );
        assert_eq!(
            unknown("docker", &words("volume foo")),
            "docker: unknown command: docker volume foo\n\nUsage:  docker volume COMMAND\n\n\
             Run 'docker volume --help' for more information"
        );
        assert_eq!(
            unknown("docker", &words("buildx history -x")),
            "unknown flag: -x\n\nUsage:  docker buildx history COMMAND\n\n\
             Run 'docker buildx history --help' for more information"
        );
    }

    #[test]
    fn groups_show_their_own_names() {
        let help = group_help("skep", group("volume").expect("a group"));
        assert!(help.starts_with(
            "Usage:  skep volume COMMAND\n\nManage volumes\n\nCommands:\n  create      Create a volume\n"
        ));
        assert!(names(Some("buildx")).contains(&("history", "Commands to work on build records")));
        assert!(names(Some("container")).iter().any(|entry| entry.0 == "ls"));
        assert!(names(None).iter().all(|entry| !entry.0.contains(' ')));
    }
}
