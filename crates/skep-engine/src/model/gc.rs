//! The garbage collection that runs by itself: its settings, what it has found, what it would do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::Digest;

use super::image::ImageId;

/// Settings of the garbage collection.
#[derive(Debug, Clone, PartialEq)]
pub struct GcSettings {
    /// It runs by itself.
    pub enabled: bool,
    /// It begins when less than this is free where the data root is.
    pub low: FreeSpace,
    /// It ends when this is free.
    pub high: FreeSpace,
    /// Images that were used since then stay.
    pub min_age: Duration,
    /// Images that stay: patterns of names as in `images --filter reference=`, or `label=KEY[=VALUE]`.
    pub keep: Vec<String>,
    /// Images with a tag that no container uses may go, too.
    pub tagged: bool,
    /// Time between two looks at the free space.
    pub interval: Duration,
    /// What becomes of the cache of builds.
    pub builds: BuildGcSettings,
}

/// What becomes of the cache of builds, besides what goes when the disk runs full.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildGcSettings {
    /// It is collected by itself, after builds.
    pub enabled: bool,
    /// What goes, one after the other; BuildKit's defaults if there are none.
    pub policies: Vec<BuildGcPolicy>,
    /// So much always stays.
    pub reserved: Option<FreeSpace>,
    /// At most so much stays.
    pub max_used: Option<FreeSpace>,
    /// So much of the disk is to be free.
    pub min_free: Option<FreeSpace>,
}

impl Default for BuildGcSettings {
    fn default() -> Self {
        BuildGcSettings { enabled: true, policies: Vec::new(), reserved: None, max_used: None, min_free: None }
    }
}

/// One policy of daemon.json's `builder.gc.policy`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BuildGcPolicy {
    /// Also what is shared, internal or a frontend's.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Duration,
    /// Fields and values that all have to hold.
    pub filters: Vec<(String, String)>,
    /// So much always stays.
    pub reserved: Option<FreeSpace>,
    /// At most so much stays.
    pub max_used: Option<FreeSpace>,
    /// So much of the disk is to be free.
    pub min_free: Option<FreeSpace>,
}

impl Default for GcSettings {
    fn default() -> Self {
        GcSettings {
            enabled: true,
            low: FreeSpace::Percent(5),
            high: FreeSpace::Percent(10),
            min_age: Duration::from_secs(24 * 3600),
            keep: Vec::new(),
            tagged: false,
            interval: Duration::from_secs(60),
            builds: BuildGcSettings::default(),
        }
    }
}

/// An amount of free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeSpace {
    /// Of the file system's size.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl GcSettings {
    /// What is wrong with these settings.
    pub fn check(&self) -> Result<(), String> {
        for rule in self.keep.iter().filter(|rule| !rule.starts_with("label=")) {
            crate::images::pattern::matches(rule, "")
                .map_err(|_| format!("invalid pattern of images to keep: {rule}"))?;
        }
        for policy in &self.builds.policies {
            crate::gc::builds::filter(&policy.filters)?;
        }
        let upside_down = match (self.low, self.high) {
            (FreeSpace::Percent(low), FreeSpace::Percent(high)) => low > high,
            (FreeSpace::Bytes(low), FreeSpace::Bytes(high)) => low > high,
            // Which is more depends on the disk; see `high_bytes`.
            (FreeSpace::Percent(_), FreeSpace::Bytes(_)) | (FreeSpace::Bytes(_), FreeSpace::Percent(_)) => false,
        };
        match upside_down {
            true => {
                Err(format!("the free space to stop at ({}) is less than that to begin at ({})", self.high, self.low))
            }
            false => Ok(()),
        }
    }

    /// Bytes to stop at on a file system of this size: never less than those to begin at.
    pub fn high_bytes(&self, total: u64) -> u64 {
        self.high.bytes(total).max(self.low.bytes(total))
    }
}

