//! `completion`: scripts for shells, which call back `__complete` with the words typed so far.
//!
//! The answer is a candidate per line, with a description behind a tab. All knowledge is here; the scripts only carry
//! words to and fro.

use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::command::runner;
use super::flags::{FlagSet, FlagSpec, NoFlags, Order, parse};
use super::globals::{DEFAULT_HOST, GlobalFlags};
use super::tree::{self, Found};
use super::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["completion"],
    usage: "bash|zsh|fish",
    about: "Generate the completion script for a shell",
    args: Args::Exactly(1),
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

/// What the scripts call: the last word is the one being typed. Words are not parsed: they are another command's.
pub(crate) const CALLBACK: Command = Command {
    paths: &["__complete"],
    usage: "[WORD...]",
    about: "Complete a command line",
    args: Args::AtLeast(0),
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: |cli, words| {
        Box::pin(async move {
            let lines: String =
                candidates(&cli.program, words).await.into_iter().map(|line| format!("{line}\n")).collect();
            ui::print(&lines);
            Ok(())
        })
    },
};

const BASH: &str = r#"# bash completion for PROGRAM
_PROGRAM_complete() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") current="${COMP_WORDS[COMP_CWORD]}" line
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local typed index
        _get_comp_words_by_ref -n =: -w typed -i index
        words=("${typed[@]:1:index}")
        current="${typed[index]}"
    fi
    while IFS= read -r line; do
        line="${line%%$'\t'*}"
        [[ $line == "$current"* ]] && COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$current"
    return 0
}
complete -o default -F _PROGRAM_complete PROGRAM
"#;

const ZSH: &str = r#"#compdef PROGRAM
# zsh completion for PROGRAM
_PROGRAM() {
    local line name
    local -a found
    while IFS= read -r line; do
        name="${${line%%$'\t'*}//:/\\:}"
        if [[ $line == *$'\t'* ]]; then found+=("$name:${line#*$'\t'}"); else found+=("$name"); fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then _describe PROGRAM found; else _files; fi
}
if [ "$funcstack[1]" = "_PROGRAM" ]; then _PROGRAM; else compdef _PROGRAM PROGRAM; fi
"#;

const FISH: &str = r#"# fish completion for PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    PROGRAM __complete $words[2..-1] 2>/dev/null
end
complete -c PROGRAM -a '(__PROGRAM_complete)'
"#;

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let shell = words.first().map(String::as_str).unwrap_or_default();
    ui::print(&script(shell, &cli.program)?);
    Ok(())
}

fn script(shell: &str, program: &str) -> Result<String, Failure> {
    let script = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        _ => return Err(Failure::message(format!("unknown shell {shell:?}: must be one of bash, zsh, fish"))),
    };
    Ok(script.replace("PROGRAM", program))
}

/// What may stand in the place of the last word.
async fn candidates(program: &str, words: &[String]) -> Vec<String> {
    let Some((current, before)) = words.split_last() else { return Vec::new() };
    // Global options first, as when running.
    let Ok((globals, before)) = parse::<GlobalFlags>(before, Order::FlagsFirst) else { return Vec::new() };
    let found = match tree::find(&before) {
        Found::Nothing if before.is_empty() && current.starts_with('-') => flag_names(&GlobalFlags::specs()),
        Found::Nothing if before.is_empty() => {
            let mut names: Vec<_> = tree::names(None).into_iter().chain(tree::groups(None)).collect();
            names.sort_unstable();
            described(names)
        }
        Found::Group(group) if before.len() == group.name.split(' ').count() => {
            described(tree::names(Some(group.name)))
        }
        Found::Nothing | Found::Group(_) => Vec::new(),
        Found::Command(command, used) => {
            let specs = (command.flags)();
            match before[used..].last() {
                Some(last) if takes_value(&specs, last) => objects(program, globals, of_flag(last)).await,
                _ if current.starts_with('-') => flag_names(&specs),
                _ => {
                    let wanted = next_word(command, &specs, &before[used..]);
                    objects(program, globals, wanted).await
                }
            }
        }
    };
    found.into_iter().filter(|line| line.starts_with(current.as_str())).collect()
}

fn described(names: Vec<(&str, &str)>) -> Vec<String> {
    names.into_iter().map(|(name, about)| format!("{name}\t{about}")).collect()
}

fn flag_names(specs: &[FlagSpec]) -> Vec<String> {
    specs.iter().map(|spec| format!("--{}\t{}", spec.long, spec.usage)).collect()
}

