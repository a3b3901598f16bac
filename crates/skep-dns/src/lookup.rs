//! From a question to what is known about it.
//!
//! A name may have dots, and so may the name of a network: `a.b.c` is `a.b.c` in any of the container's networks, else `a.b` in the
//! network `c`, else `a` in the network `b.c`. Links come before names; the first network that knows the name answers. A name that is
//! there has no other record than ours: a question for its mail servers, or for an address of a family that it lacks, gets an empty
//! answer and goes nowhere else.

use std::io;
use std::net::IpAddr;

use crate::client::{Client, Membership};
use crate::name::Name;
use crate::names::{Member, Names};
use crate::query::{Kind, Query};
use crate::services;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: others may know.
    Nothing,
    /// The name is there. The addresses of the family that was asked for, if there are any.
    Addresses(Vec<IpAddr>),
    /// The address belongs to this name.
    Pointer(Name),
    /// Who serves it: port, name and addresses.
    Services(Vec<Service>),
}

/// A container that serves something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where.
    pub port: u16,
    /// The container, with its network.
    pub target: Name,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The networks of a container, with their files open.
struct Networks<'a> {
    open: Vec<(&'a Membership, Option<Names>)>,
}

/// Looks a question up in the networks of a container.
pub fn find(client: &Client, query: &Query) -> io::Result<Found> {
    if !query.is_internet() {
        return Ok(Found::Nothing);
    }
    let Some(name) = query.name.text() else { return Ok(Found::Nothing) };
    let open = client.networks.iter().map(|network| Ok((network, Names::open(&network.names)?)));
    let networks = Networks { open: open.collect::<io::Result<_>>()? };
    match query.kind {
        Kind::Ptr => match query.name.reversed_address() {
            Some(address) => networks.pointer(address),
            None => Ok(Found::Nothing),
        },
        Kind::Srv => networks.services(&name),
        kind => {
            let addresses = match networks.members(&name)? {
                Some((_, members)) => members.into_iter().flat_map(|member| member.addresses).collect(),
                None => match client.hosts.get(&name) {
                    Some(addresses) => addresses.clone(),
                    None => return Ok(Found::Nothing),
                },
            };
            let of_kind = |address: &IpAddr| match kind {
                Kind::A => address.is_ipv4(),
                Kind::Aaaa => address.is_ipv6(),
                Kind::Ptr | Kind::Srv | Kind::Other(_) => false,
            };
            Ok(Found::Addresses(addresses.into_iter().filter(of_kind).collect()))
        }
    }
}

