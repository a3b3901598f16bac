//! List-like options that are checked word by word: hosts, addresses, links, streams, limits, kernel parameters.

use std::collections::BTreeMap;
use std::net::IpAddr;

use skep_wire::Ulimit;

use crate::cli::flags::FlagValue;

/// `--add-host name:address` or `name=address`.
#[derive(Debug, Default)]
pub(crate) struct ExtraHosts(pub(crate) Vec<String>);

impl FlagValue for ExtraHosts {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((name, address)) = parts.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("bad format for add-host: {text:?}"));
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address in add-host: {bare:?}"));
        }
        self.0.push(format!("{name}:{bare}"));
        Ok(())
    }
}

/// A list of IP addresses.
#[derive(Debug, Default)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

impl FlagValue for Addresses {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let address: IpAddr =
            text.trim().parse().map_err(|_| format!("IP address is not correctly formatted: {text}"))?;
        self.0.push(address.to_string());
        Ok(())
    }
}

/// `--dns-search`.
#[derive(Debug, Default)]
pub(crate) struct DnsSearch(pub(crate) Vec<String>);

impl FlagValue for DnsSearch {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let domain = text.trim();
        let good = domain == "." || is_domain(domain);
        if !good {
            return Err(format!("{domain} is not a valid domain"));
        }
        self.0.push(if domain == "." { domain } else { domain.strip_suffix('.').unwrap_or(domain) }.to_owned());
        Ok(())
    }
}

fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    text.len() <= 255 && text.bytes().any(|c| c.is_ascii_alphabetic()) && text.split('.').all(label)
}

/// `--link name[:alias]`.
#[derive(Debug, Default)]
pub(crate) struct Links(pub(crate) Vec<String>);

impl FlagValue for Links {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let bad = || format!("bad format for links: {text}");
        if text.is_empty() {
            return Err("empty string specified for links".to_owned());
        }
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [_] | [_, _] => self.0.push(text.to_owned()),
            _ => return Err(bad()),
        }
        Ok(())
    }
}

/// `--attach`.
#[derive(Debug, Default)]
pub(crate) struct Attach(pub(crate) Vec<String>);

impl FlagValue for Attach {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let stream = text.to_lowercase();
        if !matches!(stream.as_str(), "stdin" | "stdout" | "stderr") {
            return Err("valid streams are STDIN, STDOUT and STDERR".to_owned());
        }
        self.0.push(stream);
        Ok(())
    }
}

impl Attach {
    pub(crate) fn has(&self, stream: &str) -> bool {
        self.0.iter().any(|known| known == stream)
    }
}

/// `--ulimit name=soft[:hard]`.
#[derive(Debug, Default)]
pub(crate) struct Ulimits(pub(crate) BTreeMap<String, Ulimit>);

const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl FlagValue for Ulimits {
    const TYPE: &'static str = "ulimit";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let ulimit = parse_ulimit(text)?;
        self.0.insert(ulimit.name.clone(), ulimit);
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        Some("[]".to_owned())
    }
}

pub(crate) fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !LIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number =
        |text: &str| text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    let (soft, hard) = match values.split(':').collect::<Vec<_>>().as_slice() {
        [both] => (number(both)?, number(both)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => return Err(format!("too many limit value arguments - {values}, can only have up to two, `soft[:hard]`")),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(match soft {
            -1 => format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            ),
            _ => format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"),
        });
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `--sysctl name=value`: only what a namespace keeps to itself.
#[derive(Debug, Default)]
pub(crate) struct Sysctls(pub(crate) BTreeMap<String, String>);

const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];
const SYSCTL_PREFIXES: [&str; 2] = ["net.", "fs.mqueue."];

impl FlagValue for Sysctls {
    const TYPE: &'static str = "map";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let allowed =
            |name: &str| SYSCTLS.contains(&name) || SYSCTL_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        match text.split_once('=') {
            Some((name, value)) if allowed(name) => {
                self.0.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
            _ => Err(format!("sysctl '{text}' is not allowed")),
        }
    }

    fn default_text(&self) -> Option<String> {
        Some("map[]".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: FlagValue + Default>(text: &str) -> Result<T, String> {
        let mut value = T::default();
        value.set(text).map(|()| value)
    }

    #[test]
    fn hosts() {
        for (text, stored) in [
            ("a:1.2.3.4", "a:1.2.3.4"),
            ("a=1.2.3.4", "a:1.2.3.4"),
            ("a:::1", "a:::1"),
            ("a=[::1]", "a:::1"),
            ("h:host-gateway", "h:host-gateway"),
        ] {
            assert_eq!(set::<ExtraHosts>(text).expect(text).0, [stored]);
        }
        assert_eq!(set::<ExtraHosts>("foo").expect_err("bad"), "bad format for add-host: \"foo\"");
        assert_eq!(set::<ExtraHosts>("foo:x").expect_err("bad"), "invalid IP address in add-host: \"x\"");
    }

    #[test]
    fn ulimits() {
        let limits = set::<Ulimits>("nofile=1024:2048").expect("good").0;
        assert_eq!(limits["nofile"], Ulimit { name: "nofile".into(), soft: 1024, hard: 2048 });
        assert!(set::<Ulimits>("memlock=-1").is_ok());
        for (text, error) in [
            ("x", "invalid ulimit argument: x"),
            ("foo=1", "invalid ulimit type: foo"),
            ("nofile=5:3", "ulimit soft limit must be less than or equal to hard limit: 5 > 3"),
            ("nofile=a", "strconv.ParseInt: parsing \"a\": invalid syntax"),
        ] {
            assert_eq!(set::<Ulimits>(text).expect_err(text), error);
        }
    }

    #[test]
    fn kernel_parameters() {
        assert!(set::<Sysctls>("net.ipv4.ip_forward=1").is_ok());
        assert_eq!(set::<Sysctls>("x").expect_err("bad"), "sysctl 'x' is not allowed");
        assert_eq!(set::<Sysctls>("kernel.panic=1").expect_err("bad"), "sysctl 'kernel.panic=1' is not allowed");
    }

    #[test]
    fn other_lists() {
        assert_eq!(set::<Attach>("foo").expect_err("bad"), "valid streams are STDIN, STDOUT and STDERR");
        assert_eq!(set::<Addresses>("x").expect_err("bad"), "IP address is not correctly formatted: x");
        assert_eq!(set::<Links>("a:b:c").expect_err("bad"), "bad format for links: a:b:c");
        for (text, stored) in [("example.com", "example.com"), (".", "."), (" a.b. ", "a.b")] {
            assert_eq!(set::<DnsSearch>(text).expect(text).0, [stored]);
        }
        for text in ["-x", "a_b.c", "a..b", "1.2", ""] {
            assert_eq!(set::<DnsSearch>(text).expect_err(text), format!("{text} is not a valid domain"));
        }
    }
}
