//! What `--add-host` takes.

/// Splits `host:address` as `--add-host` writes it; the address may hold colons, be in brackets, or be `host-gateway`.
/// `host=address` is accepted too.
pub(crate) fn parse_extra_host(text: &str) -> Option<(&str, &str)> {
    let (host, address) = text.split_once(['=', ':'])?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let good = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
    (good && !host.is_empty()).then_some((host, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts() {
        assert_eq!(parse_extra_host("a:1.2.3.4"), Some(("a", "1.2.3.4")));
        assert_eq!(parse_extra_host("a:::1"), Some(("a", "::1")));
        assert_eq!(parse_extra_host("a=[::1]"), Some(("a", "::1")));
        assert_eq!(parse_extra_host("a:host-gateway"), Some(("a", "host-gateway")));
        for bad in ["a", "a:", ":1.2.3.4", "a:1.2.3", "a:b"] {
            assert_eq!(parse_extra_host(bad), None, "{bad}");
        }
    }
}
