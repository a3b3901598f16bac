//! `EXPOSE`: ports, ranges, protocols; what is written of the host's side is checked and dropped.

use crate::error::{BuildError, Result};

/// The ports that the words of an instruction name, as `PORT/PROTOCOL`.
///
/// # Errors
/// A word that is no port.
pub(crate) fn ports(words: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for word in words {
        let mut parts = word.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (port, protocol) = split(container)?;
        let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
            return Err(BuildError::invalid(format!("invalid IP address: {address}")));
        }
        let (first, last) = range(port).ok_or_else(|| BuildError::invalid(format!("invalid containerPort: {port}")))?;
        if !host.is_empty() {
            let (from, to) = range(host).ok_or_else(|| BuildError::invalid(format!("invalid hostPort: {host}")))?;
            if to - from != last - first && first != last {
                let text = format!("invalid ranges specified for container and host Ports: {port} and {host}");
                return Err(BuildError::invalid(text));
            }
        }
        all.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(all)
}

fn split(text: &str) -> Result<(&str, String)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, ""));
    if port.is_empty() {
        return Err(BuildError::invalid(format!("no port specified: {text}<empty>")));
    }
    match protocol.to_lowercase().as_str() {
        "" => Ok((port, "tcp".to_owned())),
        known @ ("tcp" | "udp" | "sctp") => Ok((port, known.to_owned())),
        other => Err(BuildError::invalid(format!("invalid proto: {other}"))),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_ports() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            ports(&words).map_err(|error| error.message)
        };
        assert_eq!(
            of(&["80", "53/UDP", "90-92/sctp"]).expect("ports").join(" "),
            "80/tcp 53/udp 90/sctp 91/sctp 92/sctp"
        );
        assert_eq!(
            of(&["127.0.0.1:8080:80", "[::1]:81:81", "82:82"]).expect("ports").join(" "),
            "80/tcp 81/tcp 82/tcp"
        );
        assert_eq!(of(&["x"]), Err("invalid containerPort: x".to_owned()));
        assert_eq!(of(&["5-4"]), Err("invalid containerPort: 5-4".to_owned()));
        assert_eq!(of(&["80/icmp"]), Err("invalid proto: icmp".to_owned()));
        assert_eq!(of(&["/tcp"]), Err("no port specified: /tcp<empty>".to_owned()));
        assert_eq!(of(&["99999"]), Err("invalid containerPort: 99999".to_owned()));
        assert_eq!(of(&["1.2.3:80:80"]), Err("invalid IP address: 1.2.3".to_owned()));
    }
}
