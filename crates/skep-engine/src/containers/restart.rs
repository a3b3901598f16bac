//! When a container that ended is started again.

use std::time::Duration;

use crate::model::host::RestartPolicy;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length counts as a success: waits begin anew.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// The back-off of one container.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// How long to wait before the next start, after a run of length `ran`.
    pub(super) fn next(&mut self, ran: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if ran < LONG_ENOUGH => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }

    /// A person stepped in: waits begin anew.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

/// Whether the policy wants another start after an end with `code`, the `count`th so far.
pub(super) fn wanted(policy: RestartPolicy, code: i32, count: u32, stopped_by_user: bool) -> bool {
    match policy {
        _ if stopped_by_user => false,
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => code != 0 && (max_retries == 0 || count < max_retries),
    }
}

/// Whether a container that does not run is started when the engine comes up.
pub(super) fn wanted_at_boot(policy: RestartPolicy, code: i32, count: u32, stopped_by_user: bool) -> bool {
    match policy {
        // `always` means that a restart of the engine undoes a stop.
        RestartPolicy::Always => true,
        RestartPolicy::No | RestartPolicy::UnlessStopped | RestartPolicy::OnFailure { .. } => {
            wanted(policy, code, count, stopped_by_user)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<u64> = (0..12).map(|_| u64::try_from(back_off.next(short).as_millis()).unwrap_or(0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(back_off.next(Duration::from_secs(11)), FIRST);
    }

    #[test]
    fn policies() {
        let on_failure = RestartPolicy::OnFailure { max_retries: 2 };
        assert!(
            wanted(on_failure, 1, 1, false) && !wanted(on_failure, 1, 2, false) && !wanted(on_failure, 0, 0, false)
        );
        assert!(wanted(RestartPolicy::Always, 0, 99, false) && !wanted(RestartPolicy::Always, 0, 0, true));
        assert!(wanted_at_boot(RestartPolicy::Always, 0, 0, true));
        assert!(!wanted_at_boot(RestartPolicy::UnlessStopped, 0, 0, true));
    }
}
