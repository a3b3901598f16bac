//! The fixed part of the table.
//!
//! ```text
//! guard        prerouting, before connection tracking
//!              from a bridge, to or from 127.0.0.0/8: drop      (the bridges accept loopback addresses, see below)
//! prerouting   destination NAT for what comes from outside and from containers
//!              to 127.0.0.0/8: leave alone                      (loopback ports are for the host only)
//!              address . protocol . port in published_on: to the container
//!              to an address of the host, protocol . port in published: to the container
//! output       the same for the host's own connections, loopback included
//! postrouting  from loopback into a bridge: masquerade          (the container answers to the bridge)
//!              from a subnet of ours into a bridge, destination changed: masquerade   (hairpin)
//!              from a subnet that masquerades, to no bridge of ours: masquerade
//! forward      whatever the administrator has put into `user`
//!              of a known connection: accept
//!              within a bridge whose containers may talk: accept
//!              from or to an internal bridge: drop
//!              to a bridge, to a published port: accept
//!              within a bridge whose containers may not talk: drop
//!              from outside to a bridge without protection: accept
//!              to a bridge that is routed, to a published port's own address, or by ICMP: accept
//!              from a link that the bridge trusts, to a published port's own address: accept
//!              to a bridge: drop                                (other networks, direct routing, unpublished ports)
//!              from a bridge: accept
//! ```
//!
//! `user` belongs to the administrator: it is made empty, and whatever happens to the table, its rules are left alone. So
//! are other sets and chains without a hook that the table may have.
//!
//! Postrouting goes by addresses, since it does not know the incoming interface of frames that br_netfilter shows it.
//!
//! A connection from 127.0.0.1 leaves through a bridge only with `route_localnet` on that bridge, which would also let
//! containers reach the host's loopback (CVE-2020-8558); `guard` takes that back. Outside interfaces never get the
//! setting, and prerouting does not touch packets to loopback, so other hosts can't reach loopback ports (CVE-2025-54388).

use super::Others;
use super::write::{ACCEPT, DROP, FilterBatch, GET_CHAIN, Operator, RETURN, Rule, Type, register, write_message};
use crate::netlink::{Batch, Socket, find};

const HOOK_PREROUTING: i32 = 0;
const HOOK_FORWARD: i32 = 2;
const HOOK_OUTPUT: i32 = 3;
const HOOK_POSTROUTING: i32 = 4;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const CT_STATUS_DNAT: u32 = 1 << 5;
const LOCAL: u32 = libc::RTN_LOCAL as u32;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const IPV4: u32 = 2;
const IPV6: u32 = 10;

/// The administrator's chain.
pub(super) const USER: &str = "user";
/// The engine's chains.
pub(super) const CHAINS: [&str; 5] = ["guard", "prerouting", "output", "postrouting", "forward"];
/// The engine's sets and maps. None is called by a word of nft's language: a saved ruleset has to load again.
pub(super) const SETS: [&str; 19] = [
    "bridges",
    "internal",
    "open_bridge",
    "closed_bridge",
    "trusted",
    "unprotected",
    "unprotected6",
    "routed",
    "routed6",
    "served",
    "served6",
    "subnets",
    "subnets6",
    "leaving",
    "leaving6",
    "published",
    "published_on",
    "published6",
    "published6_on",
];

/// Sets that earlier versions had.
pub(super) const FORMER_SETS: [&str; 2] = ["masquerade", "masquerade6"];

