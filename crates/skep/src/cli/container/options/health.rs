//! `--health-*` and `--no-healthcheck`.

use skep_wire::HealthConfig;

use super::ContainerFlags;

/// The health check that the flags ask for; None leaves the image's.
pub(crate) fn build(flags: &ContainerFlags) -> Result<Option<HealthConfig>, String> {
    let nanos = |value: crate::cli::value::GoDuration| i64::try_from(value.0.as_nanos()).unwrap_or(i64::MAX);
    let health = HealthConfig {
        test: match flags.health_cmd.as_str() {
            "" => Vec::new(),
            command => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        interval: nanos(flags.health_interval),
        timeout: nanos(flags.health_timeout),
        start_period: nanos(flags.health_start_period),
        start_interval: nanos(flags.health_start_interval),
        retries: flags.health_retries,
    };
    let given = health != HealthConfig::default();
    if flags.no_healthcheck {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }));
    }
    if health.retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    Ok(given.then_some(health))
}
