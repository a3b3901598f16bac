//! Block devices: `blkio` in v1, `io` in v2.

use super::{Limit, Otherwise, Setting, Step};
use crate::cgroup::{Controllers, Error, Result, Version};
use crate::spec::{BlockIo, ThrottleDevice};

const CONTROLLER: Controllers = Controllers::BLKIO;

pub(super) fn steps(io: &BlockIo, version: Version, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        steps.push(weight_step(check(weight)?, None, version));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        steps.push(match version {
            Version::V1 => Step::write(Limit::BlkioWeight, CONTROLLER, "blkio.leaf_weight", weight),
            Version::V2 => Step::Missing(Limit::BlkioWeight, weight.to_string()),
        });
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            steps.push(weight_step(check(weight)?, Some((device.major, device.minor)), version));
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight != 0) {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            steps.push(match version {
                Version::V1 => Step::write(Limit::BlkioWeight, CONTROLLER, "blkio.leaf_weight_device", value),
                Version::V2 => Step::Missing(Limit::BlkioWeight, value),
            });
        }
    }
    let rates: [(&[ThrottleDevice], &'static str, &str); 4] = [
        (&io.throttle_read_bps_device, "blkio.throttle.read_bps_device", "rbps"),
        (&io.throttle_write_bps_device, "blkio.throttle.write_bps_device", "wbps"),
        (&io.throttle_read_iops_device, "blkio.throttle.read_iops_device", "riops"),
        (&io.throttle_write_iops_device, "blkio.throttle.write_iops_device", "wiops"),
    ];
    for (devices, v1_file, v2_key) in rates {
        for ThrottleDevice { major, minor, rate } in devices {
            steps.push(match (version, rate) {
                (Version::V1, rate) => {
                    Step::write(Limit::BlkioThrottle, CONTROLLER, v1_file, format!("{major}:{minor} {rate}"))
                }
                // 0 takes a limit away, in v1's way of saying it.
                (Version::V2, 0) => {
                    Step::write(Limit::BlkioThrottle, CONTROLLER, "io.max", format!("{major}:{minor} {v2_key}=max"))
                }
                (Version::V2, rate) => {
                    Step::write(Limit::BlkioThrottle, CONTROLLER, "io.max", format!("{major}:{minor} {v2_key}={rate}"))
                }
            });
        }
    }
    Ok(())
}

/// A weight for BFQ, the only scheduler with weights in current kernels; or else in the file of schedulers before it (v1), or of
/// the iocost controller (v2).
fn weight_step(weight: u16, device: Option<(i64, i64)>, version: Version) -> Step {
    let value = |weight: u64| match device {
        Some((major, minor)) => format!("{major}:{minor} {weight}"),
        None => weight.to_string(),
    };
    let (file, other_file, other_value) = match (version, device) {
        (Version::V1, None) => ("blkio.bfq.weight", "blkio.weight", value(weight.into())),
        (Version::V1, Some(_)) => ("blkio.bfq.weight_device", "blkio.weight_device", value(weight.into())),
        (Version::V2, _) => ("io.bfq.weight", "io.weight", value(io_weight(weight))),
    };
    let otherwise = Otherwise::Write(other_file.into(), other_value);
    Step::Write(Setting { otherwise, ..Setting::new(Limit::BlkioWeight, CONTROLLER, file, value(weight.into())) })
}

/// From 10 to 1000 to `io.weight`'s 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

fn check(weight: u16) -> Result<u16> {
    match weight {
        10..=1000 => Ok(weight),
        _ => Err(Error::Invalid { limit: Limit::BlkioWeight, reason: format!("{weight} is not between 10 and 1000") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::tests::lines;
    use crate::spec::WeightDevice;

    #[test]
    fn weights_and_rates() {
        let io = BlockIo {
            weight: Some(500),
            weight_device: vec![WeightDevice { major: 8, minor: 0, weight: Some(10), leaf_weight: None }],
            throttle_read_bps_device: vec![ThrottleDevice { major: 8, minor: 16, rate: 1024 }],
            throttle_write_iops_device: vec![ThrottleDevice { major: 8, minor: 16, rate: 0 }],
            ..BlockIo::default()
        };
        let plan = |version| {
            let mut list = Vec::new();
            steps(&io, version, &mut list).unwrap();
            lines(list)
        };
        assert_eq!(
            plan(Version::V1),
            [
                "blkio.bfq.weight=500 else blkio.weight=500",
                "blkio.bfq.weight_device=8:0 10 else blkio.weight_device=8:0 10",
                "blkio.throttle.read_bps_device=8:16 1024",
                "blkio.throttle.write_iops_device=8:16 0",
            ]
        );
        assert_eq!(
            plan(Version::V2),
            [
                "io.bfq.weight=500 else io.weight=4950",
                "io.bfq.weight=8:0 10 else io.weight=8:0 1",
                "io.max=8:16 rbps=1024",
                "io.max=8:16 wiops=max",
            ]
        );
    }

    #[test]
    fn weights_out_of_range() {
        assert!(check(9).is_err() && check(1001).is_err());
        assert_eq!(io_weight(1000), 10_000);
    }
}