/// Writes sets, chains and rules into a table that has none of them. `bridged6`: see [`crate::bridge::filters_ipv6`].
pub(super) fn write(batch: &mut FilterBatch<'_>, others: Others, bridged6: bool) {
    batch.plain_chain(USER);
    sets(batch);
    let policy = if others == Others::Drop { DROP } else { ACCEPT };
    batch.chain("guard", "filter", HOOK_PREROUTING, -300, ACCEPT);
    batch.chain("prerouting", "nat", HOOK_PREROUTING, -100, ACCEPT);
    batch.chain("output", "nat", HOOK_OUTPUT, -100, ACCEPT);
    batch.chain("postrouting", "nat", HOOK_POSTROUTING, 100, ACCEPT);
    batch.chain("forward", "filter", HOOK_FORWARD, 0, policy);

    batch.rule("guard", |r| r.loopback(16).on("bridges", META_IIFNAME).verdict(DROP).end());
    batch.rule("guard", |r| r.loopback(12).on("bridges", META_IIFNAME).verdict(DROP).end());
    batch.rule("prerouting", |r| r.loopback(16).verdict(RETURN).end());
    if bridged6 {
        // Refused, so that programs go on to 127.0.0.1, instead of an answer that never arrives.
        batch.rule("output", |r| r.loopback6_destination().verdict(RETURN).end());
    }
    for chain in ["prerouting", "output"] {
        publishing(batch, chain);
    }
    batch.rule("postrouting", |r| r.loopback(12).on("bridges", META_OIFNAME).masquerade().end());
    batch.rule("postrouting", |r| r.loopback6_source().on("bridges", META_OIFNAME).masquerade().end());
    for (family, subnets, leaving) in [(IPV4, "subnets", "leaving"), (IPV6, "subnets6", "leaving6")] {
        batch.rule("postrouting", |r| {
            r.source(family)
                .is_in(subnets, register(0))
                .on("bridges", META_OIFNAME)
                .destination_changed()
                .masquerade()
                .end();
        });
        batch.rule("postrouting", |r| {
            r.source(family).is_in(leaving, register(0)).not_on("bridges", META_OIFNAME).masquerade().end();
        });
    }
    forwarding(batch);
}

fn sets(batch: &mut FilterBatch<'_>) {
    let port = Type::PROTOCOL.then(Type::PORT);
    batch.set("bridges", Type::IFNAME);
    batch.set("internal", Type::IFNAME);
    batch.set("open_bridge", Type::IFNAME.then(Type::IFNAME));
    batch.set("closed_bridge", Type::IFNAME.then(Type::IFNAME));
    batch.set("trusted", Type::IFNAME.then(Type::IFNAME));
    for name in ["unprotected", "unprotected6", "routed", "routed6"] {
        batch.set(name, Type::IFNAME);
    }
    batch.set("served", Type::IPV4.then(Type::PROTOCOL).then(Type::PORT));
    batch.set("served6", Type::IPV6.then(Type::PROTOCOL).then(Type::PORT));
    batch.intervals("subnets", Type::IPV4);
    batch.intervals("subnets6", Type::IPV6);
    batch.intervals("leaving", Type::IPV4);
    batch.intervals("leaving6", Type::IPV6);
    let on = |address: Type| address.then(Type::PROTOCOL).then(Type::PORT);
    let to = |address: Type| address.then(Type::PORT);
    batch.map("published", port, to(Type::IPV4));
    batch.map("published_on", on(Type::IPV4), to(Type::IPV4));
    batch.map("published6", port, to(Type::IPV6));
    batch.map("published6_on", on(Type::IPV6), to(Type::IPV6));
}

/// The four lookups of published ports; the value's address comes first, then its port.
fn publishing(batch: &mut FilterBatch<'_>, chain: &str) {
    let key = register(0);
    for (family, on, any, offset, size) in
        [(IPV4, "published_on", "published", 16, 4), (IPV6, "published6_on", "published6", 24, 16)]
    {
        let words = size / 4;
        batch.rule(chain, |r| {
            r.family(family).payload(NETWORK, offset, size, key).protocol_and_port(words);
            r.map(on, key, key).destination_nat(family, key, register(words)).end();
        });
        batch.rule(chain, |r| {
            r.family(family)
                .destination_type(key)
                .compare(key, Operator::Equal, &LOCAL.to_ne_bytes())
                .protocol_and_port(0);
            r.map(any, key, key).destination_nat(family, key, register(words)).end();
        });
    }
}

fn forwarding(batch: &mut FilterBatch<'_>) {
    batch.rule("forward", |r| r.jump(USER).end());
    batch.rule("forward", |r| r.known_connection().verdict(ACCEPT).end());
    batch.rule("forward", |r| r.pair("open_bridge").verdict(ACCEPT).end());
    batch.rule("forward", |r| r.on("internal", META_IIFNAME).verdict(DROP).end());
    batch.rule("forward", |r| r.on("internal", META_OIFNAME).verdict(DROP).end());
    batch.rule("forward", |r| r.on("bridges", META_OIFNAME).destination_changed().verdict(ACCEPT).end());
    batch.rule("forward", |r| r.pair("closed_bridge").verdict(DROP).end());
    for (family, unprotected, routed, served) in
        [(IPV4, "unprotected", "routed", "served"), (IPV6, "unprotected6", "routed6", "served6")]
    {
        batch.rule("forward", |r| {
            r.family(family).on(unprotected, META_OIFNAME).not_on("bridges", META_IIFNAME).verdict(ACCEPT).end();
        });
        batch.rule("forward", |r| {
            r.family(family).on(routed, META_OIFNAME).served(family, served).verdict(ACCEPT).end();
        });
        batch.rule("forward", |r| r.family(family).on(routed, META_OIFNAME).icmp(family).verdict(ACCEPT).end());
        batch.rule("forward", |r| r.family(family).pair("trusted").served(family, served).verdict(ACCEPT).end());
    }
    batch.rule("forward", |r| r.on("bridges", META_OIFNAME).verdict(DROP).end());
    batch.rule("forward", |r| r.on("bridges", META_IIFNAME).verdict(ACCEPT).end());
}