/// Whether `word` is a flag whose value comes next.
fn takes_value(specs: &[FlagSpec], word: &str) -> bool {
    let spec = match word.strip_prefix("--") {
        Some(long) => specs.iter().find(|spec| spec.long == long),
        None => match word.strip_prefix('-') {
            // Only the last of a cluster can want the next word.
            Some(cluster) if !cluster.contains('=') => {
                specs.iter().find(|spec| spec.short.is_some() && spec.short == cluster.chars().last())
            }
            Some(_) | None => None,
        },
    };
    spec.is_some_and(|spec| spec.without_value.is_none())
}

/// What completes the value of a flag.
fn of_flag(flag: &str) -> Completion {
    match flag {
        "--network" | "--net" | "--config-from" => Completion::Networks,
        "--link" | "--volumes-from" => Completion::Containers,
        _ => Completion::Nothing,
    }
}

/// What completes one more word behind those that are there.
fn next_word(command: &Command, specs: &[FlagSpec], words: &[String]) -> Completion {
    let mut count = 0;
    let mut is_value = false;
    for word in words {
        let is_word = !is_value && !word.starts_with('-');
        count += usize::from(is_word);
        is_value = !is_value && takes_value(specs, word);
    }
    let fits = match command.args {
        Args::None => false,
        Args::Exactly(most) | Args::AtMost(most) | Args::Between(_, most) => count < most,
        // `run IMAGE COMMAND...`: only the first word is an image.
        Args::AtLeast(_) if command.usage.contains("COMMAND") => count == 0,
        Args::AtLeast(_) => true,
    };
    match (fits, command.completion) {
        (false, _) => Completion::Nothing,
        (true, Completion::NetworkAndContainer) if count == 0 => Completion::Networks,
        (true, Completion::NetworkAndContainer) => Completion::Containers,
        (true, other) => other,
    }
}

/// The names of the engine's objects; none if there is no engine: completing must not start one.
async fn objects(program: &str, globals: GlobalFlags, kind: Completion) -> Vec<String> {
    let (path, list) = match kind {
        Completion::Nothing | Completion::NetworkAndContainer => return Vec::new(),
        Completion::Containers => ("/containers/json?all=1", ""),
        Completion::RunningContainers => ("/containers/json", ""),
        Completion::Images => ("/images/json", ""),
        Completion::Volumes => ("/volumes", "/Volumes"),
        Completion::Networks => ("/networks", ""),
        Completion::CacheMounts => ("/skep/build/caches", ""),
    };
    let Ok(cli) = Cli::new(program, globals) else { return Vec::new() };
    let Ok((host, is_default)) = cli.host() else { return Vec::new() };
    let socket = host.strip_prefix("unix://").unwrap_or(DEFAULT_HOST);
    if is_default && UnixStream::connect(socket).is_err() {
        return Vec::new();
    }
    let Ok(client) = cli.client().await else { return Vec::new() };
    let Ok(answer) = client.get::<Value>(path).await else { return Vec::new() };
    let rows = answer.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    rows.iter().flat_map(names_of).collect()
}

fn names_of(row: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(|name| name.trim_start_matches('/').to_owned());
    match (row.get("Name"), row.get("Names").or_else(|| row.get("RepoTags"))) {
        (Some(name), _) => text(name).into_iter().collect(),
        (None, Some(Value::Array(names))) => names.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::network;

    fn complete(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = runtime.block_on(candidates("skep", &words));
        found.into_iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn commands_and_flags_are_completed() {
        assert_eq!(complete("volu"), ["volume"]);
        assert_eq!(complete("-H unix:///nowhere volume r"), ["rm"]);
        assert_eq!(complete("volume create --dr"), ["--driver"]);
        assert_eq!(complete("volume create --driver "), Vec::<String>::new());
        assert_eq!(complete("--tlsv"), ["--tlsverify"]);
        assert_eq!(complete("nosuch x"), Vec::<String>::new());
    }

    #[test]
    fn a_network_is_followed_by_a_container() {
        let specs = (network::connect::COMMAND.flags)();
        let next = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            next_word(&network::connect::COMMAND, &specs, &words)
        };
        assert_eq!(next(""), Completion::Networks);
        assert_eq!(next("--ip 10.0.0.2 lan"), Completion::Containers);
        assert_eq!(next("lan web"), Completion::Nothing);
        assert_eq!(of_flag("--network"), Completion::Networks);
    }

    #[test]
    fn objects_have_names() {
        let row = |json: &str| names_of(&serde_json::from_str(json).expect("json"));
        assert_eq!(row(r#"{"Names": ["/web"]}"#), ["web"]);
        assert_eq!(row(r#"{"RepoTags": ["a:1", "b:2"]}"#), ["a:1", "b:2"]);
        assert_eq!(row(r#"{"Name": "data"}"#), ["data"]);
    }

    #[test]
    fn scripts_name_the_program() {
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell, "skep").expect("known");
            assert!(script.contains("skep") && !script.contains("PROGRAM"));
        }
        assert!(script("tcsh", "skep").is_err());
    }
}
