//! Dockerfile instructions applied to an image's configuration (`docker import --change`, `docker commit --change`).
//!
//! All changes together are one Dockerfile without FROM, of the instructions that need no build.

use skep_dockerfile::expand::{Expander, Variables};
use skep_dockerfile::glob::clean;
use skep_dockerfile::instructions::{self, CommandLine, ExposeError, Healthcheck, Pair, PortWords, Probe};
use skep_dockerfile::{Instruction, syntax};

use super::config::ContainerDefaults;
use super::{ImageError, Result};
use crate::model::image::ImageHealthcheck;

/// The instructions that need no build.
const ALLOWED: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies instructions in order.
pub(super) fn apply(config: &mut ContainerDefaults, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    // One line at least, so that a single empty change is taken as a file without instructions too.
    let text = format!("{}\n", changes.join("\n"));
    let file = syntax::parse(text.as_bytes()).map_err(invalid)?;
    if let Some(node) = file.nodes.iter().find(|node| !ALLOWED.contains(&node.keyword.to_ascii_uppercase().as_str())) {
        return Err(invalid(format_args!("{} is not a valid change command", node.keyword)));
    }
    let all = file.nodes.iter().map(instructions::read).collect::<std::result::Result<Vec<_>, _>>().map_err(invalid)?;
    let mut has_cmd = false;
    for mut instruction in all {
        let environment = Environment(config.env.clone());
        instruction.expand(&mut Expander::new(file.escape(), &environment)).map_err(invalid)?;
        has_cmd |= matches!(instruction, Instruction::Cmd(_));
        if matches!(instruction, Instruction::Entrypoint(_)) && !has_cmd {
            // What was there was for another program.
            config.cmd = None;
        }
        apply_one(config, instruction)?;
    }
    Ok(())
}

fn invalid(why: impl std::fmt::Display) -> ImageError {
    ImageError::Invalid(why.to_string())
}

/// `NAME=VALUE`, of which the last with a name counts.
struct Environment(Vec<String>);

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let value = |entry: &String| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.0.iter().rev().find_map(value).map(Into::into)
    }
}