impl Networks<'_> {
    /// Who has the name, and in which network.
    fn members(&self, name: &str) -> io::Result<Option<(&Membership, Vec<Member>)>> {
        let dots = name.bytes().enumerate().rev().filter(|(_, c)| *c == b'.').map(|(at, _)| at);
        for (host, network) in std::iter::once((name, None)).chain(dots.map(|at| (&name[..at], Some(&name[at + 1..]))))
        {
            for by_link in [true, false] {
                for (membership, names) in &self.open {
                    if network.is_some_and(|network| !membership.name.eq_ignore_ascii_case(network)) {
                        continue;
                    }
                    let wanted = match (membership.links.get(host), by_link) {
                        (Some(target), true) => target.to_ascii_lowercase(),
                        (None, false) => host.to_owned(),
                        // A name that is a link is nothing else in this network.
                        (Some(_), false) | (None, true) => continue,
                    };
                    let members = names.as_ref().map_or(Ok(Vec::new()), |names| names.find(&wanted))?;
                    if !members.is_empty() {
                        return Ok(Some((membership, members)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn pointer(&self, address: IpAddr) -> io::Result<Found> {
        for (membership, names) in &self.open {
            let member = names.as_ref().map_or(Ok(None), |names| names.find_address(address))?;
            if let Some(name) = member.and_then(|member| full_name(&member, membership)) {
                return Ok(Found::Pointer(name));
            }
        }
        Ok(Found::Nothing)
    }

    /// `_http._tcp.web` or `_8080._tcp.web`: those called `web` that serve it. `web` alone: all that they serve.
    fn services(&self, name: &str) -> io::Result<Found> {
        let parts: Vec<&str> = name.splitn(3, '.').collect();
        let (wanted, host) = match parts[..] {
            [service, protocol, host] if service.starts_with('_') && protocol.starts_with('_') => {
                (Some((services::port(&service[1..]), &protocol[1..])), host)
            }
            _ => (None, name),
        };
        let Some((membership, members)) = self.members(host)? else { return Ok(Found::Nothing) };
        let mut found = Vec::new();
        for member in &members {
            let Some(target) = full_name(member, membership) else { continue };
            let ports = member.ports.iter().filter(|port| {
                wanted
                    .is_none_or(|(number, protocol)| Some(port.number) == number && port.protocol.as_str() == protocol)
            });
            found.extend(ports.map(|port| Service {
                port: port.number,
                target: target.clone(),
                addresses: member.addresses.clone(),
            }));
        }
        Ok(Found::Services(found))
    }
}

fn full_name(member: &Member, membership: &Membership) -> Option<Name> {
    Name::from_text(&format!("{}.{}", member.container, membership.name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::names::{self, Entry};
    use crate::query::tests::message;

    fn entry(container: &str, aliases: &[&str], addresses: &[&str], ports: &[&str]) -> Entry {
        Entry {
            container: container.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        }
    }

    fn world(directory: &Path) -> Client {
        let front = [
            entry("Web", &["www", "shared"], &["10.1.0.2", "fd01::2"], &["80/tcp", "8443/tcp"]),
            entry("api", &["shared"], &["10.1.0.3"], &["80/tcp"]),
            entry("a.b", &[], &["10.1.0.4"], &[]),
        ];
        let back = [entry("db", &["web"], &["10.2.0.2"], &["5432/tcp"]), entry("b", &[], &["10.2.0.3"], &[])];
        let mut client = Client::default();
        for (name, entries) in [("front", &front[..]), ("Back.end", &back)] {
            let path = directory.join(name);
            std::fs::write(&path, names::text(entries)).unwrap();
            client.networks.push(Membership { name: name.to_owned(), names: path, links: Default::default() });
        }
        client.networks[1].links.insert("base".to_owned(), "DB".to_owned());
        client.hosts.insert("host.docker.internal".to_owned(), vec!["172.17.0.1".parse().unwrap()]);
        client
    }

    fn ask(client: &Client, name: &str, kind: u16) -> Found {
        find(client, &Query::parse(&message(1, name, kind, None)).unwrap()).unwrap()
    }

    #[test]
    fn names_of_containers() {
        let directory = tempfile::tempdir().unwrap();
        let client = world(directory.path());
        for (name, kind, addresses) in [
            ("web", 1, &["10.1.0.2"][..]),
            ("WEB.front", 1, &["10.1.0.2"]),
            ("www", 28, &["fd01::2"]),
            ("shared", 1, &["10.1.0.2", "10.1.0.3"]),
            ("shared", 28, &["fd01::2"]),
            ("api", 28, &[]),
            ("api", 15, &[]),
            ("api", 65, &[]),
            ("web.back.end", 1, &["10.2.0.2"]),
            ("a.b", 1, &["10.1.0.4"]),
            ("a.b.front", 1, &["10.1.0.4"]),
            ("base", 1, &["10.2.0.2"]),
            ("base.back.end", 1, &["10.2.0.2"]),
            ("Host.Docker.Internal", 1, &["172.17.0.1"]),
            ("host.docker.internal", 28, &[]),
        ] {
            let mut expected: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            expected.sort();
            let Found::Addresses(mut found) = ask(&client, name, kind) else { panic!("{name} is not there") };
            found.sort();
            assert_eq!(found, expected, "{name} {kind}");
        }
        for name in ["db.front", "web.other", "front", "webs", "example.org", "docker.internal"] {
            assert_eq!(ask(&client, name, 1), Found::Nothing, "{name}");
        }
    }

    #[test]
    fn names_of_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let client = world(directory.path());
        assert_eq!(ask(&client, "2.0.1.10.in-addr.arpa", 12), Found::Pointer(Name::from_text("Web.front").unwrap()));
        assert_eq!(ask(&client, "2.0.2.10.in-addr.arpa", 12), Found::Pointer(Name::from_text("db.Back.end").unwrap()));
        assert_eq!(ask(&client, "9.0.1.10.in-addr.arpa", 12), Found::Nothing);
        assert_eq!(ask(&client, "web", 12), Found::Nothing);
    }

    #[test]
    fn services() {
        let directory = tempfile::tempdir().unwrap();
        let client = world(directory.path());
        let ports = |name: &str| match ask(&client, name, 33) {
            Found::Services(found) => Some(found.iter().map(|service| service.port).collect::<Vec<_>>()),
            _ => None,
        };
        assert_eq!(ports("_http._tcp.shared"), Some(vec![80, 80]));
        assert_eq!(ports("_8443._tcp.web.front"), Some(vec![8443]));
        assert_eq!(ports("_postgresql._tcp.db"), Some(vec![5432]));
        assert_eq!(ports("web"), Some(vec![80, 8443]));
        assert_eq!(ports("_http._udp.web"), Some(vec![]));
        assert_eq!(ports("_ldap._tcp.example.org"), None);
        let Found::Services(found) = ask(&client, "_http._tcp.api", 33) else { panic!("not there") };
        assert_eq!(found[0].target, Name::from_text("api.front").unwrap());
        assert_eq!(found[0].addresses, ["10.1.0.3".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_network_without_a_file_has_no_names() {
        let directory = tempfile::tempdir().unwrap();
        let mut client = world(directory.path());
        client.networks[0].names = directory.path().join("missing");
        assert_eq!(ask(&client, "api", 1), Found::Nothing);
        assert!(matches!(ask(&client, "db", 1), Found::Addresses(found) if found.len() == 1));
    }
}
