//! How much may flow to and from a container: said by labels that its user gave it (an image's do not count), and for one
//! network by options of its endpoint.

use std::collections::BTreeMap;

use skep_net::Rate;

/// Bits per second into the container: `10mbit`.
const IN: &str = "skep.rate.in";
/// Out of it.
const OUT: &str = "skep.rate.out";

/// The rates that labels or options name.
pub(crate) fn named(words: &BTreeMap<String, String>) -> Result<Rate, String> {
    let one = |name: &str| match words.get(name).map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => Rate::parse(text).map(Some).map_err(|error| format!("{name}: {error}")),
    };
    Ok(Rate { inbound: one(IN)?, outbound: one(OUT)? })
}

/// A container's rates in one network: what the endpoint's options name goes before what holds for all.
pub(super) fn of_endpoint(all: Rate, options: &BTreeMap<String, String>) -> Result<Rate, String> {
    let own = named(options)?;
    Ok(Rate { inbound: own.inbound.or(all.inbound), outbound: own.outbound.or(all.outbound) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoints_own_rate_goes_before() {
        let words = |name: &str, rate: &str| BTreeMap::from([(name.to_owned(), rate.to_owned())]);
        let all = named(&words(IN, "10mbit")).unwrap();
        let both = of_endpoint(all, &words(OUT, "1mbit")).unwrap();
        assert_eq!((both.inbound, both.outbound.map(u64::from)), (all.inbound, Some(1_000_000)));
        assert_eq!(of_endpoint(all, &words(IN, "5mbit")).unwrap().inbound.map(u64::from), Some(5_000_000));
        assert_eq!(named(&words(IN, "")).unwrap(), Rate::default());
        assert!(named(&words(OUT, "fast")).unwrap_err().starts_with("skep.rate.out: invalid rate \"fast\""));
    }
}
