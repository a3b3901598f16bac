//! Throughput by Debian's iperf3, and latency by clients and servers of our own, each in the network namespace in question.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Samples;
use super::home::{Home, PORTS};
use super::space::Space;
use crate::bench::report::Unit;

/// Who sends to bench-b, and what it takes for bench-b's address.
const WAYS: [(&str, Way); 3] = [
    ("container to container", |home| (&home.a.space, home.b.address)),
    ("host to container", |home| (&home.host, home.b.address)),
    ("outside to published port", |home| (&home.outside, home.published)),
];
type Way = fn(&Home) -> (&Space, IpAddr);

const THROUGHPUT: &str = "net: iperf3";
const REVERSE: &str = "net: iperf3 --reverse";
const CONNECT: &str = "net: TCP connect + 1 byte and back";
const ROUND: &str = "net: 1 byte and back";

const SECONDS: &str = "3";
const PATIENCE: Duration = Duration::from_secs(10);
/// A figure of latency is the median of so many tries. Both sides are on one processor then, so that it is about the way and
/// not about waking another processor up.
const TRIES: usize = 500;

pub(super) fn cases() -> Vec<String> {
    let kinds = [THROUGHPUT, REVERSE, CONNECT, ROUND];
    kinds.iter().flat_map(|kind| WAYS.map(|(way, _)| case(kind, way))).collect()
}

fn case(kind: &str, way: &str) -> String {
    format!("{kind}, {way}")
}

pub(super) fn measure(home: &Home, samples: &mut Samples) -> Result<()> {
    for (name, way) in WAYS {
        let (from, address) = way(home);
        for (kind, options) in [(THROUGHPUT, &[][..]), (REVERSE, &["--reverse"][..])] {
            let case = case(kind, name);
            if samples.wants(&case) {
                samples.add(&case, Unit::GigabitsPerSecond, throughput(from, &home.b.space, address, options)?);
            }
        }
        let (connect, round) = (case(CONNECT, name), case(ROUND, name));
        let server = Echo::start(&home.b.space, PORTS[1])?;
        let server_address = SocketAddr::new(address, PORTS[1]);
        if samples.wants(&connect) {
            samples.add(&connect, Unit::Microseconds, connect_time(from, server_address)?);
        }
        if samples.wants(&round) {
            samples.add(&round, Unit::Microseconds, round_time(from, server_address)?);
        }
        drop(server);
    }
    Ok(())
}

/// One stream for some seconds.
fn throughput(from: &Space, to: &Space, address: IpAddr, options: &[&str]) -> Result<f64> {
    let port = PORTS[0].to_string();
    let _server = Iperf::start(to, &port)?;
    let address = address.to_string();
    let client = ["--client", &address, "--port", &port, "--time", SECONDS, "--json"];
    let answer: serde_json::Value = serde_json::from_slice(&from.output("iperf3", &[&client, options].concat())?)?;
    let received = answer["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(received.context("iperf3 says no throughput")? / 1e9)
}

/// A server for one test.
struct Iperf(Child);

impl Iperf {
    fn start(space: &Space, port: &str) -> Result<Iperf> {
        let mut command = Command::new("iperf3");
        command.args(["--server", "--one-off", "--forceflush", "--port", port]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = Iperf(space.within(|| command.spawn().context("the package iperf3 is needed"))?);
        let output = server.0.stdout.take().context("iperf3 has no output")?;
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next().transpose()? {
            if line.contains("listening") {
                // It goes on writing: somebody has to read.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
        }
        bail!("iperf3 does not listen on port {port}")
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends back each byte that comes, one connection after the other.
pub(super) struct Echo {
    listener: TcpListener,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start(space: &Space, port: u16) -> Result<Echo> {
        let listener =
            space.within(|| Ok(TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?))?;
        let own = listener.try_clone()?;
        let thread = std::thread::spawn(move || {
            let _ = stay_on_one_processor();
            while let Ok((mut stream, _)) = own.accept() {
                let mut byte = [0];
                let _ = stream.set_nodelay(true);
                while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
            }
        });
        Ok(Echo { listener, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Its accept fails then.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn there_and_back(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"x")?;
    Ok(stream.read_exact(&mut [0])?)
}

/// Microseconds from nothing to the first byte that comes back.
pub(super) fn connect_time(from: &Space, address: SocketAddr) -> Result<f64> {
    from.within(|| median(|| there_and_back(&mut connect(address)?)))
}

/// Microseconds for a byte over a connection that stands.
fn round_time(from: &Space, address: SocketAddr) -> Result<f64> {
    from.within(|| {
        let mut stream = connect(address)?;
        median(|| there_and_back(&mut stream))
    })
}

/// The first of those that this process may use.
fn stay_on_one_processor() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    (0..CpuSet::MAX_CPU).find(|number| allowed.is_set(*number)).into_iter().for_each(|first| one.set(first));
    Ok(sched_setaffinity(None, &one)?)
}

fn median(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    stay_on_one_processor()?;
    work()?; // warms up
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TRIES / 2])
}
