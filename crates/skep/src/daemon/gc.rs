//! Settings of the garbage collection, from options and file.

use std::str::FromStr;
use std::time::Duration;

use skep_engine::model::gc::{BuildGcPolicy, BuildGcSettings, GcSettings};

use super::file::{FileBuilderGc, FileBuilderPolicy, FileGc};
use super::settings::either;
use crate::cli::Failure;

/// Puts both together, over the defaults.
pub(super) fn settings(
    flags: FileGc,
    file: FileGc,
    builds: BuildGcSettings,
    clashes: &mut Vec<String>,
) -> Result<GcSettings, Failure> {
    let mut gc = GcSettings::default();
    let c = clashes;
    set(&mut gc.enabled, either("gc", flags.enabled, file.enabled, c));
    set(&mut gc.keep, either("gc-keep", flags.keep, file.keep, c));
    set(&mut gc.tagged, either("gc-tagged", flags.tagged, file.tagged, c));
    set(&mut gc.low, read(either("gc-free-space-low", flags.free_space_low, file.free_space_low, c))?);
    set(&mut gc.high, read(either("gc-free-space-high", flags.free_space_high, file.free_space_high, c))?);
    set(&mut gc.min_age, duration("gc-min-age", either("gc-min-age", flags.min_age, file.min_age, c))?);
    set(&mut gc.interval, duration("gc-interval", either("gc-interval", flags.interval, file.interval, c))?);
    if gc.interval < Duration::from_secs(1) {
        return Err(Failure::message("invalid gc-interval: less than a second"));
    }
    gc.builds = builds;
    gc.check().map_err(Failure::message)?;
    Ok(gc)
}

/// Settings of the cache of builds: Docker's keys.
pub(super) fn builds(file: FileBuilderGc) -> Result<BuildGcSettings, Failure> {
    Ok(BuildGcSettings {
        enabled: file.enabled.unwrap_or(true),
        policies: file.policy.into_iter().map(policy).collect::<Result<_, _>>()?,
        reserved: read(file.default_reserved_space)?,
        max_used: read(file.default_max_used_space)?,
        min_free: read(file.default_min_free_space)?,
    })
}

fn policy(file: FileBuilderPolicy) -> Result<BuildGcPolicy, Failure> {
    let mut policy = BuildGcPolicy {
        all: file.all,
        reserved: read(file.reserved_space)?,
        max_used: read(file.max_used_space)?,
        min_free: read(file.min_free_space)?,
        ..BuildGcPolicy::default()
    };
    for text in file.filter {
        match text.split_once('=').unwrap_or((&text, "")) {
            ("unused-for" | "until" | "keep-duration", value) => {
                set(&mut policy.unused_for, duration("builder.gc.policy", Some(value.to_owned()))?);
            }
            (field, value) => policy.filters.push((field.to_owned(), value.to_owned())),
        }
    }
    Ok(policy)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn read<T: FromStr<Err = String>>(text: Option<String>) -> Result<Option<T>, Failure> {
    text.map(|text| text.parse().map_err(Failure::message)).transpose()
}

fn duration(name: &str, text: Option<String>) -> Result<Option<Duration>, Failure> {
    let parse = |text: String| {
        skep_types::parse_go_duration(&text).map_err(|_| Failure::message(format!("invalid {name}: {text}")))
    };
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use skep_engine::model::gc::FreeSpace;

    use super::*;

    #[test]
    fn options_and_file_make_settings() {
        let flags = FileGc { free_space_low: Some("2GB".into()), min_age: Some("90m".into()), ..FileGc::default() };
        let file: FileGc =
            serde_json::from_str(r#"{"free-space-high": "30%", "keep": ["reg/*"], "tagged": true}"#).expect("good");
        let gc = settings(flags, file, BuildGcSettings::default(), &mut Vec::new()).expect("good");
        assert!(matches!((gc.low, gc.high), (FreeSpace::Bytes(_), FreeSpace::Percent(30))));
        assert_eq!(
            (gc.min_age.as_secs(), gc.tagged, gc.enabled, gc.keep),
            (5400, true, true, vec!["reg/*".to_owned()])
        );
    }

    #[test]
    fn dockers_keys_for_the_cache_of_builds() {
        let file = r#"{"enabled": true, "defaultKeepStorage": "20GB", "policy": [
            {"keepStorage": "10GB", "filter": ["unused-for=48h", "type=exec.cachemount"]}, {"maxUsedSpace": "40%", "all": true}]}"#;
        let found = builds(serde_json::from_str(file).expect("good")).expect("good");
        assert_eq!((found.enabled, found.reserved), (true, "20GB".parse().ok()));
        let [first, second] = found.policies.as_slice() else { panic!("two policies") };
        assert_eq!((first.unused_for.as_secs(), first.filters.len()), (48 * 3600, 1));
        assert_eq!((second.all, second.max_used), (true, Some(FreeSpace::Percent(40))));
        let wrong = r#"{"policy": [{"filter": ["colour=red"]}]}"#;
        let builds = builds(serde_json::from_str(wrong).expect("json")).expect("read");
        let gc = GcSettings { builds, ..GcSettings::default() };
        assert_eq!(gc.check().err().as_deref(), Some("invalid filter \"colour\""));
    }

    #[test]
    fn nonsense_is_refused() {
        for (low, age) in [("110%", "1h"), ("50%", "1h"), ("1%", "a while")] {
            let flags =
                FileGc { free_space_low: Some(low.to_owned()), min_age: Some(age.to_owned()), ..FileGc::default() };
            assert!(
                settings(flags, FileGc::default(), BuildGcSettings::default(), &mut Vec::new()).is_err(),
                "{low} {age}"
            );
        }
        let mut clashes = Vec::new();
        let twice = || FileGc { tagged: Some(true), ..FileGc::default() };
        settings(twice(), twice(), BuildGcSettings::default(), &mut clashes).expect("told later");
        assert_eq!(clashes, ["gc-tagged"]);
    }
}
