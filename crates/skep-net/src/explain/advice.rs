//! What to do where the host's firewall is in the way.

use std::net::IpAddr;

use super::report::{Answer, Reach, Reason, RuleEffect, RuleReason};
use crate::config::Published;

/// What is known of the way to a container.
pub(super) struct Way<'a> {
    pub(super) bridge: &'a str,
    /// The host's firewall is ufw: it has chains in iptables' tables.
    pub(super) ufw: bool,
}

/// For one port; none where nothing of others drops it.
pub(super) fn of(answer: &Answer, port: Option<&Published>, address: IpAddr, way: &Way<'_>) -> Option<String> {
    if answer.reach == Reach::Yes {
        return None;
    }
    let rule = answer.reasons.iter().find_map(|reason| match reason {
        Reason::Rule(rule) if rule.effect == RuleEffect::Drops && !rule.own => Some(rule),
        _ => None,
    })?;
    // What is not published is meant to be closed.
    let port = port?;
    let (protocol, number) = (port.protocol, port.container_port);
    Some(match program(rule, way.ufw) {
        Program::Firewalld => for_bridge(rule, way),
        Program::Ufw => format!("ufw route allow proto {protocol} from any to {address} port {number}"),
        Program::Iptables(name) => {
            format!("{name} -I {} -d {address} -p {protocol} --dport {number} -j ACCEPT", rule.chain)
        }
        Program::Nft => {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            let (table, chain) = (&rule.table, &rule.chain);
            format!("nft insert rule {table} {chain} {family} daddr {address} {protocol} dport {number} accept")
        }
    })
}

/// For all that goes through a bridge.
pub(super) fn for_bridge(rule: &RuleReason, way: &Way<'_>) -> String {
    let bridge = way.bridge;
    match program(rule, way.ufw) {
        Program::Firewalld => format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}"),
        Program::Ufw => format!("ufw route allow in on {bridge}"),
        Program::Iptables(name) => format!("{name} -I {} -i {bridge} -j ACCEPT", rule.chain),
        Program::Nft => format!("nft insert rule {} {} iifname {bridge} accept", rule.table, rule.chain),
    }
}

/// Whose rule it is.
enum Program {
    Firewalld,
    Ufw,
    Iptables(&'static str),
    Nft,
}

fn program(rule: &RuleReason, ufw: bool) -> Program {
    match rule.table.as_str() {
        table if table.ends_with(" firewalld") => Program::Firewalld,
        table if ufw && !table.starts_with("inet") => Program::Ufw,
        table if table.starts_with("iptables-legacy") => Program::Iptables("iptables-legacy"),
        table if table.starts_with("ip6tables-legacy") => Program::Iptables("ip6tables-legacy"),
        "ip filter" => Program::Iptables("iptables"),
        "ip6 filter" => Program::Iptables("ip6tables"),
        _ => Program::Nft,
    }
}
