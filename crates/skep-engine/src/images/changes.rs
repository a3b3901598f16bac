//! Dockerfile instructions applied to an image's configuration (`docker import --change`, `docker commit --change`).

use std::collections::BTreeMap;

use skep_types::{Port, parse_go_duration};

use super::config::ContainerDefaults;
use super::words::{Variables, split, split_pairs};
use super::{ImageError, Result};
use crate::model::image::ImageHealthcheck;

/// Applies instructions in order.
pub(super) fn apply(config: &mut ContainerDefaults, changes: &[String]) -> Result<()> {
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            apply_one(config, line)?;
        }
    }
    Ok(())
}

fn apply_one(config: &mut ContainerDefaults, line: &str) -> Result<()> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    let environment = environment(config);
    let words = || split(rest, &environment).map_err(|why| wrong(&name, why));
    if rest.is_empty() && NOT_EMPTY.contains(&name.as_str()) {
        return Err(wrong(&name, "requires at least one argument"));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            for (key, value) in split_pairs(rest, &environment).map_err(|why| wrong(&name, why))? {
                let prefix = format!("{key}=");
                config.env.retain(|entry| !entry.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        "LABEL" => config.labels.extend(split_pairs(rest, &environment).map_err(|why| wrong(&name, why))?),
        "EXPOSE" => {
            for word in words()? {
                config.exposed_ports.extend(ports(&word)?);
            }
        }
        "VOLUME" => config.volumes.extend(match json_list(rest) {
            Some(list) => list,
            None => words()?,
        }),
        "USER" => config.user = one(&name, words()?)?,
        "STOPSIGNAL" => {
            let signal = one(&name, words()?)?;
            if signal.parse::<skep_types::Signal>().is_err() {
                return Err(ImageError::Invalid(format!("invalid signal: {signal}")));
            }
            config.stop_signal = Some(signal);
        }
        "WORKDIR" => config.working_dir = absolute(&config.working_dir, &one(&name, words()?)?),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(config, rest)?),
        _ => return Err(ImageError::Invalid(format!("{name} is not a valid change command"))),
    }
    Ok(())
}

const NOT_EMPTY: [&str; 6] = ["ENV", "LABEL", "EXPOSE", "VOLUME", "ONBUILD", "HEALTHCHECK"];

fn wrong(name: &str, why: impl std::fmt::Display) -> ImageError {
    ImageError::Invalid(format!("{name} {why}"))
}

fn environment(config: &ContainerDefaults) -> Variables {
    let pairs = config.env.iter().filter_map(|entry| entry.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
}

fn one(name: &str, words: Vec<String>) -> Result<String> {
    match <[String; 1]>::try_from(words) {
        Ok([word]) => Ok(word),
        Err(_) => Err(wrong(name, "requires exactly one argument")),
    }
}

/// `["a", "b"]` as a list.
fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// The exec form as it is, the shell form for the image's shell.
fn command(config: &ContainerDefaults, text: &str) -> Vec<String> {
    match json_list(text) {
        Some(list) => list,
        None if text.is_empty() => Vec::new(),
        None => shell(config).into_iter().chain([text.to_owned()]).collect(),
    }
}

fn shell(config: &ContainerDefaults) -> Vec<String> {
    config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
}

/// A port or a range of ports, with a protocol or without.
fn ports(text: &str) -> Result<Vec<String>> {
    let bad = || ImageError::Invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(bad);
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad());
    }
    let port = |number: u16| format!("{number}/{}", protocol.to_ascii_lowercase());
    port(first).parse::<Port>().map_err(|_| bad())?;
    Ok((first..=last).map(port).collect())
}

/// `dir`, from `base` unless it is absolute; without `.` and `..`.
fn absolute(base: &str, dir: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if dir.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(dir.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(config: &ContainerDefaults, text: &str) -> Result<ImageHealthcheck> {
    let mut check = ImageHealthcheck::default();
    let mut rest = text;
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) =
            flag.split_once('=').ok_or_else(|| wrong("HEALTHCHECK", format!("flag {flag} has no value")))?;
        let nanoseconds = || {
            let duration = parse_go_duration(value).map_err(|e| wrong("HEALTHCHECK", e))?;
            i64::try_from(duration.as_nanos()).map_err(|e| wrong("HEALTHCHECK", e))
        };
        match name {
            "--interval" => check.interval = nanoseconds()?,
            "--timeout" => check.timeout = nanoseconds()?,
            "--start-period" => check.start_period = nanoseconds()?,
            "--start-interval" => check.start_interval = nanoseconds()?,
            "--retries" => check.retries = value.parse().map_err(|e| wrong("HEALTHCHECK", e))?,
            other => return Err(wrong("HEALTHCHECK", format!("unknown flag: {other}"))),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = Some(match (kind.to_ascii_uppercase().as_str(), command.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", "") => return Err(wrong("HEALTHCHECK", "missing command after HEALTHCHECK CMD")),
        ("CMD", command) => match json_list(command) {
            Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
            None if config.shell.is_some() => {
                ["CMD".to_owned()].into_iter().chain(shell(config)).chain([command.to_owned()]).collect()
            }
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        (other, _) => return Err(wrong("HEALTHCHECK", format!("unknown type {other:?} (try CMD)"))),
    });
    Ok(check)
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
    fn mistakes() {
        for (line, text) in [
            ("RUN true", "RUN is not a valid change command"),
            ("USER", "USER requires exactly one argument"),
            ("USER a b", "USER requires exactly one argument"),
            ("EXPOSE http", "invalid containerPort: http"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("STOPSIGNAL SIGFOO", "invalid signal: SIGFOO"),
            ("HEALTHCHECK CMD", "HEALTHCHECK missing command after HEALTHCHECK CMD"),
        ] {
            assert_eq!(changed(&[line]).expect_err(line).to_string(), text);
        }
    }
}
