//! The text of a container's `/etc/hosts`.

use std::fmt::Write;
use std::net::IpAddr;

const LOOPBACK: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// The text of `/etc/hosts`: loopback names, then `extra` (`--add-host`), then the container's own `addresses` with
/// `hostname` and, if there is one, the name with its domain before it.
pub fn hosts_file(hostname: &str, domain: &str, addresses: &[IpAddr], extra: &[(String, IpAddr)]) -> String {
    let mut text = LOOPBACK.to_owned();
    for (name, ip) in extra {
        let _ = writeln!(text, "{ip}\t{name}");
    }
    for ip in addresses {
        let _ = match domain {
            "" => writeln!(text, "{ip}\t{hostname}"),
            domain => writeln!(text, "{ip}\t{hostname}.{domain} {hostname}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_name_comes_after_extra_hosts() {
        let extra = [("db".to_owned(), "10.0.0.9".parse().unwrap())];
        let own = ["172.17.0.2".parse().unwrap()];
        let text = hosts_file("web", "", &own, &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
        assert!(text.ends_with("10.0.0.9\tdb\n172.17.0.2\tweb\n"), "{text}");
        assert!(hosts_file("web", "example.org", &own, &[]).ends_with("172.17.0.2\tweb.example.org web\n"));
        assert!(hosts_file("web", "", &[], &[]).ends_with("ip6-allrouters\n"));
    }
}
