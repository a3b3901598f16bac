//! Which image of an index runs on which machine (the rules of containerd's platforms package), and what to tell a user whose
//! image was made for another machine.

use skep_registry::{Descriptor, Index};
use skep_types::Platform;

/// The best manifest of the index for `wished`.
pub(crate) fn choose<'a>(index: &'a Index, wished: &Platform) -> Option<&'a Descriptor> {
    let rated = index.manifests.iter().filter_map(|m| {
        let offered = m.platform.as_ref()?;
        rate(wished, offered).map(|rate| (rate, m))
    });
    // Of equals the first one: the author's order.
    rated
        .fold(None, |best: Option<(u32, &Descriptor)>, (rate, m)| match best {
            Some((highest, _)) if highest >= rate => best,
            _ => Some((rate, m)),
        })
        .map(|(_, m)| m)
}

/// Whether an image for `offered` runs where `wished` is asked for.
pub(super) fn suits(wished: &Platform, offered: &Platform) -> bool {
    rate(wished, offered).is_some()
}

/// Whether both are the same machine, written in one way or another: `arm64` is `arm64/v8`.
pub(super) fn is_same(one: &Platform, other: &Platform) -> bool {
    let level = |p: &Platform| match p.architecture.as_str() {
        "amd64" => amd64_level(&p.variant),
        "arm" | "arm64" => arm_level(p),
        _ => None,
    };
    let plain = (&one.os, &one.architecture) == (&other.os, &other.architecture);
    plain && (one.variant == other.variant || level(one).is_some_and(|l| level(other) == Some(l)))
}

/// How well `offered` serves `wished`; more is better, nothing means not at all.
pub(super) fn rate(wished: &Platform, offered: &Platform) -> Option<u32> {
    if wished.os != offered.os {
        return None;
    }
    match (wished.architecture.as_str(), offered.architecture.as_str()) {
        ("amd64", "386") => Some(0),
        ("amd64", "amd64") => {
            let (level, most) = (amd64_level(&offered.variant)?, amd64_level(&wished.variant)?);
            // Without a wish for a level the plainest image, which runs on all processors, is the best.
            let rate = if wished.variant.is_empty() { 10 - level } else { level };
            (wished.variant.is_empty() || level <= most).then_some(rate)
        }
        ("arm64", "arm") => (offered.variant.is_empty() || arm_level(offered)? <= 8).then_some(0),
        ("arm64" | "arm", architecture) if architecture == wished.architecture => {
            let (level, most) = (arm_level(offered)?, arm_level(wished)?);
            (level <= most).then_some(1 + level)
        }
        (wish, offer) => (wish == offer && wished.variant == offered.variant).then_some(1),
    }
}

fn amd64_level(variant: &str) -> Option<u32> {
    match variant {
        "" => Some(1),
        text => text.strip_prefix('v')?.parse().ok().filter(|level| (1..=9).contains(level)),
    }
}

fn arm_level(platform: &Platform) -> Option<u32> {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("arm64", "") => Some(8),
        (_, "") => Some(7),
        (_, text) => text.strip_prefix('v')?.split('.').next()?.parse().ok(),
    }
}

/// Docker's words for an image that the host may not be able to run.
pub(super) fn warning(image: &Platform) -> Option<String> {
    let host = Platform::host();
    if suits(&host, image) {
        return None;
    }
    let host = Platform { variant: host_variant(&host), ..host };
    Some(format!(
        "The requested image's platform ({image}) does not match the detected host platform ({host}) and no specific \
         platform was requested"
    ))
}

/// The variant that Docker shows for the host: the level of an x86-64 processor (psABI), else what is known.
fn host_variant(host: &Platform) -> String {
    #[cfg(target_arch = "x86_64")]
    if host.architecture == "amd64" {
        use std::arch::is_x86_feature_detected as has;
        let v2 =
            has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt") && has!("cmpxchg16b");
        let v3 = v2
            && has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("f16c")
            && has!("fma")
            && has!("lzcnt")
            && has!("movbe");
        let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        let level = if v4 {
            "v4"
        } else if v3 {
            "v3"
        } else if v2 {
            "v2"
        } else {
            "v1"
        };
        return level.to_owned();
    }
    host.variant.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    fn chosen(wished: &str, offered: &[&str]) -> Option<String> {
        let digest =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().expect("a digest");
        let manifests = offered.iter().map(|text| Descriptor {
            media_type: String::new(),
            digest,
            size: 0,
            platform: (!text.is_empty()).then(|| platform(text)),
            annotations: Default::default(),
        });
        let index = Index { manifests: manifests.collect() };
        choose(&index, &platform(wished)).and_then(|m| m.platform.as_ref()).map(Platform::to_string)
    }

    #[test]
    fn the_best_of_an_index() {
        let all = ["unknown/unknown", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64", "linux/amd64/v3"];
        for (wished, want) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64/v3")),
            ("linux/amd64/v2", Some("linux/amd64")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm64", Some("linux/arm64")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v5", None),
            ("linux/s390x", None),
            ("windows/amd64", None),
        ] {
            assert_eq!(chosen(wished, &all).as_deref(), want, "{wished}");
        }
        assert_eq!(chosen("linux/amd64", &["linux/386"]).as_deref(), Some("linux/386"));
        assert_eq!(chosen("linux/amd64", &["linux/386", "linux/amd64/v2"]).as_deref(), Some("linux/amd64/v2"));
        assert_eq!(chosen("linux/amd64", &["", "unknown/unknown"]), None);
    }

    #[test]
    fn a_foreign_image_is_warned_of() {
        assert_eq!(warning(&Platform::host()), None);
        let text = warning(&platform("linux/riscv64")).expect("a warning");
        assert!(text.starts_with(
            "The requested image's platform (linux/riscv64) does not match the detected host platform (linux/"
        ));
    }
}
