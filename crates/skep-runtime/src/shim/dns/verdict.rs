//! What becomes of a question.

use std::net::IpAddr;
use std::rc::Rc;

use skep_dns::lookup::{self, Found};
use skep_dns::{Answer, Client, Kind, Query, Rcode, Refusal};

use super::random;
use super::upstreams::{Files, Upstreams};

pub(super) enum Verdict {
    /// It is none.
    Ignore,
    /// This is the answer.
    Answer(Vec<u8>),
    /// Others know.
    Forward(Upstreams),
}

/// How answers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Datagram,
    Stream,
}

impl Carrier {
    fn answer(self, query: &Query, rcode: Rcode) -> Answer {
        match self {
            Carrier::Datagram => Answer::datagram(query, rcode),
            Carrier::Stream => Answer::stream(query, rcode),
        }
    }
}

/// Reads a question and looks it up.
pub(super) fn decide(files: &mut Files, message: &[u8], carrier: Carrier) -> Verdict {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Refusal::Ignore) => return Verdict::Ignore,
        Err(Refusal::Answer(answer)) => return Verdict::Answer(answer),
    };
    let client: Rc<Client> = files.client();
    match lookup::find(&client, &query) {
        Ok(Found::Nothing) => {}
        Ok(found) => return Verdict::Answer(write(&query, found, carrier)),
        // Whether others know better can't be told, and they are not to hear of it.
        Err(_) => return Verdict::Answer(carrier.answer(&query, Rcode::ServerFailure).finish()),
    }
    let is_short = || query.name.text().is_some_and(|name| !name.contains('.'));
    if client.dots_needed && matches!(query.kind, Kind::A | Kind::Aaaa) && is_short() {
        // The client goes on with its search domains.
        return Verdict::Answer(carrier.answer(&query, Rcode::NoError).finish());
    }
    match files.upstreams(&client) {
        Some(upstreams) => Verdict::Forward(upstreams),
        None => Verdict::Answer(carrier.answer(&query, Rcode::ServerFailure).finish()),
    }
}

/// The answer to a question that nobody answered.
pub(super) fn failure(message: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    Some(carrier.answer(&query, Rcode::ServerFailure).finish())
}

fn write(query: &Query, found: Found, carrier: Carrier) -> Vec<u8> {
    let mut answer = carrier.answer(query, Rcode::NoError);
    match found {
        Found::Nothing => {}
        Found::Addresses(mut addresses) => {
            shuffle(&mut addresses);
            addresses.into_iter().for_each(|address| answer.address(address));
        }
        Found::Pointer(name) => answer.pointer(&name),
        Found::Services(mut services) => {
            shuffle(&mut services);
            for service in &services {
                answer.service(service.port, &service.target);
            }
            let mut told: Vec<(&skep_dns::Name, IpAddr)> = Vec::new();
            for service in &services {
                for &address in &service.addresses {
                    if !told.contains(&(&service.target, address)) {
                        told.push((&service.target, address));
                        answer.also(&service.target, address);
                    }
                }
            }
        }
    }
    answer.finish()
}

/// Those who share a name take turns. Without randomness they keep their order.
fn shuffle<T>(items: &mut [T]) {
    if items.len() < 2 {
        return;
    }
    let Ok(seed) = random().map(u64::from_ne_bytes) else { return };
    let mut state = seed | 1;
    for last in (1..items.len()).rev() {
        // xorshift64: nothing here has to be unforeseeable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
        items.swap(last, other);
    }
}
