//! Ports of a container as `ps` shows them: neighbours drawn together.

use skep_wire::Port;

/// A run of ports on the same address with the same protocol.
struct Run<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Run<'_> {
    fn text(&self) -> String {
        let range = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.ip {
            "" => format!("{range}/{}", self.protocol),
            ip => format!("{}->{range}/{}", join_host_port(ip, &range), self.protocol),
        }
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`. Ports published under their own number are drawn together to ranges; those published
/// under another number come last, one by one.
pub(crate) fn display(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.protocol).cmp(&(b.private_port, &b.ip, b.public_port, &b.protocol))
    });
    let mut shown = Vec::new();
    let mut open: Vec<Run<'_>> = Vec::new();
    let mut mapped = Vec::new();
    for port in sorted {
        let number = port.private_port;
        if !port.ip.is_empty() && port.public_port != number {
            let host = join_host_port(&port.ip, &port.public_port.to_string());
            mapped.push(format!("{host}->{number}/{}", port.protocol));
            continue;
        }
        let fresh = Run { ip: &port.ip, protocol: &port.protocol, first: number, last: number };
        match open.iter_mut().find(|run| run.ip == fresh.ip && run.protocol == fresh.protocol) {
            None => open.push(fresh),
            Some(run) if run.last.checked_add(1) == Some(number) => run.last = number,
            Some(run) => shown.push(std::mem::replace(run, fresh).text()),
        }
    }
    shown.extend(open.iter().map(Run::text));
    shown.append(&mut mapped);
    shown.join(", ")
}

/// `ip:port`, an IPv6 address in brackets.
pub(crate) fn join_host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16, protocol: &str) -> Port {
        Port { ip: ip.into(), private_port, public_port, protocol: protocol.into() }
    }

    #[test]
    fn neighbours_are_drawn_together() {
        for (ports, text) in [
            (vec![], ""),
            (vec![port("", 0, 80, "tcp")], "80/tcp"),
            (vec![port("0.0.0.0", 8080, 80, "tcp")], "0.0.0.0:8080->80/tcp"),
            (
                vec![port("::", 8080, 80, "tcp"), port("0.0.0.0", 8080, 80, "tcp")],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![port("", 0, 82, "tcp"), port("", 0, 80, "tcp"), port("", 0, 81, "tcp"), port("", 0, 81, "udp")],
                "80-82/tcp, 81/udp",
            ),
            (
                vec![port("1.2.3.4", 80, 80, "tcp"), port("1.2.3.4", 81, 81, "tcp"), port("1.2.3.4", 90, 83, "tcp")],
                "1.2.3.4:80-81->80-81/tcp, 1.2.3.4:90->83/tcp",
            ),
            (vec![port("", 0, 1, "tcp"), port("", 0, 5, "tcp"), port("", 0, 65535, "tcp")], "1/tcp, 5/tcp, 65535/tcp"),
        ] {
            assert_eq!(display(&ports), text);
        }
    }
}
