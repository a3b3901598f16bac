//! Messages of containers and servers, and files of names: read, answered or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_dns::resolv::{Overrides, ResolvConf};
use skep_dns::{Answer, Client, Query, Rcode, Refusal};

fuzz_target!(|data: &[u8]| {
    match Query::parse(data) {
        Ok(query) => {
            let _ = (query.name.text(), query.name.reversed_address());
            let mut answer = Answer::datagram(&query, Rcode::NoError);
            answer.pointer(&query.name);
            for host in 0..=255 {
                answer.address([10, 0, 0, host].into());
            }
            let answer = answer.finish();
            assert!(answer.len() <= 4096 && skep_dns::is_reply_to(&answer, data));
        }
        Err(Refusal::Answer(answer)) => assert_eq!(answer.len(), 12),
        Err(Refusal::Ignore) => {}
    }
    let (one, other) = data.split_at(data.len() / 2);
    skep_dns::is_reply_to(one, other);
    let _ = Client::from_text(data);
    let host = ResolvConf::parse(&String::from_utf8_lossy(data));
    let _ = (host.upstreams(ResolvConf::default), skep_dns::resolv::for_bridge(&host, &Overrides::default(), true));
});
