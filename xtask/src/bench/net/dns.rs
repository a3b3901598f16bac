//! Questions to the name server of a container, from a thread in its network namespace; and the server that the engines forward to.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Samples;
use super::home::Home;
use super::space::Space;
use crate::bench::report::Unit;

const NAMES: &str = "net: DNS, name of a container";
const FORWARDED: &str = "net: DNS, forwarded name";
const NAMES_TIME: &str = "net: DNS, name of a container, one by one";
const FORWARDED_TIME: &str = "net: DNS, forwarded name, one by one";
pub(super) const CASES: [&str; 4] = [NAMES, FORWARDED, NAMES_TIME, FORWARDED_TIME];

/// Questions that wait for their answers at the same time.
const WINDOW: usize = 16;
const LENGTH: Duration = Duration::from_secs(1);
/// After which a question counts as lost and is asked anew; a server that is just reading its names again may lose some.
const PATIENCE: Duration = Duration::from_secs(1);
const LOSSES: u32 = 3;
const PORT: u16 = 53;

pub(super) fn measure(home: &Home, samples: &mut Samples) -> Result<()> {
    let container = |_: u64| "bench-b".to_owned();
    // Each is another one, as this is not about caches.
    let forwarded = |number: u64| format!("n{number}.example.org");
    if samples.wants(NAMES) {
        samples.add(NAMES, Unit::PerSecond, rate(home, container)?);
    }
    if samples.wants(FORWARDED) {
        samples.add(FORWARDED, Unit::PerSecond, rate(home, forwarded)?);
    }
    if samples.wants(NAMES_TIME) {
        samples.add(NAMES_TIME, Unit::Microseconds, time(home, container)?);
    }
    if samples.wants(FORWARDED_TIME) {
        samples.add(FORWARDED_TIME, Unit::Microseconds, time(home, forwarded)?);
    }
    Ok(())
}

/// Answers per second, with some questions under way at all times.
fn rate(home: &Home, name: impl Fn(u64) -> String + Sync) -> Result<f64> {
    let asked = ask(home, WINDOW, name)?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    Ok(asked.answers as f64 / asked.took.as_secs_f64())
}

/// Microseconds from a question to its answer, with nothing else under way.
pub(super) fn time(home: &Home, name: impl Fn(u64) -> String + Sync) -> Result<f64> {
    let asked = ask(home, 1, name)?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    Ok(asked.took.as_secs_f64() * 1e6 / asked.answers as f64)
}

struct Asked {
    answers: u64,
    took: Duration,
}

/// Asks bench-a's name server for some time. An answer without an address is an error, and so is none at all
/// several times over.
fn ask(home: &Home, window: usize, name: impl Fn(u64) -> String + Sync) -> Result<Asked> {
    let resolver = home.a.resolver.context("bench-a has no name server")?;
    home.a.space.within(|| {
        let here: IpAddr = if resolver.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((here, 0))?;
        socket.connect((resolver, PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut number = 0;
        let mut send = || {
            number += 1;
            socket.send(&question(number, &name(number)))
        };
        let started = Instant::now();
        for _ in 0..window {
            send()?;
        }
        let (mut answers, mut losses, mut answer) = (0, 0, [0; 1500]);
        loop {
            let length = match socket.recv(&mut answer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && losses < LOSSES => {
                    losses += 1;
                    for _ in 0..window {
                        send()?;
                    }
                    continue;
                }
                received => received.with_context(|| format!("no answer from {resolver}"))?,
            };
            has_address(&answer[..length])?;
            answers += 1;
            if started.elapsed() > LENGTH {
                return Ok(Asked { answers, took: started.elapsed() });
            }
            send()?;
        }
    })
}

/// A question for an IPv4 address (RFC 1035, 4.1).
fn question(number: u64, name: &str) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut message = vec![high, low, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn has_address(message: &[u8]) -> Result<()> {
    let [_, _, _, flags, _, _, answers_high, answers_low, ..] = message else { bail!("an answer that is too short") };
    ensure!(flags & 0x0f == 0, "answered with code {}", flags & 0x0f);
    ensure!((*answers_high, *answers_low) != (0, 0), "answered without an address");
    Ok(())
}

/// The same address for whatever is asked for.
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *message.get(end)? != 0 {
        end += usize::from(message[end]) + 1;
    }
    let asked = message.get(12..end + 5)?;
    let mut answer = message[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend(asked);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
    Some(answer)
}

/// A name server on a host, which knows all names.
pub(super) struct Upstream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(super) fn start(host: &Space, address: IpAddr) -> Result<Upstream> {
        let socket = host.within(|| {
            let at = SocketAddr::new(address, PORT);
            UdpSocket::bind(at).with_context(|| format!("a name server on {at}"))
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut message = [0; 1500];
            while !told.load(Ordering::Relaxed) {
                match socket.recv_from(&mut message) {
                    Ok((length, from)) => {
                        if let Some(answer) = answer(&message[..length]) {
                            let _ = socket.send_to(&answer, from);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {} // the one who asked is gone
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Upstream { stop, thread: Some(thread) })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_answered() {
        let message = answer(&question(0x1_0203, "n1.example.org")).unwrap();
        assert_eq!(message[..2], [2, 3]);
        has_address(&message).unwrap();
    }

    #[test]
    fn half_a_question_is_not_answered() {
        let message = question(1, "n1.example.org");
        assert_eq!(answer(&message[..message.len() - 3]), None);
        assert!(has_address(&message).is_err());
    }
}
