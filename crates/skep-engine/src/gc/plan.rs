//! What may go, in which order, and why; and why the rest stays. A pure function of what there is.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use skep_store::{ChainId, PartialInfo};

use crate::model::gc::{GcImage, GcKept, GcPlan, GcSettings, GcStep, GcTarget};

/// A download that was cut short since then is likely to be tried again.
const FRESH: TimeDelta = TimeDelta::hours(1);

/// What there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    /// Bytes in the trash.
    pub(crate) trash: u64,
    pub(crate) partials: Vec<PartialInfo>,
    /// Bytes that the cache of builds could do without.
    pub(crate) builds: u64,
    pub(crate) images: Vec<GcImage>,
}

/// Decides.
pub(crate) fn plan(found: Inventory, settings: &GcSettings, now: DateTime<Utc>) -> GcPlan {
    let mut plan = GcPlan::default();
    if found.trash > 0 {
        plan.steps.push(GcStep { target: GcTarget::Trash, bytes: found.trash, reason: "already removed".to_owned() });
    }
    let fresh = |partial: &PartialInfo| DateTime::<Utc>::from(partial.modified) + FRESH > now;
    let mut partials: Vec<PartialInfo> =
        found.partials.into_iter().filter(|partial| !partial.in_use && !fresh(partial)).collect();
    partials.sort_by_key(|partial| partial.modified);
    plan.steps.extend(partials.into_iter().map(|partial| GcStep {
        target: GcTarget::Partial(partial.digest),
        bytes: partial.size,
        reason: "a download that was cut short".to_owned(),
    }));

    if found.builds > 0 {
        let reason = "builds can make it again".to_owned();
        plan.steps.push(GcStep { target: GcTarget::BuildCache, bytes: found.builds, reason });
    }

    let mut users: HashMap<ChainId, usize> = HashMap::new();
    for (chain, _) in found.images.iter().flat_map(|image| &image.layers) {
        *users.entry(*chain).or_default() += 1;
    }
    let (mut going, mut kept) = (Vec::new(), Vec::new());
    for image in found.images {
        match verdict(&image, settings, now) {
            Ok(reason) => going.push((image, reason)),
            Err(reason) => kept.push(GcKept { image, reason }),
        }
    }
    // Without a tag first, then by last use.
    going.sort_by_key(|(image, _)| (!image.tags.is_empty(), image.last_used, image.id));
    for (image, reason) in going {
        let mut bytes = 0;
        for (chain, size) in &image.layers {
            let left = users.entry(*chain).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                bytes += size;
            }
        }
        plan.steps.push(GcStep { target: GcTarget::Image(Box::new(image)), bytes, reason });
    }
    plan.kept = kept;
    plan
}

/// Why an image may go, or why it stays.
fn verdict(image: &GcImage, settings: &GcSettings, now: DateTime<Utc>) -> Result<String, String> {
    if image.held {
        return Err("a container is being made from it".to_owned());
    }
    if image.containers > 0 {
        let plural = if image.containers == 1 { "container uses" } else { "containers use" };
        return Err(format!("{} {plural} it", image.containers));
    }
    if let Some(rule) = &image.kept_by {
        return Err(format!("the rule {rule:?} keeps it"));
    }
    if !image.tags.is_empty() && !settings.tagged {
        return Err("it has a tag, and tagged images don't go (setting \"tagged\")".to_owned());
    }
    let idle = (now - image.last_used).to_std().unwrap_or_default();
    if idle < settings.min_age {
        return Err(format!("it was used {} ago", spell(idle)));
    }
    let what = if image.tags.is_empty() { "no tag" } else { "not used by any container" };
    Ok(format!("{what}, last used {} ago", spell(idle)))
}

/// `3d`, `5h`, `12m`, `40s`.
fn spell(time: std::time::Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use skep_types::Digest;

    use super::*;

    fn digest(letter: char) -> Digest {
        Digest::from_hex(&letter.to_string().repeat(64)).expect("a digest")
    }

    fn image(letter: char, tag: &str, hours: i64, layers: &[(char, u64)]) -> GcImage {
        GcImage {
            id: digest(letter),
            tags: if tag.is_empty() { Vec::new() } else { vec![tag.to_owned()] },
            digests: Vec::new(),
            containers: 0,
            held: false,
            kept_by: None,
            last_used: now() - chrono::Duration::hours(hours),
            layers: layers.iter().map(|(letter, size)| (ChainId::of(None, &digest(*letter)), *size)).collect(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(2_000_000_000, 0).expect("a time")
    }

    fn inventory() -> Inventory {
        let used = GcImage { containers: 1, ..image('e', "used:1", 900, &[]) };
        let held = GcImage { held: true, ..image('f', "", 900, &[]) };
        let ruled = GcImage { kept_by: Some("reg/*".to_owned()), ..image('9', "reg/x:1", 900, &[]) };
        let partial = |letter, age: u64, in_use| PartialInfo {
            digest: digest(letter),
            size: 7,
            modified: SystemTime::from(now()) - Duration::from_secs(age * 3600),
            in_use,
        };
        Inventory {
            trash: 5,
            builds: 9,
            partials: vec![
                partial('1', 10, false),
                partial('2', 20, false),
                partial('3', 30, true),
                partial('4', 0, false),
            ],
            images: vec![
                image('a', "old:1", 100, &[('1', 10), ('2', 20)]),
                image('b', "", 30, &[('1', 10), ('3', 30)]),
                image('c', "", 50, &[('1', 10)]),
                image('d', "new:1", 1, &[]),
                image('8', "", 1, &[]),
                used,
                held,
                ruled,
            ],
        }
    }

    fn lines(plan: &GcPlan) -> Vec<String> {
        let name = |step: &GcStep| match &step.target {
            GcTarget::Trash => "trash".to_owned(),
            GcTarget::Partial(digest) => format!("partial {}", &digest.short()[..1]),
            GcTarget::BuildCache => "builds".to_owned(),
            GcTarget::Image(image) => format!("image {}", &image.id.short()[..1]),
        };
        plan.steps.iter().map(|step| format!("{} {}: {}", name(step), step.bytes, step.reason)).collect()
    }

    #[test]
    fn least_needed_and_least_used_first() {
        let found = plan(inventory(), &GcSettings { tagged: true, ..GcSettings::default() }, now());
        assert_eq!(
            lines(&found),
            [
                "trash 5: already removed",
                "partial 2 7: a download that was cut short",
                "partial 1 7: a download that was cut short",
                "builds 9: builds can make it again",
                "image c 0: no tag, last used 2d ago",
                "image b 30: no tag, last used 30h ago",
                "image a 30: not used by any container, last used 4d ago",
            ],
            "the layer that three share goes with the last"
        );
    }

    #[test]
    fn what_is_needed_stays_and_says_why() {
        let found = plan(inventory(), &GcSettings::default(), now());
        let kept: Vec<String> =
            found.kept.iter().map(|kept| format!("{} {}", &kept.image.id.short()[..1], kept.reason)).collect();
        assert_eq!(
            kept,
            [
                "a it has a tag, and tagged images don't go (setting \"tagged\")",
                "d it has a tag, and tagged images don't go (setting \"tagged\")",
                "8 it was used 1h ago",
                "e 1 container uses it",
                "f a container is being made from it",
                "9 the rule \"reg/*\" keeps it",
            ]
        );
    }
}