impl FreeSpace {
    /// Bytes on a file system of this size.
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            FreeSpace::Percent(percent) => total / 100 * u64::from(percent),
            FreeSpace::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for FreeSpace {
    type Err = String;

    /// `10%`, `5GB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("invalid amount of free space: {text} (want a percentage below 100, or a size like 5GB)");
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|percent| *percent < 100).map(FreeSpace::Percent).ok_or_else(invalid)
            }
            None => {
                let bytes = skep_types::parse_bytes(text).ok().and_then(|bytes| u64::try_from(bytes).ok());
                bytes.map(FreeSpace::Bytes).ok_or_else(invalid)
            }
        }
    }
}

impl fmt::Display for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FreeSpace::Percent(percent) => write!(f, "{percent}%"),
            FreeSpace::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

/// An image, and what decides about it.
#[derive(Debug, Clone, PartialEq)]
pub struct GcImage {
    /// Its id.
    pub id: ImageId,
    /// Tags, as people write them.
    pub tags: Vec<String>,
    /// `name@digest`, as people write them.
    pub digests: Vec<String>,
    /// How many containers use it, stopped ones too.
    pub containers: usize,
    /// A container is being made from it.
    pub held: bool,
    /// The rule that it stays by.
    pub kept_by: Option<String>,
    /// When a container was last made of it or removed, or it came.
    pub last_used: DateTime<Utc>,
    /// Its layers and their bytes.
    pub layers: Vec<(ChainId, u64)>,
}

/// The file system of the data root, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Its size.
    pub total: u64,
    /// What is free for the daemon.
    pub free: u64,
}

/// A thing that can go.
#[derive(Debug, Clone, PartialEq)]
pub enum GcTarget {
    /// What was thrown away and not yet deleted.
    Trash,
    /// A download that was cut short.
    Partial(Digest),
    /// What builds keep, as much of it as is needed.
    BuildCache,
    /// An image.
    Image(Box<GcImage>),
}

/// Something that goes, or would.
#[derive(Debug, Clone, PartialEq)]
pub struct GcStep {
    /// What.
    pub target: GcTarget,
    /// Bytes that it gives back, as far as can be told.
    pub bytes: u64,
    /// Why it may go.
    pub reason: String,
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq)]
pub struct GcKept {
    /// The image.
    pub image: GcImage,
    /// Why it stays.
    pub reason: String,
}

/// What would go, first things first, and what stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GcPlan {
    /// In this order, until enough is free.
    pub steps: Vec<GcStep>,
    /// Never.
    pub kept: Vec<GcKept>,
}

/// What a collection has done, or would do.
#[derive(Debug, Clone, PartialEq)]
pub struct GcReport {
    /// The disk, before.
    pub before: DiskSpace,
    /// The disk, after.
    pub after: DiskSpace,
    /// Bytes that have to be free, so that it does not begin.
    pub low: u64,
    /// Bytes that have to be free, so that it ends.
    pub high: u64,
    /// What went; of a dry run all that may go.
    pub steps: Vec<GcStep>,
    /// What stays.
    pub kept: Vec<GcKept>,
    /// Bytes that compacting the database gave back.
    pub compacted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let check = |settings: GcSettings| settings.check().err().unwrap_or_default();
        assert_eq!(check(GcSettings::default()), "");
        let upside_down = GcSettings { low: FreeSpace::Percent(20), ..GcSettings::default() };
        assert_eq!(check(upside_down), "the free space to stop at (10%) is less than that to begin at (20%)");
        let mixed = GcSettings { low: FreeSpace::Bytes(500), ..GcSettings::default() };
        assert_eq!((check(mixed.clone()).as_str(), mixed.high_bytes(1000)), ("", 500));
        let keep = vec!["label=[".to_owned(), "reg/[".to_owned()];
        assert_eq!(check(GcSettings { keep, ..GcSettings::default() }), "invalid pattern of images to keep: reg/[");
    }

    #[test]
    fn amounts_are_percentages_or_sizes() {
        assert_eq!("10%".parse(), Ok(FreeSpace::Percent(10)));
        assert_eq!(
            "5kB".parse::<FreeSpace>().map(|space| space.bytes(0)),
            "5kB".parse::<FreeSpace>().map(|s| s.bytes(9))
        );
        assert_eq!(FreeSpace::Percent(10).bytes(2000), 200);
        for bad in ["", "100%", "-1%", "x", "-5"] {
            assert!(bad.parse::<FreeSpace>().is_err(), "{bad}");
        }
    }
}
