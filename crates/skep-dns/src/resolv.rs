//! resolv.conf: what the host's says, and what the container's is to say.
//!
//! A container with a name server of its own has that server alone in its file; the host's servers are asked by it. A container in the
//! host's network has the host's file. One that has neither gets those of the host's servers that can be reached from elsewhere.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use crate::{ADDRESS, PORT};

/// The host's file.
pub const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved says which servers it asks itself.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";
const RESOLVED_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// Servers that are asked, and search domains that clients take (resolv.conf(5)).
const MOST_SERVERS: usize = 3;
/// What Docker's containers on the default bridge have when the host names no server that they could reach.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// What a resolv.conf says, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers: addresses, some with a zone (`fe80::1%eth0`).
    pub servers: Vec<String>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// Options of the client.
    pub options: Vec<String>,
}

/// A server's address and the interface to reach it through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// Where a link-local address is.
    pub zone: Option<String>,
}

impl Server {
    /// Reads an address with or without a zone.
    pub fn parse(text: &str) -> Option<Server> {
        let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
        let address = address.parse().ok()?;
        Some(Server { address, zone: zone.filter(|zone| !zone.is_empty()).map(str::to_owned) })
    }

    /// Where it listens. `index_of` knows the numbers of interfaces.
    pub fn socket_address(&self, index_of: impl FnOnce(&str) -> Option<u32>) -> Option<SocketAddr> {
        match (self.address, &self.zone) {
            (IpAddr::V6(address), Some(zone)) => {
                let index = zone.parse().ok().or_else(|| index_of(zone))?;
                Some(SocketAddrV6::new(address, PORT, 0, index).into())
            }
            (address, _) => Some(SocketAddr::new(address, PORT)),
        }
    }
}

impl ResolvConf {
    /// Reads a file's text. What is not understood is passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut parsed = ResolvConf::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => parsed.servers.extend(words.next()),
                // The last one wins, and `domain` is an older way to write a single search domain (resolv.conf(5)).
                Some("search" | "domain") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                _ => {}
            }
        }
        parsed
    }

    /// Reads a file. One that is not there says nothing; that is no error.
    pub fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// The servers to ask from where the file is. Behind systemd-resolved's stub come the servers that it asks itself (`resolved`, read
    /// only if needed), for the time when it does not run.
    pub fn upstreams(&self, resolved: impl FnOnce() -> ResolvConf) -> Vec<Server> {
        let parse = |servers: &[String]| servers.iter().filter_map(|text| Server::parse(text)).collect::<Vec<_>>();
        let mut servers = parse(&self.servers);
        if self.is_only_stub() {
            servers.extend(parse(&resolved().servers));
        }
        servers.truncate(MOST_SERVERS);
        servers
    }

    /// Whether systemd-resolved's stub is all there is.
    pub fn is_only_stub(&self) -> bool {
        let is_stub = |text: &String| Server::parse(text).is_some_and(|server| server.address == RESOLVED_STUB);
        !self.servers.is_empty() && self.servers.iter().all(is_stub)
    }

    fn push_search_and_options(&self, text: &mut String) {
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
    }
}

/// What replaces the host's settings (`--dns`, `--dns-search`, `--dns-option`); empty lists replace nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains; a single `.` stands for none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Overrides {
    /// The settings that hold.
    fn over(&self, host: &ResolvConf) -> ResolvConf {
        let pick = |own: &[String], host: &[String]| if own.is_empty() { host } else { own }.to_vec();
        ResolvConf {
            servers: pick(&self.servers, &host.servers),
            search: if self.search == ["."] { Vec::new() } else { pick(&self.search, &host.search) },
            options: pick(&self.options, &host.options),
        }
    }

    /// Whether it is said how many dots a name has to have (`ndots:1`).
    pub fn need_dots(&self) -> bool {
        let dots = self.options.iter().filter_map(|option| option.strip_prefix("ndots:")).next_back();
        dots.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number > 0)
    }
}

/// Which of a container's networks have names of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// None: the default bridge.
    No,
    /// At least one has.
    Yes,
}

const HEADING: &str = "# Generated by skep when the container was started.\n\n";

/// The file of a container with a name server of its own. `host` is the host's file.
pub fn for_server(host: &ResolvConf, overrides: &Overrides, names: Names) -> String {
    let mut settings = overrides.over(host);
    // Without it, the C library would try the search domains first for a name without dots, which most containers' names are.
    if names == Names::Yes && !settings.options.iter().any(|option| option.starts_with("ndots:")) {
        settings.options.push("ndots:0".to_owned());
    }
    let mut text = format!("{HEADING}nameserver {ADDRESS}\n");
    settings.push_search_and_options(&mut text);
    let external = settings.servers.iter().map(|server| match overrides.servers.is_empty() {
        true => format!("host({server})"),
        false => server.clone(),
    });
    let external: Vec<String> = external.collect();
    let _ = write!(text, "\n# ExtServers: [{}]\n", external.join(" "));
    text
}

/// The file of a container in the host's network: all of the host's servers can be reached.
pub fn for_host_network(host: &ResolvConf, overrides: &Overrides) -> String {
    direct(&overrides.over(host))
}