impl Rule<'_, '_> {
    fn on(&mut self, set: &str, which: u32) -> &mut Self {
        self.meta(which, register(0)).is_in(set, register(0))
    }

    fn not_on(&mut self, set: &str, which: u32) -> &mut Self {
        self.meta(which, register(0)).is_not_in(set, register(0))
    }

    /// Incoming and outgoing interface together.
    fn pair(&mut self, set: &str) -> &mut Self {
        self.meta(META_IIFNAME, register(0)).meta(META_OIFNAME, register(4)).is_in(set, register(0))
    }

    fn family(&mut self, family: u32) -> &mut Self {
        let byte = [u8::try_from(family).expect("2 or 10")];
        self.meta(META_NFPROTO, register(0)).compare(register(0), Operator::Equal, &byte)
    }

    /// IPv4 with a loopback address at `offset`: 12 is the source, 16 the destination.
    fn loopback(&mut self, offset: u32) -> &mut Self {
        self.family(IPV4).payload(NETWORK, offset, 4, register(0)).mask(register(0), &[255, 0, 0, 0]).compare(
            register(0),
            Operator::Equal,
            &[127, 0, 0, 0],
        )
    }

    /// IPv6 with the loopback address as its source.
    fn loopback6_source(&mut self) -> &mut Self {
        let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
        self.source(IPV6).compare(register(0), Operator::Equal, &loopback)
    }

    fn loopback6_destination(&mut self) -> &mut Self {
        let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
        self.family(IPV6).payload(NETWORK, 24, 16, register(0)).compare(register(0), Operator::Equal, &loopback)
    }

    /// Loads the source address.
    fn source(&mut self, family: u32) -> &mut Self {
        let (offset, length) = if family == IPV4 { (12, 4) } else { (8, 16) };
        self.family(family).payload(NETWORK, offset, length, register(0))
    }

    fn protocol_and_port(&mut self, first: u32) -> &mut Self {
        self.meta(META_L4PROTO, register(first)).payload(TRANSPORT, 2, 2, register(first + 1))
    }

    /// To a container's address and a port that is published there.
    fn served(&mut self, family: u32, set: &str) -> &mut Self {
        let (offset, size) = if family == IPV4 { (16, 4) } else { (24, 16) };
        self.payload(NETWORK, offset, size, register(0)).protocol_and_port(size / 4).is_in(set, register(0))
    }

    fn icmp(&mut self, family: u32) -> &mut Self {
        let number = if family == IPV4 { ICMP } else { ICMP6 };
        self.meta(META_L4PROTO, register(0)).compare(register(0), Operator::Equal, &[number])
    }

    fn known_connection(&mut self) -> &mut Self {
        self.conntrack(CT_STATE, register(0)).has_bits(CT_ESTABLISHED_OR_RELATED)
    }

    fn destination_changed(&mut self) -> &mut Self {
        self.conntrack(CT_STATUS, register(0)).has_bits(CT_STATUS_DNAT)
    }

    fn has_bits(&mut self, bits: u32) -> &mut Self {
        self.mask(register(0), &bits.to_ne_bytes()).compare(register(0), Operator::NotEqual, &[0; 4])
    }

    fn end(&mut self) {}
}

/// Reads the policy of an existing forward chain.
pub(super) fn forward_policy_is_drop(socket: &mut Socket, table: &str) -> bool {
    let mut batch = Batch::new();
    write_message(&mut batch, GET_CHAIN, libc::NLM_F_ACK, |m| {
        m.text(1, table);
        m.text(3, "forward");
    });
    let mut drops = false;
    let found = socket.exchange(&batch, |_, payload| {
        let policy = payload.get(4..).and_then(|attrs| find(attrs, 5)).and_then(|p| p.first_chunk::<4>());
        drops = policy.is_some_and(|p| i32::from_be_bytes(*p) == DROP);
    });
    found.is_ok() && drops
}
