//! The ports of EXPOSE: `80`, `80-90/udp`, and, because old files have them, addresses and ports of the host.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::quote::quoted;

/// A word of EXPOSE in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWords<'w> {
    written: &'w str,
    address: String,
    host: &'w str,
    container: &'w str,
    protocol: String,
}

/// A word that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum ExposeError {
    #[error("invalid port: {}: no port specified", quoted(.0))]
    NoPort(String),
    #[error("invalid port: {}: invalid proto: {protocol}", quoted(.written))]
    Protocol { written: String, protocol: String },
    #[error("invalid IP address: {0}")]
    Address(String),
    #[error("invalid IP address {0}: address {0}:: missing ']' in address")]
    Bracket(String),
    #[error("invalid containerPort: {0}")]
    Container(String),
    #[error("invalid hostPort: {0}")]
    Host(String),
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
}

impl<'w> PortWords<'w> {
    /// Takes a word apart.
    ///
    /// # Errors
    /// There is no port in it, or a protocol that isn't one.
    pub fn new(written: &'w str) -> Result<PortWords<'w>, ExposeError> {
        let mut parts = written.rsplitn(3, ':');
        let last = parts.next().unwrap_or_default();
        let host = parts.next().unwrap_or_default();
        let address = parts.next().unwrap_or_default().to_owned();
        let (container, protocol) = last.split_once('/').unwrap_or((last, ""));
        if container.is_empty() {
            return Err(ExposeError::NoPort(written.to_owned()));
        }
        match protocol.to_lowercase().as_str() {
            "" | "tcp" | "udp" | "sctp" => {}
            other => return Err(ExposeError::Protocol { written: written.to_owned(), protocol: other.to_owned() }),
        }
        Ok(PortWords { written, address, host, container, protocol: protocol.to_owned() })
    }

    /// All of it.
    pub fn written(&self) -> &str {
        self.written
    }

    /// Whether the protocol has capitals.
    pub fn has_capitals(&self) -> bool {
        self.protocol != self.protocol.to_lowercase()
    }

    /// Whether an address or a port of the host is in it, which means nothing here.
    pub fn is_mapping(&self) -> bool {
        !self.address.is_empty() || !self.host.is_empty()
    }

    /// The ports of the container, as `80/tcp`.
    ///
    /// # Errors
    /// Something that isn't a port, a range or an address.
    pub fn ports(&self) -> Result<Vec<String>, ExposeError> {
        let address = match self.address.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| ExposeError::Bracket(self.address.clone()))?,
            None => &self.address,
        };
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            return Err(ExposeError::Address(address.to_owned()));
        }
        let container = range(self.container).ok_or_else(|| ExposeError::Container(self.container.to_owned()))?;
        if !self.host.is_empty() {
            let host = range(self.host).ok_or_else(|| ExposeError::Host(self.host.to_owned()))?;
            // One port may be published from a whole range.
            if container.len() != 1 && container.len() != host.len() {
                return Err(ExposeError::Ranges(self.container.to_owned(), self.host.to_owned()));
            }
        }
        let protocol = if self.protocol.is_empty() { "tcp".to_owned() } else { self.protocol.to_lowercase() };
        Ok(container.map(|port| format!("{port}/{protocol}")).collect())
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(word: &str) -> Result<String, String> {
        let words = PortWords::new(word).map_err(|error| error.to_string())?;
        words.ports().map(|ports| ports.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_ranges_and_mappings() {
        for (word, expected) in [
            ("80", "80/tcp"),
            ("0", "0/tcp"),
            ("80/", "80/tcp"),
            ("53/UDP", "53/udp"),
            ("8-10/sctp", "8/sctp 9/sctp 10/sctp"),
            (":80", "80/tcp"),
            ("1:2", "2/tcp"),
            ("1-2:3-4", "3/tcp 4/tcp"),
            ("1-2:3", "3/tcp"),
            ("1.2.3.4::80", "80/tcp"),
            ("[::1]:1:2", "2/tcp"),
        ] {
            assert_eq!(ports(word).as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn what_docker_says_to_others() {
        for (word, expected) in [
            ("x", "invalid containerPort: x"),
            ("90-80", "invalid containerPort: 90-80"),
            ("80-", "invalid containerPort: 80-"),
            ("-80", "invalid containerPort: -80"),
            ("70000", "invalid containerPort: 70000"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("80:", "invalid port: \"80:\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("80/tcp/udp", "invalid port: \"80/tcp/udp\": invalid proto: tcp/udp"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3.4:80", "invalid hostPort: 1.2.3.4"),
            ("1-3:3-4", "invalid ranges specified for container and host Ports: 3-4 and 1-3"),
            ("1:2:3", "invalid IP address: 1"),
            ("a:b:c:d", "invalid IP address: a:b"),
            ("[x]:1:2", "invalid IP address: x"),
            ("[::1:80", "invalid IP address [:: address [::: missing ']' in address"),
        ] {
            assert_eq!(ports(word).err().as_deref(), Some(expected), "{word}");
        }
    }
}