/// The file of a container without a name server of its own, elsewhere than in the host's network. Servers on the host's loopback, on
/// one of its links or of a family that the container lacks can't be reached and are left out. `host` has to name the servers
/// behind systemd-resolved's stub.
pub fn for_bridge(host: &ResolvConf, overrides: &Overrides, ipv6: bool) -> String {
    let mut settings = overrides.over(host);
    if overrides.servers.is_empty() {
        let is_reachable = |text: &String| {
            Server::parse(text).is_some_and(|server| match server.address {
                IpAddr::V4(address) => !address.is_loopback(),
                IpAddr::V6(address) => ipv6 && server.zone.is_none() && !address.is_loopback(),
            })
        };
        settings.servers.retain(is_reachable);
        if settings.servers.is_empty() {
            settings.servers = FALLBACK.map(str::to_owned).to_vec();
        }
    }
    direct(&settings)
}

fn direct(settings: &ResolvConf) -> String {
    let mut text = HEADING.to_owned();
    for server in &settings.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    settings.push_search_and_options(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(servers: &[&str], search: &[&str], options: &[&str]) -> Overrides {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Overrides { servers: list(servers), search: list(search), options: list(options) }
    }

    fn body(text: &str) -> &str {
        text.strip_prefix(HEADING).unwrap()
    }

    #[test]
    fn a_file_is_read_as_the_c_library_does() {
        let text = "; old\nnameserver 10.0.0.1 # ours\nnameserver fe80::1%eth0\ndomain a\nsearch b c\noptions edns0\nlookup x\nnameserver\n";
        let parsed = ResolvConf::parse(text);
        assert_eq!(parsed.servers, ["10.0.0.1", "fe80::1%eth0"]);
        assert_eq!(parsed.search, ["b", "c"]);
        assert_eq!(parsed.options, ["edns0"]);
        assert_eq!(ResolvConf::read(Path::new("/nonexistent/resolv.conf")).unwrap(), ResolvConf::default());
    }

    #[test]
    fn servers_to_ask() {
        let host = ResolvConf::parse("nameserver 10.0.0.1\nnameserver x\nnameserver fe80::1%eth7\n");
        let servers = host.upstreams(|| panic!("there is no stub"));
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[0].socket_address(|_| None), Some("10.0.0.1:53".parse().unwrap()));
        assert_eq!(servers[1].socket_address(|_| None), None);
        let index = |name: &str| (name == "eth7").then_some(7);
        assert_eq!(servers[1].socket_address(index), Some("[fe80::1%7]:53".parse().unwrap()));
        let many = ResolvConf::parse(&"nameserver 10.0.0.1\n".repeat(9));
        assert_eq!(many.upstreams(ResolvConf::default).len(), MOST_SERVERS);
    }

    #[test]
    fn behind_the_stub_of_systemd_resolved() {
        let stub = ResolvConf::parse("nameserver 127.0.0.53\n");
        let servers = stub.upstreams(|| ResolvConf::parse("nameserver 10.0.0.1\n"));
        let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.53", "10.0.0.1"]);
        assert!(!ResolvConf::parse("nameserver 127.0.0.53\nnameserver 10.0.0.1\n").is_only_stub());
        assert!(!ResolvConf::default().is_only_stub());
    }

    #[test]
    fn a_container_with_its_own_server() {
        let host = ResolvConf::parse("nameserver 127.0.0.53\nsearch a.org b.org\noptions edns0\n");
        let text = for_server(&host, &Overrides::default(), Names::Yes);
        let expected =
            "nameserver 127.0.0.11\nsearch a.org b.org\noptions edns0 ndots:0\n\n# ExtServers: [host(127.0.0.53)]\n";
        assert_eq!(body(&text), expected);
        let text = for_server(&host, &overrides(&["10.0.0.1", "10.0.0.2"], &["."], &["ndots:2"]), Names::Yes);
        assert_eq!(body(&text), "nameserver 127.0.0.11\noptions ndots:2\n\n# ExtServers: [10.0.0.1 10.0.0.2]\n");
        let text = for_server(&ResolvConf::default(), &Overrides::default(), Names::No);
        assert_eq!(body(&text), "nameserver 127.0.0.11\n\n# ExtServers: []\n");
    }

    #[test]
    fn dots_that_a_name_needs() {
        assert!(overrides(&[], &[], &["ndots:1"]).need_dots());
        for options in [&[][..], &["ndots:0"], &["edns0"], &["ndots:1", "ndots:0"], &["ndots:x"]] {
            assert!(!overrides(&[], &[], options).need_dots(), "{options:?}");
        }
    }

    #[test]
    fn loopback_servers_are_left_out_on_a_bridge() {
        let host = ResolvConf::parse(
            "nameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver fd00::1\nsearch a.org\n",
        );
        let text = for_bridge(&host, &Overrides::default(), false);
        assert_eq!(body(&text), "nameserver 10.0.0.1\nsearch a.org\n");
        let text = for_bridge(&host, &Overrides::default(), true);
        assert_eq!(body(&text), "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.org\n");
        let text = for_host_network(&host, &Overrides::default());
        assert!(body(&text).starts_with("nameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\n"), "{text}");
    }

    #[test]
    fn with_no_server_left_public_ones_are_used() {
        let host = ResolvConf::parse("nameserver 127.0.0.1\n");
        let text = for_bridge(&host, &Overrides::default(), false);
        assert_eq!(body(&text), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert_eq!(body(&for_host_network(&ResolvConf::default(), &Overrides::default())), "");
    }

    #[test]
    fn overrides_replace_whole_lists_and_a_dot_means_no_search() {
        let host = ResolvConf::parse("nameserver 10.0.0.1\nsearch a\noptions ndots:1\n");
        let text = for_bridge(&host, &overrides(&["127.0.0.1"], &["."], &[]), false);
        assert_eq!(body(&text), "nameserver 127.0.0.1\noptions ndots:1\n");
    }
}
