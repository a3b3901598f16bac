//! Devices, their limits, and GPUs.

use std::collections::BTreeMap;

use skep_wire::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};

use crate::cli::csv;
use crate::cli::flags::FlagValue;
use crate::cli::value::read_size;

/// Reads all `--device`: paths of the host, and names of the Container Device Interface.
pub(crate) fn parse(devices: &[String]) -> Result<(Vec<DeviceMapping>, Vec<DeviceRequest>), String> {
    let (cdi, paths): (Vec<&String>, Vec<&String>) = devices.iter().partition(|device| is_cdi_name(device));
    let mappings = paths.into_iter().map(|device| mapping(device)).collect::<Result<_, _>>()?;
    let mut requests = Vec::new();
    if !cdi.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: cdi.into_iter().cloned().collect(),
            ..DeviceRequest::default()
        });
    }
    Ok((mappings, requests))
}

/// `vendor.com/class=name`.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':'))
    };
    word(vendor) && word(class) && word(name)
}

fn mapping(text: &str) -> Result<DeviceMapping, String> {
    let device = |host: &str, container: &str, mode: &str| DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    };
    let parsed = match text.split(':').collect::<Vec<_>>().as_slice() {
        [path] => device(path, path, "rwm"),
        [path, mode] if is_mode(mode) => device(path, path, mode),
        [host, container] => device(host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => device(host, container, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    for path in [&parsed.path_on_host, &parsed.path_in_container] {
        if path.is_empty() {
            return Err(format!("bad format for path: {text}"));
        }
        if !path.starts_with('/') {
            return Err(format!("{path} is not an absolute path"));
        }
    }
    Ok(parsed)
}

/// Each of `r`, `w`, `m` at most once.
fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|c| matches!(c, b'r' | b'w' | b'm'))
        && "rwm".chars().all(|letter| text.matches(letter).count() <= 1)
}

/// `--device-cgroup-rule 'c 1:3 rwm'`.
#[derive(Debug, Default)]
pub(crate) struct DeviceRules(pub(crate) Vec<String>);

impl FlagValue for DeviceRules {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()));
        let good = match text.split(' ').collect::<Vec<_>>().as_slice() {
            ["a" | "b" | "c", numbers, mode] => {
                numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                    && (1..=3).contains(&mode.len())
                    && mode.bytes().all(|c| matches!(c, b'r' | b'w' | b'm'))
            }
            _ => false,
        };
        if !good {
            return Err(format!("invalid device cgroup format '{text}'"));
        }
        self.0.push(text.to_owned());
        Ok(())
    }
}

/// `--blkio-weight-device path:weight`.
#[derive(Debug, Default)]
pub(crate) struct WeightDevices(pub(crate) Vec<WeightDevice>);

impl FlagValue for WeightDevices {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let (path, weight) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
        if !path.starts_with("/dev/") {
            return Err(format!("bad format for device path: {text}"));
        }
        let weight: u16 = weight.parse().map_err(|_| format!("invalid weight for device: {text}"))?;
        if weight != 0 && !(10..=1000).contains(&weight) {
            return Err(format!("invalid weight for device: {text}"));
        }
        self.0.push(WeightDevice { path: path.to_owned(), weight });
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        Some("[]".to_owned())
    }
}

/// `--device-read-bps path:rate` and its three brothers; `BYTES` rates may have a unit.
#[derive(Debug, Default)]
pub(crate) struct Throttles<const BYTES: bool>(pub(crate) Vec<ThrottleDevice>);

impl<const BYTES: bool> FlagValue for Throttles<BYTES> {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let (path, rate) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
        if !path.starts_with("/dev/") {
            return Err(format!("bad format for device path: {text}"));
        }
        let parsed = match BYTES {
            true => read_size(rate).ok().and_then(|size| u64::try_from(size).ok()),
            false => rate.parse().ok(),
        };
        let rate = parsed.ok_or_else(|| match BYTES {
            true => format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
                 positive integer. Unit is optional and can be kb, mb, or gb"
            ),
            false => format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive \
                 integer"
            ),
        })?;
        self.0.push(ThrottleDevice { path: path.to_owned(), rate });
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        Some("[]".to_owned())
    }
}

/// `--gpus all`, `--gpus 2`, `--gpus device=0,capabilities=utility`.
#[derive(Debug, Default)]
pub(crate) struct Gpus(pub(crate) Vec<DeviceRequest>);

impl FlagValue for Gpus {
    const TYPE: &'static str = "gpu-request";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let mut request = DeviceRequest::default();
        let mut capabilities = vec!["gpu".to_owned()];
        let mut seen = BTreeMap::new();
        for field in csv::fields(text)? {
            let (key, value) = field.split_once('=').unwrap_or(("count", &field));
            if seen.insert(key.to_owned(), ()).is_some() {
                return Err(format!("gpu request key '{key}' can be specified only once"));
            }
            match key {
                "driver" => value.clone_into(&mut request.driver),
                "count" if value == "all" => request.count = -1,
                "count" => {
                    request.count = value.parse().map_err(|_| {
                        format!("invalid count ({value}): value must be either \"all\" or an integer: strconv.Atoi: parsing {value:?}: invalid syntax")
                    })?;
                }
                "device" => request.device_ids = value.split(',').map(str::to_owned).collect(),
                "capabilities" => capabilities.extend(value.split(',').map(str::to_owned)),
                "options" => {
                    for option in csv::fields(value)? {
                        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
                        request.options.insert(name.to_owned(), value.to_owned());
                    }
                }
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        if request.count == 0 && request.device_ids.is_empty() {
            request.count = 1;
        }
        request.capabilities = vec![capabilities];
        self.0.push(request);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_paths_and_modes() {
        let (mappings, requests) =
            parse(&["/dev/null".into(), "/dev/a:/dev/b:r".into(), "/dev/c:rw".into(), "v.com/gpu=0".into()])
                .expect("good");
        let shown: Vec<String> = mappings
            .iter()
            .map(|d| format!("{} {} {}", d.path_on_host, d.path_in_container, d.cgroup_permissions))
            .collect();
        assert_eq!(shown, ["/dev/null /dev/null rwm", "/dev/a /dev/b r", "/dev/c /dev/c rw"]);
        assert_eq!(requests[0].device_ids, ["v.com/gpu=0"]);
        for (text, error) in [
            ("x", "x is not an absolute path"),
            ("/dev/a:/dev/b:x", "bad mode specified: x"),
            ("a:b:c:d", "invalid device specification: a:b:c:d"),
        ] {
            assert_eq!(parse(&[text.into()]).expect_err(text), error);
        }
    }

    #[test]
    fn rules_and_rates() {
        assert!(DeviceRules::default().set("c 1:* rwm").is_ok());
        assert_eq!(DeviceRules::default().set("x"), Err("invalid device cgroup format 'x'".into()));
        let mut throttles = Throttles::<true>::default();
        throttles.set("/dev/sda:1mb").expect("good");
        assert_eq!(throttles.0[0].rate, 1 << 20);
        assert!(Throttles::<false>::default().set("/dev/sda:1mb").is_err());
        assert_eq!(Gpus::default().set("foo=x"), Err("unexpected key 'foo' in 'foo=x'".into()));
        let mut gpus = Gpus::default();
        gpus.set("all").expect("good");
        assert_eq!((gpus.0[0].count, gpus.0[0].capabilities[0].as_slice()), (-1, &["gpu".to_owned()][..]));
    }
}
