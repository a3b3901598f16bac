//! Published and exposed ports.
//!
//! ```text
//! [[ip:]hostPort:]containerPort[/protocol]     each port may be a range "8000-8010"
//! target=80,published=8080,protocol=tcp        the long form
//! ```

use std::net::IpAddr;

use skep_wire::{Empty, PortBinding, PortMap, PortSet};

use crate::cli::csv;
use crate::cli::value::go_reason;

/// Exposed ports and their bindings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) exposed: PortSet,
    pub(crate) bindings: PortMap,
}

/// Reads all `--publish` and `--expose`.
pub(crate) fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for spec in publish {
        let standard = if spec.contains('=') { long_form(spec)? } else { spec.clone() };
        publish_one(&standard, &mut ports)?;
    }
    for spec in expose {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (range, protocol) = split_protocol(spec);
        let (start, end) =
            port_range(range).map_err(|e| format!("invalid range format for --expose: {spec}, error: {e}"))?;
        for port in start..=end {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

fn publish_one(spec: &str, ports: &mut Ports) -> Result<(), String> {
    let (ip, host, container) = split_parts(spec);
    let (container, protocol) = split_protocol(container);
    let ip = match ip.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}: address {ip}:: missing ']' in address"))?,
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (start, end) = port_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        _ => Some(port_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_start, host_end)) = host_range
        && host_end - host_start != end - start
        && start != end
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for port in start..=end {
        let host_port = match host_range {
            None => String::new(),
            // One port of the container, any of a range of the host.
            Some((host_start, host_end)) if start == end && host_start != host_end => {
                format!("{host_start}-{host_end}")
            }
            Some((host_start, _)) => (host_start + (port - start)).to_string(),
        };
        let key = format!("{port}/{protocol}");
        ports.exposed.insert(key.clone(), Empty {});
        let binding = PortBinding { host_ip: ip.to_owned(), host_port };
        ports.bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

/// An address may hold colons of its own: only the last two separate.
fn split_parts(spec: &str) -> (&str, &str, &str) {
    match spec.rsplit_once(':') {
        None => ("", "", spec),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn split_protocol(spec: &str) -> (&str, String) {
    match spec.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol.to_lowercase()),
        Some((port, _)) => (port, "tcp".to_owned()),
        None => (spec, "tcp".to_owned()),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        text.parse::<u16>().map_err(|error| format!("strconv.ParseUint: parsing {text:?}: {}", go_reason(&error)))
    };
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((start, end)) => {
            let (start, end) = (port(start)?, port(end)?);
            if end < start { Err(format!("invalid range specified for port: {text}")) } else { Ok((start, end)) }
        }
    }
}

fn long_form(spec: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), String::new());
    for field in csv::fields(spec)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got '{field}')"))?;
        let slot = match key.to_lowercase().as_str() {
            "target" => &mut target,
            "published" => &mut published,
            "protocol" => &mut protocol,
            "mode" if matches!(value, "ingress" | "host") => continue,
            "mode" => return Err(format!("invalid publish mode value ({value}): must be either 'ingress' or 'host'")),
            other => return Err(format!("invalid field key {other}")),
        };
        value.clone_into(slot);
    }
    let protocol = if protocol.is_empty() { "tcp" } else { &protocol };
    Ok(format!("{published}:{target}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(publish: &[&str]) -> Vec<String> {
        let publish: Vec<String> = publish.iter().map(|&spec| spec.to_owned()).collect();
        let ports = parse(&publish, &[]).unwrap_or_else(|e| panic!("{publish:?}: {e}"));
        ports
            .bindings
            .iter()
            .flat_map(|(port, bindings)| {
                bindings.iter().flatten().map(move |b| format!("{port} <- {}:{}", b.host_ip, b.host_port))
            })
            .collect()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(shown(&["80"]), ["80/tcp <- :"]);
        assert_eq!(shown(&["8080:80/UDP"]), ["80/udp <- :8080"]);
        assert_eq!(shown(&["127.0.0.1:8080:80"]), ["80/tcp <- 127.0.0.1:8080"]);
        assert_eq!(shown(&["127.0.0.1::80"]), ["80/tcp <- 127.0.0.1:"]);
        assert_eq!(shown(&["[::1]:8080:80"]), ["80/tcp <- ::1:8080"]);
        assert_eq!(shown(&["8000-8001:80-81"]), ["80/tcp <- :8000", "81/tcp <- :8001"]);
        assert_eq!(shown(&["8000-8010:80"]), ["80/tcp <- :8000-8010"]);
        assert_eq!(shown(&["80:80", "81:80"]), ["80/tcp <- :80", "80/tcp <- :81"]);
        assert_eq!(shown(&["target=80,published=8080,protocol=udp"]), ["80/udp <- :8080"]);
    }

    #[test]
    fn errors_are_dockers() {
        for (spec, error) in [
            ("abc:def", "invalid containerPort: def"),
            ("80:99999", "invalid containerPort: 99999"),
            ("99999:80", "invalid hostPort: 99999"),
            ("x:80:80", "invalid IP address: x"),
            ("80:", "no port specified: 80:<empty>"),
            ("80:80/foo", "invalid proto: foo"),
            ("1-3:5-6", "invalid ranges specified for container and host Ports: 5-6 and 1-3"),
            ("80:90-85", "invalid containerPort: 90-85"),
            ("[::1:80:80", "invalid IP address [::1: address [::1:: missing ']' in address"),
            ("published=80", "no port specified: 80:/tcp<empty>"),
            ("target=80,foo", "invalid publish opts format (should be name=value but got 'foo')"),
            ("target=80,mode=foo", "invalid publish mode value (foo): must be either 'ingress' or 'host'"),
        ] {
            assert_eq!(parse(&[spec.to_owned()], &[]), Err(error.to_owned()), "{spec}");
        }
        assert_eq!(
            parse(&[], &["99999999".to_owned()]),
            Err("invalid range format for --expose: 99999999, error: \
                 strconv.ParseUint: parsing \"99999999\": value out of range"
                .to_owned())
        );
    }

    #[test]
    fn exposed_ports_need_no_binding() {
        let ports = parse(&[], &["80-81/udp".to_owned()]).expect("good");
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ["80/udp", "81/udp"]);
        assert!(ports.bindings.is_empty());
    }
}
