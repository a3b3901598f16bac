//! The rtnetlink requests of traffic control (tc(8), `linux/pkt_sched.h`, `linux/pkt_cls.h`).

use super::wire::{Batch, Message};

const ACK: i32 = libc::NLM_F_ACK;
const CREATE: i32 = ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const BUCKET_HANDLE: u32 = 0x0001_0000;

const TBF_PARAMETERS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const LINKLAYER_ETHERNET: u8 = 1;

const U32_SELECTOR: u16 = 5;
const U32_ACTION: u16 = 7;
const U32_TERMINAL: u8 = 1;
const MIRRED_PARAMETERS: u16 = 2;
const STOLEN: u32 = 4;
const EGRESS_REDIRECT: u32 = 1;
/// Priority 1, all protocols (`ETH_P_ALL` in network order).
const FIRST_OF_ALL: u32 = 1 << 16 | 0x0300;

/// A token bucket: packets beyond the rate wait, and when too many wait they are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes that may go at once.
    pub(crate) burst: u32,
    /// Bytes that may wait.
    pub(crate) limit: u32,
}

/// `struct tcmsg`.
fn header(m: &mut Message<'_>, index: u32, handle: u32, parent: u32, info: u32) {
    let mut header = [0; 20];
    for (place, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[place..place + 4].copy_from_slice(&value.to_ne_bytes());
    }
    m.raw(&header);
}

/// Makes what leaves a link go through a bucket.
pub(crate) fn set_bucket(batch: &mut Batch, index: u32, bucket: Bucket) {
    batch.message(NEW_QDISC, REPLACE, |m| {
        header(m, index, BUCKET_HANDLE, ROOT, 0);
        m.text(KIND, "tbf");
        m.nest(OPTIONS, |m| {
            // `struct tc_tbf_qopt`: rate, peak rate, limit, buffer, mtu; a rate is 12 bytes, its number the last four.
            let mut parameters = [0; 36];
            parameters[1] = LINKLAYER_ETHERNET;
            let rate32 = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
            parameters[8..12].copy_from_slice(&rate32.to_ne_bytes());
            parameters[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
            m.bytes(TBF_PARAMETERS, &parameters);
            m.bytes(TBF_RATE64, &bucket.rate.to_ne_bytes());
            m.u32(TBF_BURST, bucket.burst);
        });
    });
}

pub(crate) fn remove_bucket(batch: &mut Batch, index: u32) {
    batch.message(DELETE_QDISC, ACK, |m| header(m, index, BUCKET_HANDLE, ROOT, 0));
}

/// Makes what comes in on a link leave through another one first.
pub(crate) fn redirect_incoming(batch: &mut Batch, index: u32, through: u32) {
    batch.message(NEW_QDISC, CREATE, |m| {
        header(m, index, INGRESS_HANDLE, INGRESS, 0);
        m.text(KIND, "ingress");
    });
    batch.message(NEW_FILTER, CREATE, |m| {
        header(m, index, 0, INGRESS_HANDLE, FIRST_OF_ALL);
        m.text(KIND, "u32");
        m.nest(OPTIONS, |m| {
            // `struct tc_u32_sel` with one key that all packets have: no bit of the first word matters.
            let mut selector = [0; 32];
            selector[0] = U32_TERMINAL;
            selector[2] = 1;
            m.bytes(U32_SELECTOR, &selector);
            m.nest(U32_ACTION, |m| {
                m.nest(1, |m| {
                    m.text(KIND, "mirred");
                    m.nest(OPTIONS, |m| m.bytes(MIRRED_PARAMETERS, &mirred(through)));
                });
            });
        });
    });
}

/// `struct tc_mirred`: index, capabilities, action, two counters, what to do, and with which link.
fn mirred(through: u32) -> [u8; 28] {
    let mut parameters = [0; 28];
    for (place, value) in [(8, STOLEN), (20, EGRESS_REDIRECT), (24, through)] {
        parameters[place..place + 4].copy_from_slice(&value.to_ne_bytes());
    }
    parameters
}

/// Takes [`redirect_incoming`] back.
pub(crate) fn stop_redirecting(batch: &mut Batch, index: u32) {
    batch.message(DELETE_QDISC, ACK, |m| header(m, index, INGRESS_HANDLE, INGRESS, 0));
}