fn apply_one(config: &mut ContainerDefaults, instruction: Instruction) -> Result<()> {
    match instruction {
        Instruction::Cmd(cmd) => config.cmd = Some(command(config, cmd.command)),
        Instruction::Entrypoint(entrypoint) => config.entrypoint = Some(command(config, entrypoint.command)),
        Instruction::Env(env) => {
            for Pair { name, value, .. } in env.pairs {
                let prefix = format!("{name}=");
                config.env.retain(|entry| !entry.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        Instruction::Label(label) => config.labels.extend(label.pairs.into_iter().map(|pair| (pair.name, pair.value))),
        Instruction::Expose(expose) => {
            for word in &expose.ports {
                config.exposed_ports.extend(ports(word).map_err(invalid)?);
            }
        }
        Instruction::Volume(volume) => {
            if volume.paths.iter().any(String::is_empty) {
                return Err(invalid("VOLUME specified can not be an empty string"));
            }
            config.volumes.extend(volume.paths);
        }
        Instruction::User(user) => config.user = user.user,
        Instruction::Stopsignal(stop) if !stop.is_signal() => {
            return Err(invalid(format_args!("invalid signal: {}", stop.signal)));
        }
        Instruction::Stopsignal(stop) => config.stop_signal = Some(stop.signal),
        Instruction::Workdir(workdir) => {
            let base = if workdir.path.starts_with('/') { "" } else { &config.working_dir };
            config.working_dir = clean(&format!("/{base}/{}", workdir.path));
        }
        Instruction::Onbuild(onbuild) => config.on_build.push(onbuild.trigger),
        Instruction::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)?),
        Instruction::From(_)
        | Instruction::Arg(_)
        | Instruction::Run(_)
        | Instruction::Maintainer(_)
        | Instruction::Add(_)
        | Instruction::Copy(_)
        | Instruction::Shell(_) => {
            return Err(invalid(format_args!("{} is not a valid change command", instruction.name())));
        }
    }
    Ok(())
}

/// The exec form as it is, the shell form for the image's shell.
fn command(config: &ContainerDefaults, command: CommandLine) -> Vec<String> {
    let shell = || config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    match command {
        CommandLine::Exec(words) => words,
        CommandLine::Shell(text) if text.is_empty() => shell(),
        CommandLine::Shell(text) => shell().into_iter().chain([text]).collect(),
    }
}

/// A port or a range of ports. The words for mistakes are those of the daemon, which are not those of its builder.
fn ports(word: &str) -> std::result::Result<Vec<String>, String> {
    PortWords::new(word).and_then(|words| words.ports()).map_err(|error| match error {
        ExposeError::NoPort(word) => format!("no port specified: {word}<empty>"),
        ExposeError::Protocol { protocol, .. } => format!("invalid proto: {protocol}"),
        other => other.to_string(),
    })
}

fn healthcheck(check: Healthcheck) -> Result<ImageHealthcheck> {
    let nanoseconds = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).map_err(invalid);
    let test = match check.probe {
        Probe::None => vec!["NONE".to_owned()],
        Probe::Command(CommandLine::Exec(words)) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        Probe::Command(CommandLine::Shell(text)) => vec!["CMD-SHELL".to_owned(), text],
    };
    Ok(ImageHealthcheck {
        test: Some(test),
        interval: nanoseconds(check.interval)?,
        timeout: nanoseconds(check.timeout)?,
        start_period: nanoseconds(check.start_period)?,
        start_interval: nanoseconds(check.start_interval)?,
        retries: check.retries.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> Result<ContainerDefaults> {
        let mut config = ContainerDefaults::default();
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        apply(&mut config, &lines).map(|()| config)
    }

    #[test]
    fn instructions() {
        let config = changed(&[
            "CMD [\"sh\", \"-l\"]",
            "entrypoint exec top -b",
            "ENV A=1 B=\"two words\" C='$A' D=$A-${A} E=${NO:-def}",
            "ENV A 3 4",
            "LABEL x=y \"a b\"=c",
            "EXPOSE 80 53/udp 8000-8002",
            "VOLUME /data /more",
            "VOLUME [\"/with space\"]",
            "USER 1000:1000",
            "WORKDIR /a/b",
            "WORKDIR ../c",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=5s --retries=3 CMD curl -f localhost",
        ])
        .expect("good");
        assert_eq!(config.cmd, Some(vec!["sh".into(), "-l".into()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "exec top -b".into()]));
        assert_eq!(config.env, ["B=two words", "C=$A", "D=-", "E=def", "A=3 4"]);
        assert_eq!(config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["a b=c", "x=y"]);
        let ports: Vec<_> = config.exposed_ports.iter().map(String::as_str).collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(config.volumes.iter().map(String::as_str).collect::<Vec<_>>(), ["/data", "/more", "/with space"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/a/c"));
        assert_eq!(config.on_build, ["RUN make"]);
        let check = config.healthcheck.expect("a check");
        assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
        assert_eq!(check.test, Some(vec!["CMD-SHELL".into(), "curl -f localhost".into()]));
    }

    #[test]
    fn an_entrypoint_drops_the_command_before_it() {
        let of = |lines: &[&str]| {
            let mut config = ContainerDefaults { cmd: Some(vec!["old".into()]), ..ContainerDefaults::default() };
            let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            apply(&mut config, &lines).expect("good");
            config.cmd
        };
        assert_eq!(of(&["ENTRYPOINT [\"x\"]"]), None);
        assert_eq!(of(&["CMD [\"y\"]", "ENTRYPOINT [\"x\"]"]), Some(vec!["y".into()]));
        assert_eq!(of(&["USER z"]), Some(vec!["old".into()]));
    }

    #[test]
    fn as_one_file() {
        let config = changed(&["#escape=`", "ENV A=`\"", "USER a`", "b", "", "# nothing", "CMD", "STOPSIGNAL 99"])
            .expect("good");
        assert_eq!((config.env.as_slice(), config.user.as_str()), (&["A=\"".to_owned()][..], "ab"));
        assert_eq!(config.cmd, Some(vec!["/bin/sh".into(), "-c".into()]));
        assert_eq!(changed(&[]).expect("nothing to do"), ContainerDefaults::default());
    }

    #[test]
    fn mistakes() {
        for (line, text) in [
            ("", "file with no instructions"),
            ("RUN true", "RUN is not a valid change command"),
            ("shell [\"a\"]", "shell is not a valid change command"),
            ("USER", "USER requires exactly one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV =x", "ENV names can not be blank"),
            ("ENV A=${B", "failed to process \"${B\": unsupported modifier (\u{fffd}) in substitution"),
            ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
            ("CMD --x y", "unknown flag: --x"),
            ("EXPOSE http", "invalid containerPort: http"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("EXPOSE 80/foo", "invalid proto: foo"),
            ("EXPOSE /tcp", "no port specified: /tcp<empty>"),
            ("STOPSIGNAL SIGFOO", "invalid signal: SIGFOO"),
            ("STOPSIGNAL 0", "invalid signal: 0"),
            ("VOLUME $A", "VOLUME specified can not be an empty string"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ] {
            assert_eq!(changed(&[line]).expect_err(line).to_string(), text);
        }
    }
}
