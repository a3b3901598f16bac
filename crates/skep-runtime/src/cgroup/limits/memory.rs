//! Memory and swap.
//!
//! A spec counts swap as v1 does: the limit of memory and swap together. v2 limits swap alone.

use super::{Limit, Otherwise, Setting, Step};
use crate::cgroup::{Controllers, Error, Result, Version};
use crate::spec::Memory;

const CONTROLLER: Controllers = Controllers::MEMORY;

pub(super) fn steps(memory: &Memory, version: Version, steps: &mut Vec<Step>) -> Result<()> {
    // 0 is how engines say "not set".
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0);
    let reservation = memory.reservation.filter(|reservation| *reservation != 0);
    if let (Some(limit), Some(true)) = (limit.and_then(|limit| u64::try_from(limit).ok()), memory.check_before_update) {
        let file = match version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        steps.push(Step::Check { controller: CONTROLLER, file, limit });
    }
    match version {
        Version::V1 => v1(memory, limit, swap, reservation, steps),
        Version::V2 => v2(memory, limit, swap, reservation, steps),
    }
}

fn v1(
    memory: &Memory,
    limit: Option<i64>,
    swap: Option<i64>,
    reservation: Option<i64>,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let setting = |limit, file, value: i64| Setting::new(limit, CONTROLLER, file, value);
    // No limit on memory means none on memory and swap either, unless there is one.
    let swap = if limit == Some(-1) { swap.or(Some(-1)) } else { swap };
    let limit = limit.map(|value| setting(Limit::Memory, "memory.limit_in_bytes", value));
    let swap = swap.map(|value| {
        let mut setting = setting(Limit::MemorySwap, "memory.memsw.limit_in_bytes", value);
        if value == -1 {
            setting.otherwise = Otherwise::Ignore;
        }
        setting
    });
    match (limit, swap) {
        (Some(limit), Some(swap)) => steps.push(Step::Pair(limit, swap)),
        (one, other) => steps.extend(one.into_iter().chain(other).map(Step::Write)),
    }
    if let Some(reservation) = reservation {
        steps.push(Step::write(Limit::MemoryReservation, CONTROLLER, "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(limit) = memory.kernel_tcp.filter(|limit| *limit != 0) {
        steps.push(Step::write(Limit::KernelTcpMemory, CONTROLLER, "memory.kmem.tcp.limit_in_bytes", limit));
    }
    if memory.disable_oom_killer == Some(true) {
        steps.push(Step::write(Limit::OomKillDisable, CONTROLLER, "memory.oom_control", 1));
    }
    if let Some(swappiness) = swappiness(memory)? {
        steps.push(Step::write(Limit::Swappiness, CONTROLLER, "memory.swappiness", swappiness));
    }
    Ok(())
}

fn v2(
    memory: &Memory,
    limit: Option<i64>,
    swap: Option<i64>,
    reservation: Option<i64>,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let swap = swap_alone(limit, swap)?;
    if let Some(swap) = swap {
        let mut setting = Setting::new(Limit::MemorySwap, CONTROLLER, "memory.swap.max", number(swap));
        if swap <= 0 {
            setting.otherwise = Otherwise::Ignore; // a kernel without swap accounting: no swap, or no limit, as it is anyway
        }
        steps.push(Step::Write(setting));
    }
    if let Some(limit) = limit {
        steps.push(Step::write(Limit::Memory, CONTROLLER, "memory.max", number(limit)));
    }
    if let Some(reservation) = reservation {
        steps.push(Step::write(Limit::MemoryReservation, CONTROLLER, "memory.low", number(reservation)));
    }
    if memory.disable_oom_killer == Some(true) {
        steps.push(Step::Missing(Limit::OomKillDisable, String::new()));
    }
    if let Some(swappiness) = swappiness(memory)? {
        steps.push(Step::Missing(Limit::Swappiness, swappiness.to_string()));
    }
    Ok(())
}

/// The limit of swap alone; -1 for none.
fn swap_alone(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>> {
    let invalid = |reason: &str| Error::Invalid { limit: Limit::MemorySwap, reason: reason.to_owned() };
    match (limit, both) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(both)) if both < 0 => Ok(Some(-1)),
        (None, Some(_)) => Err(invalid("memory and swap can't be limited together without a limit on memory")),
        (Some(limit), Some(_)) if limit < 0 => {
            Err(invalid("memory and swap can't be limited together if memory is unlimited"))
        }
        (Some(limit), Some(both)) if both < limit => Err(invalid("it is lower than the limit on memory")),
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}

fn swappiness(memory: &Memory) -> Result<Option<u64>> {
    match memory.swappiness {
        // The API's "not set" is -1, which clients have been seen to pass on.
        None | Some(u64::MAX) => Ok(None),
        Some(value) if value > 100 => {
            Err(Error::Invalid { limit: Limit::Swappiness, reason: format!("{value} is not between 0 and 100") })
        }
        swappiness => Ok(swappiness),
    }
}

fn number(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::tests::lines;

    fn plan(memory: &Memory, version: Version) -> Vec<String> {
        let mut list = Vec::new();
        steps(memory, version, &mut list).unwrap();
        lines(list)
    }

    #[test]
    fn limit_and_swap() {
        let memory =
            Memory { limit: Some(100 << 20), swap: Some(300 << 20), reservation: Some(50 << 20), ..Memory::default() };
        assert_eq!(
            plan(&memory, Version::V1),
            [
                "memory.limit_in_bytes=104857600 | memory.memsw.limit_in_bytes=314572800",
                "memory.soft_limit_in_bytes=52428800"
            ]
        );
        assert_eq!(
            plan(&memory, Version::V2),
            ["memory.swap.max=209715200", "memory.max=104857600", "memory.low=52428800"]
        );
    }

    #[test]
    fn unlimited() {
        let memory = Memory { limit: Some(-1), ..Memory::default() };
        assert_eq!(plan(&memory, Version::V1), ["memory.limit_in_bytes=-1 | memory.memsw.limit_in_bytes=-1"]);
        assert_eq!(plan(&memory, Version::V2), ["memory.swap.max=max", "memory.max=max"]);
    }

    #[test]
    fn no_swap_is_zero_in_v2() {
        let memory = Memory { limit: Some(4096), swap: Some(4096), ..Memory::default() };
        assert_eq!(plan(&memory, Version::V2), ["memory.swap.max=0", "memory.max=4096"]);
    }

    #[test]
    fn zero_is_not_set() {
        let memory =
            Memory { limit: Some(0), swap: Some(0), reservation: Some(0), kernel: Some(5), ..Memory::default() };
        assert!(plan(&memory, Version::V1).is_empty());
        assert!(plan(&memory, Version::V2).is_empty());
    }

    #[test]
    fn what_only_v1_has() {
        let memory = Memory { swappiness: Some(10), disable_oom_killer: Some(true), ..Memory::default() };
        assert_eq!(plan(&memory, Version::V1), ["memory.oom_control=1", "memory.swappiness=10"]);
        assert_eq!(plan(&memory, Version::V2), ["(no disabling the OOM killer)", "(no memory swappiness)"]);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |memory: Memory| steps(&memory, Version::V2, &mut Vec::new()).is_err();
        assert!(refused(Memory { swappiness: Some(101), ..Memory::default() }));
        assert!(refused(Memory { swap: Some(5), ..Memory::default() }));
        assert!(refused(Memory { limit: Some(10), swap: Some(5), ..Memory::default() }));
        assert!(!refused(Memory { swappiness: Some(u64::MAX), ..Memory::default() }));
    }
}
