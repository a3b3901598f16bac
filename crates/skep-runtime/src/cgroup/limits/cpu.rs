//! CPU time and placement.

use super::{Limit, Otherwise, Setting, Step};
use crate::cgroup::{Controllers, Version};
use crate::spec::Cpu;

const CONTROLLER: Controllers = Controllers::CPU;

pub(super) fn steps(cpu: &Cpu, version: Version, steps: &mut Vec<Step>) {
    match version {
        Version::V1 => v1(cpu, steps),
        Version::V2 => v2(cpu, steps),
    }
    // The same in both versions.
    for (limit, file, list) in
        [(Limit::CpusetCpus, "cpuset.cpus", &cpu.cpus), (Limit::CpusetMems, "cpuset.mems", &cpu.mems)]
    {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            steps.push(Step::write(limit, Controllers::CPUSET, file, list));
        }
    }
}

fn v1(cpu: &Cpu, steps: &mut Vec<Step>) {
    let setting = |limit, file, value: String| Setting::new(limit, CONTROLLER, file, value);
    // An idle group takes no shares, so the order of the two depends on which way it goes.
    let idle = cpu.idle.map(|idle| Step::Write(setting(Limit::CpuIdle, "cpu.idle", idle.to_string())));
    let shares = set(cpu.shares).map(|shares| Step::Write(setting(Limit::CpuShares, "cpu.shares", shares.to_string())));
    if cpu.idle == Some(0) {
        steps.extend(idle.into_iter().chain(shares));
    } else {
        steps.extend(shares.into_iter().chain(idle));
    }
    let period = set(cpu.period).map(|period| setting(Limit::CpuPeriod, "cpu.cfs_period_us", period.to_string()));
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let quota = quota.map(|quota| setting(Limit::CpuQuota, "cpu.cfs_quota_us", quota.to_string()));
    pair(period, quota, steps);
    if let Some(burst) = cpu.burst {
        steps.push(Step::Write(setting(Limit::CpuBurst, "cpu.cfs_burst_us", burst.to_string())));
    }
    let period =
        set(cpu.realtime_period).map(|period| setting(Limit::CpuRealtime, "cpu.rt_period_us", period.to_string()));
    let runtime = cpu.realtime_runtime.filter(|runtime| *runtime != 0);
    let runtime = runtime.map(|runtime| setting(Limit::CpuRealtime, "cpu.rt_runtime_us", runtime.to_string()));
    pair(period, runtime, steps);
}

fn v2(cpu: &Cpu, steps: &mut Vec<Step>) {
    let idle = cpu.idle.map(|idle| Step::write(Limit::CpuIdle, CONTROLLER, "cpu.idle", idle));
    let weight =
        set(cpu.shares).map(|shares| Step::write(Limit::CpuShares, CONTROLLER, "cpu.weight", weight_of_shares(shares)));
    if cpu.idle == Some(0) {
        steps.extend(idle.into_iter().chain(weight));
    } else {
        steps.extend(weight.into_iter().chain(idle));
    }
    let quota =
        cpu.quota.filter(|quota| *quota != 0).map(|quota| if quota < 0 { "max".to_owned() } else { quota.to_string() });
    let max = match (quota, set(cpu.period)) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (Some(quota), None) => Some(quota), // the kernel keeps the period
        (None, Some(period)) => Some(format!("max {period}")),
        (None, None) => None,
    };
    if let Some(burst) = cpu.burst {
        // May not exceed the quota: a lower one goes before, a higher one after it.
        let burst = Setting::new(Limit::CpuBurst, CONTROLLER, "cpu.max.burst", burst);
        match max {
            Some(max) => steps.push(Step::Pair(burst, Setting::new(Limit::CpuQuota, CONTROLLER, "cpu.max", max))),
            None => steps.push(Step::Write(burst)),
        }
    } else if let Some(max) = max {
        let mut setting = Setting::new(Limit::CpuQuota, CONTROLLER, "cpu.max", max);
        if setting.value == "max" {
            setting.otherwise = Otherwise::Ignore;
        }
        steps.push(Step::Write(setting));
    }
    if cpu.realtime_period.is_some_and(|period| period != 0) || cpu.realtime_runtime.is_some_and(|runtime| runtime != 0)
    {
        let value = format!("{}/{}", cpu.realtime_runtime.unwrap_or(0), cpu.realtime_period.unwrap_or(0));
        steps.push(Step::Missing(Limit::CpuRealtime, value));
    }
}

