//! Finds the process that has a port, for the error message only.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::Protocol;
use crate::error::PortHolder;

/// TCP states in `/proc/net/tcp` that hold a port: listening, and closed but bound.
const HOLDING: [&str; 2] = ["0A", "07"];

/// The process of this host with a socket on the port, as far as `/proc` tells.
pub(crate) fn find(address: SocketAddr, protocol: Protocol) -> PortHolder {
    let inodes = inodes(address.port(), protocol);
    processes(&inodes).unwrap_or(PortHolder::Unknown)
}

fn inodes(port: u16, protocol: Protocol) -> Vec<String> {
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return Vec::new(),
    };
    let suffix = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for file in files {
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, state, _, _, _, _, _, inode, ..] = words[..]
                && local.ends_with(&suffix)
                && HOLDING.contains(&state)
            {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
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
