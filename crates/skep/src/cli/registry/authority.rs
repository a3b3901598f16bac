//! From the flags of `registry serve` to who may do what.

use std::path::Path;

use skep_registryd::auth::{Authority, FileError, Htpasswd, Issuer, Rules, Scheme, TokenSource, Verifier};

use super::serve::ServeFlags;
use crate::cli::Failure;

/// The name of the registry's own tokens' maker, and whom they are for unless the user names somebody.
const OWN: &str = "skep-registry";

/// Puts together what the flags name; they have to make sense together.
pub(super) fn authority(flags: &ServeFlags) -> Result<Authority, Failure> {
    let rules = flags.access_rules.as_ref().map(|file| Rules::open(Path::new(file))).transpose().map_err(unusable)?;
    let scheme = match (&flags.htpasswd, &flags.token_keys) {
        (Some(_), Some(_)) => return Err(Failure::usage("--htpasswd and --token-keys exclude each other")),
        (None, Some(keys)) => Scheme::Token(verifier(flags, keys)?),
        (Some(users), None) => with_users(flags, users, rules.is_some())?,
        (None, None) => Scheme::Open,
    };
    let needs_users = [("--access-rules", rules.is_some()), ("--anonymous-pull", flags.anonymous_pull)];
    if let Some((flag, _)) = needs_users.iter().find(|(_, given)| *given && flags.htpasswd.is_none()) {
        return Err(Failure::usage(format!("{flag} needs --htpasswd")));
    }
    let tokens = [("--token-realm", &flags.token_realm), ("--token-issuer", &flags.token_issuer)];
    if let Some((flag, _)) = tokens.iter().find(|(_, given)| given.is_some() && flags.token_keys.is_none()) {
        return Err(Failure::usage(format!("{flag} needs --token-keys")));
    }
    Ok(Authority { scheme, rules, anonymous_pull: flags.anonymous_pull })
}

/// With passwords alone a client sends them from its first request on or never: where some may do without, there have to be
/// tokens.
fn with_users(flags: &ServeFlags, file: &str, rules: bool) -> Result<Scheme, Failure> {
    let users = Htpasswd::open(Path::new(file)).map_err(unusable)?;
    if !flags.anonymous_pull && !rules {
        return Ok(Scheme::Basic(users));
    }
    let service = flags.token_service.clone().unwrap_or_else(|| OWN.to_owned());
    let source = TokenSource { realm: None, service, issuer: OWN.to_owned() };
    let root = Path::new(&flags.root);
    std::fs::create_dir_all(root)?;
    Ok(Scheme::Issuing(users, Issuer::open(&root.join("token.key"), source).map_err(unusable)?))
}

fn verifier(flags: &ServeFlags, keys: &str) -> Result<Verifier, Failure> {
    let needed = |flag: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| Failure::usage(format!("--token-keys needs {flag}")))
    };
    let source = TokenSource {
        realm: Some(needed("--token-realm", &flags.token_realm)?),
        service: needed("--token-service", &flags.token_service)?,
        issuer: needed("--token-issuer", &flags.token_issuer)?,
    };
    Verifier::open(source, Path::new(keys)).map_err(unusable)
}

fn unusable(error: FileError) -> Failure {
    Failure::message(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_to_make_sense_together() {
        let refused = |change: fn(&mut ServeFlags)| {
            let mut flags = ServeFlags::default();
            change(&mut flags);
            authority(&flags).expect_err("refused").text
        };
        assert_eq!(refused(|flags| flags.anonymous_pull = true), "--anonymous-pull needs --htpasswd");
        assert_eq!(refused(|flags| flags.token_realm = Some("x".to_owned())), "--token-realm needs --token-keys");
        assert_eq!(refused(|flags| flags.token_keys = Some("x".to_owned())), "--token-keys needs --token-realm");
        assert!(matches!(authority(&ServeFlags::default()).expect("open").scheme, Scheme::Open));
    }
}
