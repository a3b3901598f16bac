//! Finds the process that has a port, for the error message only.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::Protocol;
use crate::error::PortHolder;

/// TCP states in `/proc/net/tcp` that hold a port: listening, and closed but bound.
const HOLDING: [&str; 2] = ["0A", "07"];

/// The process of this host with a socket on the port, as far as `/proc` tells.
pub(crate) fn find(address: SocketAddr, protocol: Protocol) -> PortHolder {
    let mut inodes = Vec::new();
    for file in match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => ["sctp/eps", "sctp/assocs"],
    } {
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
        inodes.extend(match protocol {
            Protocol::Tcp | Protocol::Udp => inodes_of(&text, address),
            Protocol::Sctp => inodes_of_sctp(&text, address.port()),
        });
    }
    processes(&inodes).unwrap_or(PortHolder::Unknown)
}

/// Sockets in `/proc/net/tcp` and its like that are in the way of `wanted`.
fn inodes_of(text: &str, wanted: SocketAddr) -> Vec<String> {
    let mut inodes = Vec::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, local, _, state, _, _, _, _, _, inode, ..] = words[..]
            && HOLDING.contains(&state)
            && let Some((address, port)) = local.split_once(':')
            && u16::from_str_radix(port, 16) == Ok(wanted.port())
            && parse(address).is_some_and(|own| is_in_the_way(own, wanted.ip()))
        {
            inodes.push(format!("socket:[{inode}]"));
        }
    }
    inodes
}

/// SCTP sockets: the port is a word in decimal before the user and the inode.
fn inodes_of_sctp(text: &str, port: u16) -> Vec<String> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let place = |title: &str| titles.iter().position(|word| *word == title);
    let (Some(own), Some(inode)) = (place("LPORT"), place("INODE")) else { return Vec::new() };
    let word = |line: &str, n: usize| line.split_whitespace().nth(n).map(str::to_owned);
    let here = lines.filter(|line| word(line, own).as_deref() == Some(&port.to_string()));
    here.filter_map(|line| Some(format!("socket:[{}]", word(line, inode)?))).collect()
}

/// A socket on all addresses is in everybody's way; one on all of IPv6 usually is in that of IPv4 too.
fn is_in_the_way(own: IpAddr, wanted: IpAddr) -> bool {
    let same = own.is_ipv4() == wanted.is_ipv4();
    own == wanted || (same && wanted.is_unspecified()) || (own.is_unspecified() && (same || own.is_ipv6()))
}

/// An address as the kernel writes it: words of four bytes in the host's order.
fn parse(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match <[u8; 16]>::try_from(bytes.as_slice()) {
        // An IPv4 address of an IPv6 socket.
        Ok(sixteen) => Some(IpAddr::from(sixteen).to_canonical()),
        Err(_) => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
    }
}

fn processes(inodes: &[String]) -> Option<PortHolder> {
    if inodes.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .filter_map(|d| fs::read_link(d.path()).ok())
            .any(|link| link.to_str().is_some_and(|link| inodes.iter().any(|inode| inode == link)));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(PortHolder::Process { pid, name: name.trim_end().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_are_in_the_way_count() {
        let line = |local: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
            )
        };
        let text = [
            "  sl  local_address rem_address   st\n".to_owned(),
            line("0100007F:1F90", "0A", 1),
            line("00000000:1F90", "0A", 2),
            line("0200000A:1F90", "0A", 3),
            line("0100007F:1F91", "0A", 4),
            line("0100007F:1F90", "01", 5),
            line("00000000000000000000000000000000:1F90", "0A", 6),
            line("00000000000000000000000001000000:1F90", "0A", 7),
        ]
        .concat();
        let found = |address: &str| {
            let inodes = inodes_of(&text, address.parse().unwrap());
            inodes
                .iter()
                .map(|inode| inode.trim_start_matches("socket:[").trim_end_matches(']').to_owned())
                .collect::<String>()
        };
        assert_eq!(found("127.0.0.1:8080"), "126");
        assert_eq!(found("0.0.0.0:8080"), "1236");
        assert_eq!(found("10.0.0.2:8080"), "236");
        assert_eq!(found("[::1]:8080"), "67");
        assert_eq!(found("127.0.0.1:8081"), "4");
    }

    #[test]
    fn sctp_has_a_table_of_its_own_form() {
        let text = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n 0 0 2 10 29 5000 0 1234 0.0.0.0\n 0 0 2 10 29 5001 0 9 ::\n";
        assert_eq!(inodes_of_sctp(text, 5000), ["socket:[1234]"]);
    }
}
