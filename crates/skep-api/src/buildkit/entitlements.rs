//! What a build may be allowed: what its client grants it (`--allow`), as far as the daemon lets clients grant it.

use skep_build::BuildError;
use skep_build::request::{Allow, Devices};
use skep_engine::Entitlements;

/// The names of entitlements.
pub(crate) const NETWORK_HOST: &str = "network.host";
pub(crate) const SECURITY_INSECURE: &str = "security.insecure";
const DEVICE: &str = "device";

/// What a client grants.
pub(crate) fn granted(entitlements: &[String]) -> Result<Allow, BuildError> {
    let mut allow = Allow::default();
    for entitlement in entitlements {
        match entitlement.split_once('=') {
            None if entitlement == NETWORK_HOST => allow.network_host = true,
            None if entitlement == SECURITY_INSECURE => allow.insecure = true,
            None if entitlement == DEVICE => allow.devices.all = true,
            Some((DEVICE, text)) => device(&mut allow.devices, text)?,
            _ => return Err(BuildError::invalid(format!("unknown entitlement {entitlement}"))),
        }
    }
    Ok(allow)
}

/// `NAME[,alias=OTHER]`: the device goes by the other name in the Dockerfile.
fn device(devices: &mut Devices, text: &str) -> Result<(), BuildError> {
    let mut fields = text.split(',');
    let name = fields.next().unwrap_or_default();
    let mut alias = None;
    for field in fields {
        match field.split_once('=') {
            None => return Err(BuildError::invalid(format!("invalid device config {field:?}"))),
            Some(("alias", value)) => alias = Some(value),
            Some((key, _)) => return Err(BuildError::invalid(format!("unknown device config key {key:?}"))),
        }
    }
    let (key, other) = alias.filter(|alias| !alias.is_empty()).map_or((name, None), |alias| (alias, Some(name)));
    devices.names.insert(key.to_owned(), other.map(str::to_owned));
    Ok(())
}

/// Refuses what the daemon lets no client grant, in BuildKit's words.
pub(crate) fn check(entitlements: &[String], daemon: Entitlements) -> Result<(), BuildError> {
    let allow = granted(entitlements)?;
    let wanted = [
        (NETWORK_HOST, allow.network_host, daemon.network_host),
        (SECURITY_INSECURE, allow.insecure, daemon.security_insecure),
        (DEVICE, allow.devices != Devices::default(), daemon.device),
    ];
    match wanted.into_iter().find(|(_, wanted, possible)| *wanted && !possible) {
        Some((name, ..)) => Err(BuildError::new(
            skep_types::ErrorKind::Forbidden,
            format!("granting entitlement {name} is not allowed by build daemon configuration"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn clients_grant_and_daemons_limit() {
        let daemon = Entitlements::default();
        for (wanted, refused) in [
            (&["network.host", "device"][..], None),
            (
                &["security.insecure"],
                Some("granting entitlement security.insecure is not allowed by build daemon configuration"),
            ),
            (&["device", "colour"], Some("unknown entitlement colour")),
            (&["network.host=x"], Some("unknown entitlement network.host=x")),
            (&["device=a.com/b=c,alias"], Some("invalid device config \"alias\"")),
            (&["device=a.com/b=c,name=x"], Some("unknown device config key \"name\"")),
        ] {
            let answer = check(&words(wanted), daemon).err().map(|error| error.message);
            assert_eq!(answer.as_deref(), refused, "{wanted:?}");
        }
        let none = Entitlements { device: false, network_host: false, ..daemon };
        for wanted in ["device=a.com/b=c", "network.host"] {
            assert!(check(&words(&[wanted]), none).is_err(), "{wanted}");
        }
        assert!(check(&words(&["security.insecure"]), Entitlements { security_insecure: true, ..none }).is_ok());
    }

    #[test]
    fn devices_are_granted_by_name_or_all() {
        let devices = granted(&words(&["device=a.com/b=c", "device=a.com/b=d,alias=own"])).expect("good").devices;
        let grants = ["a.com/b=c", "own", "a.com/b=d", "a.com/b=e"].map(|name| devices.grant(name));
        assert_eq!(grants, [Some("a.com/b=c"), Some("a.com/b=d"), None, None]);
        let all = granted(&words(&["device=a.com/b=d,alias=own", "device", "device=a.com/x"])).expect("good").devices;
        assert_eq!(["own", "e.org/f"].map(|name| all.grant(name)), [Some("a.com/b=d"), Some("e.org/f")], "both hold");
        let kind = granted(&words(&["device=a.com/b"])).expect("good").devices;
        assert_eq!(["a.com/b=c", "a.com/c=c"].map(|name| kind.grant(name)), [Some("a.com/b=c"), None]);
    }
}