/// Engines say "not set" with 0.
fn set(value: Option<u64>) -> Option<u64> {
    value.filter(|value| *value != 0)
}

fn pair(first: Option<Setting>, second: Option<Setting>, steps: &mut Vec<Step>) {
    match (first, second) {
        (Some(first), Some(second)) => steps.push(Step::Pair(first, second)),
        (one, other) => steps.extend(one.into_iter().chain(other).map(Step::Write)),
    }
}

/// `cpu.weight` (1 to 10000) for v1's shares (2 to 262144), as all runtimes have agreed since 2025: the curve, quadratic in the
/// logarithms, through (2, 1), (1024, 100) and (262144, 10000), so that a container of default shares has default weight. The
/// formula before was linear and gave it 39.
fn weight_of_shares(shares: u64) -> u64 {
    const HIGHEST_SHARES: u64 = 262_144;
    const HIGHEST_WEIGHT: u64 = 10_000;
    if shares <= 2 {
        return 1;
    }
    if shares >= HIGHEST_SHARES {
        return HIGHEST_WEIGHT;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 18 bits")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::tests::lines;

    fn plan(cpu: &Cpu, version: Version) -> Vec<String> {
        let mut list = Vec::new();
        steps(cpu, version, &mut list);
        lines(list)
    }

    #[test]
    fn weights() {
        let weights: Vec<u64> =
            [0, 1, 2, 3, 100, 512, 1024, 2048, 262_143, 262_144, u64::MAX].into_iter().map(weight_of_shares).collect();
        assert_eq!(weights, [1, 1, 1, 2, 17, 59, 100, 174, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn quota_and_period() {
        let cpu = Cpu { quota: Some(50_000), period: Some(100_000), ..Cpu::default() };
        assert_eq!(plan(&cpu, Version::V1), ["cpu.cfs_period_us=100000 | cpu.cfs_quota_us=50000"]);
        assert_eq!(plan(&cpu, Version::V2), ["cpu.max=50000 100000"]);
        let cpu = Cpu { quota: Some(-1), ..Cpu::default() };
        assert_eq!(plan(&cpu, Version::V1), ["cpu.cfs_quota_us=-1"]);
        assert_eq!(plan(&cpu, Version::V2), ["cpu.max=max"]);
        let cpu = Cpu { period: Some(5000), ..Cpu::default() };
        assert_eq!(plan(&cpu, Version::V2), ["cpu.max=max 5000"]);
    }

    #[test]
    fn shares_idle_burst_and_sets() {
        let cpu = Cpu {
            shares: Some(1024),
            idle: Some(1),
            burst: Some(5),
            cpus: Some("0-1".into()),
            mems: Some(String::new()),
            ..Cpu::default()
        };
        assert_eq!(plan(&cpu, Version::V1), ["cpu.shares=1024", "cpu.idle=1", "cpu.cfs_burst_us=5", "cpuset.cpus=0-1"]);
        assert_eq!(plan(&cpu, Version::V2), ["cpu.weight=100", "cpu.idle=1", "cpu.max.burst=5", "cpuset.cpus=0-1"]);
    }

    #[test]
    fn nothing_set() {
        let zero =
            Cpu { shares: Some(0), quota: Some(0), period: Some(0), realtime_runtime: Some(0), ..Cpu::default() };
        assert!(plan(&zero, Version::V1).is_empty());
        assert!(plan(&zero, Version::V2).is_empty());
    }
}
