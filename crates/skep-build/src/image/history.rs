//! The history of a finished image.

use chrono::{DateTime, FixedOffset, Utc};

use super::ImageConfig;

/// The builder's name in the history.
const EXPORTER: &str = "buildkit.exporter.image.v0";

/// Makes history and layers agree, and gives times to the steps that have none: `made` are the times of the layers, the lowest
/// first. A step without a layer gets the time of the step before, or that of the first step that has one.
pub(crate) fn complete_history(config: &mut ImageConfig, made: &[Option<DateTime<Utc>>]) {
    let layers = config.rootfs.diff_ids.len();
    let mut seen = 0;
    for step in config.history.iter_mut().filter(|step| !step.empty_layer) {
        if seen == layers {
            step.empty_layer = true; // more steps than layers: the configuration of the base is wrong
            continue;
        }
        if step.created.is_none() {
            step.created = made.get(seen).copied().flatten().map(Into::into);
        }
        seen += 1;
    }
    for index in seen..layers {
        let created = made.get(index).copied().flatten().map(Into::into);
        config.history.push(super::History { created, comment: EXPORTER.to_owned(), ..Default::default() });
    }
    let mut time = first_new_time(config);
    let mut gap = false;
    for step in &mut config.history {
        match step.created {
            Some(created) => {
                if gap {
                    time = Some(created);
                }
            }
            None => {
                gap = true;
                step.created = time;
            }
        }
    }
}

/// The time of the first step that was made now, or of the last one that has a time.
fn first_new_time(config: &ImageConfig) -> Option<DateTime<FixedOffset>> {
    let mut time = None;
    let mut gap = false;
    for step in &config.history {
        match step.created {
            Some(created) => {
                time = Some(created);
                if gap {
                    break;
                }
            }
            None => gap = true,
        }
    }
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::History;
    use skep_types::Digest;

    fn at(second: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(second, 0)
    }

    fn step(second: Option<i64>, empty_layer: bool) -> History {
        History { created: second.and_then(at).map(Into::into), empty_layer, ..History::default() }
    }

    fn times(history: Vec<History>, made: &[Option<DateTime<Utc>>]) -> Vec<(i64, bool)> {
        let mut config = ImageConfig { history, ..ImageConfig::default() };
        config.rootfs.diff_ids = vec![Digest::from_bytes([1; 32]); made.len()];
        complete_history(&mut config, made);
        let one = |step: &History| (step.created.map_or(-1, |time| time.timestamp()), step.empty_layer);
        config.history.iter().map(one).collect()
    }

    #[test]
    fn steps_without_layers_get_the_time_of_the_first_new_layer_or_of_the_one_before() {
        let history =
            vec![step(Some(1), false), step(None, true), step(None, false), step(None, true), step(None, false)];
        let made = [None, at(10), at(20)];
        assert_eq!(times(history, &made), [(1, false), (10, true), (10, false), (10, true), (20, false)]);
    }

    #[test]
    fn without_a_new_layer_the_last_time_counts() {
        assert_eq!(times(vec![step(Some(1), false), step(None, true)], &[None]), [(1, false), (1, true)]);
    }

    #[test]
    fn history_and_layers_agree() {
        assert_eq!(times(vec![step(Some(1), false), step(Some(2), false)], &[None]), [(1, false), (2, true)]);
        assert_eq!(times(vec![], &[at(5)]), [(5, false)]);
    }
}
