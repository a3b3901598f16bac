//! `--security-opt`: the client reads the seccomp profile, for the engine may be on another machine.

use std::path::Path;

use crate::cli::Failure;
use crate::cli::failure::go_path_error;
use crate::ui::json::compact;

/// What `--security-opt` comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: no path below /proc and /sys is hidden or read-only.
    pub(crate) system_paths_unconfined: bool,
}

/// Checks the options and replaces the name of a seccomp profile by its content.
pub(crate) fn parse(given: &[String]) -> Result<Security, Failure> {
    let mut security = Security::default();
    for option in given {
        if option == "systempaths=unconfined" {
            security.system_paths_unconfined = true;
            continue;
        }
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(parts) => parts,
            None if option == "no-new-privileges" => (option.as_str(), ""),
            None => return Err(Failure::message(format!("Invalid --security-opt: {option:?}"))),
        };
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            security.options.push(format!("seccomp={}", read_profile(value)?));
        } else {
            security.options.push(option.clone());
        }
    }
    Ok(security)
}

fn read_profile(file: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::message(format!(
            "opening seccomp profile ({file}) failed: {}",
            go_path_error("open", Path::new(file), &e)
        ))
    })?;
    serde_json::from_str::<&serde_json::value::RawValue>(&text)
        .map_err(|e| Failure::message(format!("compacting json for seccomp profile ({file}) failed: {e}")))?;
    Ok(compact(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_sent_not_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("profile.json");
        std::fs::write(&file, "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n").expect("written");
        let options =
            ["no-new-privileges".into(), "systempaths=unconfined".into(), format!("seccomp={}", file.display())];
        let security = parse(&options).expect("good");
        assert_eq!(security.options, ["no-new-privileges", "seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]);
        assert!(security.system_paths_unconfined);
    }

    #[test]
    fn errors_are_dockers() {
        for (option, error) in [
            ("foo", "Invalid --security-opt: \"foo\""),
            ("seccomp=/nope", "opening seccomp profile (/nope) failed: open /nope: no such file or directory"),
        ] {
            assert_eq!(parse(&[option.into()]).expect_err(option).text, error);
        }
    }
}
