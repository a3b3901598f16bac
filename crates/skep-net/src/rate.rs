//! How much may flow through an endpoint.
//!
//! Both directions are held on the host's side of the pair, where the container can't undo them. What goes in leaves the
//! host's end through a token bucket. What comes out arrives at the host's end, and the kernel can only let leaving packets
//! wait; so it is led through a link of its own (ifb), leaves that through a bucket, and goes on as if nothing had been.

use std::num::NonZeroU64;

use rustix::io::Errno;

use crate::bridge::{self, failed};
use crate::config::{Endpoint, Rate};
use crate::error::NetError;
use crate::netlink::traffic::{self, Bucket};
use crate::netlink::{Batch, Refused, Socket, route};

/// Bytes that may go at once at the least: some full packets, so that slow rates are not slower than said.
const SMALLEST_BURST: u64 = 16 << 10;
/// And at the most: what the kernel's network stack hands over in one piece, a few times.
const LARGEST_BURST: u64 = 4 << 20;
/// Bytes that may wait in any case.
const SMALLEST_QUEUE: u64 = 32 << 10;

/// A text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rate \"{0}\": it is a number of bits per second, such as 500kbit, 10mbit or 1.5gbit")]
pub struct RateError(String);

impl Rate {
    /// True if everything may flow.
    pub fn is_unlimited(&self) -> bool {
        *self == Rate::default()
    }

    /// Reads a number of bits per second: `10mbit`, `1.5gbit`, `800000`. Units are powers of 1000, as `tc` has them.
    pub fn parse(text: &str) -> Result<NonZeroU64, RateError> {
        let lower = text.trim().to_ascii_lowercase();
        let number_ends = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(number_ends);
        let factor = match unit.strip_suffix("bit").unwrap_or(unit) {
            "" => 1_u64,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            _ => return Err(RateError(text.to_owned())),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let bits = scaled(whole, fraction, factor).and_then(NonZeroU64::new);
        bits.filter(|bits| bits.get() >= 8).ok_or_else(|| RateError(text.to_owned()))
    }
}

fn scaled(whole: &str, fraction: &str, factor: u64) -> Option<u64> {
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let digits = u32::try_from(fraction.len()).ok()?;
    let part = part.checked_mul(factor)?.checked_div(10_u64.checked_pow(digits)?)?;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
}

/// Refuses what can't be held.
pub(crate) fn check(has_host_link: bool, rate: Rate) -> Result<(), NetError> {
    if has_host_link || rate.is_unlimited() {
        return Ok(());
    }
    let why = "a rate needs a bridge network: other interfaces have no end on the host where it could be held";
    Err(NetError::Config(why.to_owned()))
}

/// Puts an endpoint's rate in force, in place of what was. `mark` tells whose the helping link is.
pub(crate) fn apply(socket: &mut Socket, endpoint: &Endpoint, rate: Rate, mark: &str) -> Result<(), NetError> {
    check(endpoint.host_link.is_some(), rate)?;
    let Some(name) = endpoint.host_link.as_deref() else { return Ok(()) };
    let index = index_of(socket, name)?;
    let mut batch = Batch::new();
    match rate.inbound {
        Some(bits) => traffic::set_bucket(&mut batch, index, bucket(bits)),
        None => traffic::remove_bucket(&mut batch, index),
    }
    run(socket, &batch, name, rate.inbound.is_none())?;
    match rate.outbound {
        Some(bits) => hold_outgoing(socket, name, index, bits, mark),
        None => release_outgoing(socket, name, index),
    }
}

fn hold_outgoing(socket: &mut Socket, name: &str, index: u32, bits: NonZeroU64, mark: &str) -> Result<(), NetError> {
    let helper = helper_of(name);
    let found = socket.link(&helper).map_err(|e| failed("look up", &helper, e))?;
    let through = match found {
        Some(link) => link.index,
        None => {
            let mut batch = Batch::new();
            route::add_marked(&mut batch, &helper, "ifb", mark);
            match socket.run(&batch) {
                Err(e) if e.errno == Errno::OPNOTSUPP => return Err(NetError::NoSuchKind("ifb")),
                done => done.map_err(|e| failed("create", &helper, e))?,
            }
            index_of(socket, &helper)?
        }
    };
    let mut batch = Batch::new();
    traffic::stop_redirecting(&mut batch, index);
    run(socket, &batch, name, true)?;
    let mut batch = Batch::new();
    traffic::set_bucket(&mut batch, through, bucket(bits));
    traffic::redirect_incoming(&mut batch, index, through);
    run(socket, &batch, name, false)
}

fn release_outgoing(socket: &mut Socket, name: &str, index: u32) -> Result<(), NetError> {
    let helper = helper_of(name);
    if socket.link(&helper).map_err(|e| failed("look up", &helper, e))?.is_none() {
        return Ok(());
    }
    let mut batch = Batch::new();
    traffic::stop_redirecting(&mut batch, index);
    run(socket, &batch, name, true)?;
    bridge::delete(socket, &helper)
}

/// The helping link's name, from that of the endpoint's link.
pub(crate) fn helper_of(host_link: &str) -> String {
    format!("ifb{}", host_link.strip_prefix("veth").unwrap_or(host_link))
}

fn index_of(socket: &mut Socket, name: &str) -> Result<u32, NetError> {
    let link = socket.link(name).map_err(|e| failed("look up", name, e))?;
    link.map(|link| link.index).ok_or_else(|| failed("look up", name, Errno::NODEV.into()))
}

/// Nothing to remove is no error.
fn run(socket: &mut Socket, batch: &Batch, name: &str, removal: bool) -> Result<(), NetError> {
    match socket.run(batch) {
        Err(Refused { errno: Errno::NOENT | Errno::INVAL, .. }) if removal => Ok(()),
        done => done.map_err(|e| failed("limit the rate of", name, e)),
    }
}

/// 10 ms at once, and 100 ms may wait.
fn bucket(bits: NonZeroU64) -> Bucket {
    let rate = (bits.get() / 8).max(1);
    let burst = (rate / 100).clamp(SMALLEST_BURST, LARGEST_BURST);
    let limit = (rate / 10).saturating_add(SMALLEST_QUEUE).max(burst);
    Bucket { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX), limit: u32::try_from(limit).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let bits = |text: &str| Rate::parse(text).ok().map(NonZeroU64::get);
        assert_eq!(bits("10mbit"), Some(10_000_000));
        assert_eq!(bits("1.5Gbit"), Some(1_500_000_000));
        assert_eq!([bits("800000"), bits("64k")], [Some(800_000), Some(64_000)]);
        for bad in ["", "0", "7", "mbit", "10mb", "-1", "1.2.3m", "99999999999g", "1e9", ".5m"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }

    #[test]
    fn buckets_hold_a_packet_and_never_overflow() {
        let of = |bits| bucket(NonZeroU64::new(bits).unwrap());
        assert_eq!(of(1_000_000), Bucket { rate: 125_000, burst: 16 << 10, limit: 12_500 + (32 << 10) });
        assert_eq!(of(u64::MAX).limit, u32::MAX);
        assert!(of(10_000_000_000).burst == 4 << 20);
    }
}
