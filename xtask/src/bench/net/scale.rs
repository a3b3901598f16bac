//! Whether set-up and lookup stay flat: with few and with many endpoints on a network, with few and with many published ports.
//!
//! An endpoint is a container that sleeps. Ports are all of one container; at the first and the last of them a server of our
//! own listens in its namespace. The engines come one after the other, as all of it together would be too much for one machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, bail};

use super::attach::{connect, disconnect, time};
use super::home::{Guest, Home, idle};
use super::traffic::{Echo, connect_time};
use super::{Samples, dns};
use crate::bench::report::Unit;
use crate::bench::{millis, words};

const COUNTS: [u16; 3] = [1, 100, 1000];
/// Each figure is taken so often, after one time that does not count.
const TRIES: usize = 5;
/// Containers are started by so many clients.
const CLIENTS: u16 = 4;
const NETWORK: &str = "bench-many";
const FIRST_PORT: u16 = 20_000;
/// Published by what comes on top.
const NEXT_PORT: u16 = 30_000;

/// Endpoints beyond which an engine is not measured, and why.
const ENDPOINT_LIMITS: [(&str, u16, &str); 2] = [
    ("docker", 100, "a container takes some 10 MB for its shim, and a third of a second to start"),
    ("podman", 100, "a container takes more than half a second to start"),
];

struct EndpointCases {
    connect: String,
    run: String,
    lookup: String,
}

struct PortCases {
    start: String,
    next: String,
    first: String,
    last: String,
}

impl EndpointCases {
    fn of(count: u16) -> EndpointCases {
        EndpointCases {
            connect: format!("net: connect, endpoints there: {count}"),
            run: format!("net: run --rm, endpoints there: {count}"),
            lookup: format!("net: DNS one by one, endpoints there: {count}"),
        }
    }

    fn all(self) -> [String; 3] {
        [self.connect, self.run, self.lookup]
    }
}

impl PortCases {
    fn of(count: u16) -> PortCases {
        PortCases {
            start: format!("net: run -d, ports: {count}"),
            next: format!("net: run --rm -p, ports there: {count}"),
            first: format!("net: TCP to the first port, ports: {count}"),
            last: format!("net: TCP to the last port, ports: {count}"),
        }
    }

    fn all(self) -> [String; 4] {
        [self.start, self.next, self.first, self.last]
    }
}

pub(super) fn endpoint_cases() -> Vec<String> {
    COUNTS.into_iter().flat_map(|count| EndpointCases::of(count).all()).collect()
}

pub(super) fn port_cases() -> Vec<String> {
    COUNTS.into_iter().flat_map(|count| PortCases::of(count).all()).collect()
}

/// Whether an engine can be measured with so many endpoints here; if not, that is noted.
fn possible(home: &Home, samples: &mut Samples, count: u16, cases: &[String]) -> bool {
    let limit = ENDPOINT_LIMITS.iter().find(|(name, most, _)| *name == home.name && count > *most);
    if let Some((_, most, reason)) = limit {
        cases.iter().for_each(|case| samples.missing(case, &format!("not beyond {most} endpoints: {reason}")));
    }
    limit.is_none()
}

pub(super) fn endpoints(home: &Home, samples: &mut Samples) -> Result<()> {
    home.on_engine(|engine| engine.run(&words(&format!("network create --subnet 10.221.0.0/16 {NETWORK}"))))?;
    let mut there = 0;
    for count in COUNTS {
        let (cases, all) = (EndpointCases::of(count), EndpointCases::of(count).all());
        if !all.iter().any(|case| samples.wants(case)) || !possible(home, samples, count, &all) {
            continue;
        }
        start(home, there..count)?;
        there = count;
        // The last that came, by its name.
        let name = format!("bench-{}", count - 1);
        for attempt in 0..=TRIES {
            let (connected, run) = home.on_engine(|engine| {
                let run = time(|| engine.run(&words(&format!("run --rm --network {NETWORK} busybox true"))))?;
                Ok((time(|| connect(engine, NETWORK))?, run))
            })?;
            let lookup = if samples.wants(&cases.lookup) { Some(dns::time(home, |_| name.clone())?) } else { None };
            home.on_engine(|engine| disconnect(engine, NETWORK))?;
            if attempt > 0 {
                samples.add(&cases.connect, Unit::Milliseconds, millis(connected));
                samples.add(&cases.run, Unit::Milliseconds, millis(run));
                lookup.into_iter().for_each(|took| samples.add(&cases.lookup, Unit::Microseconds, took));
            }
        }
    }
    home.on_engine(|engine| {
        let names: Vec<String> = (0..there).map(|number| format!("bench-{number}")).collect();
        if !names.is_empty() {
            engine.run(&[words("rm -f"), names].concat())?;
        }
        engine.run(&words(&format!("network rm {NETWORK}")))
    })
}

/// Starts containers that sleep.
fn start(home: &Home, numbers: std::ops::Range<u16>) -> Result<()> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let mine = numbers.clone().skip(client.into()).step_by(CLIENTS.into());
                scope.spawn(move || {
                    home.on_engine(|engine| {
                        mine.into_iter().try_for_each(|number| {
                            engine.run(&words(&format!("run -d --name bench-{number} {}", idle(NETWORK))))
                        })
                    })
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client broke down")))
    })
}

pub(super) fn ports(home: &Home, samples: &mut Samples) -> Result<()> {
    for count in COUNTS {
        let cases = PortCases::of(count);
        if !PortCases::of(count).all().iter().any(|case| samples.wants(case)) {
            continue;
        }
        let last = FIRST_PORT + count - 1;
        // Podman takes no range of one port.
        let range = if count == 1 { FIRST_PORT.to_string() } else { format!("{FIRST_PORT}-{last}") };
        let publish = format!("-p {range}:{range}");
        let started = home.on_engine(|engine| {
            time(|| engine.run(&words(&format!("run -d --name bench-ports {publish} {}", idle("bench")))))
        })?;
        samples.add(&cases.start, Unit::Milliseconds, millis(started));
        let guest = home.on_engine(|engine| Guest::of(engine, "bench-ports"))?;
        // By number, as the first may be the last.
        let servers = BTreeMap::from([(FIRST_PORT, ()), (last, ())]).into_keys();
        let servers = servers.map(|port| Echo::start(&guest.space, port)).collect::<Result<Vec<_>>>()?;
        for attempt in 0..=TRIES {
            let next = home.on_engine(|engine| {
                let command = format!("run --rm --network bench -p {NEXT_PORT}:80 busybox true");
                time(|| engine.run(&words(&command)))
            })?;
            let [to_first, to_last] =
                [FIRST_PORT, last].map(|port| connect_time(&home.outside, SocketAddr::new(home.published, port)));
            let (to_first, to_last) = (to_first?, to_last?);
            if attempt > 0 {
                samples.add(&cases.next, Unit::Milliseconds, millis(next));
                samples.add(&cases.first, Unit::Microseconds, to_first);
                samples.add(&cases.last, Unit::Microseconds, to_last);
            }
        }
        drop(servers);
        home.on_engine(|engine| engine.run(&words("rm -f bench-ports")))?;
    }
    Ok(())
}
