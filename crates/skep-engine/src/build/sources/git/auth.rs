//! How git logs in to a web server: with what the client has under agreed names. None of it is in an argument, a file, or a message.
//!
//! | asked for, in this order | what it is |
//! |---|---|
//! | `GIT_AUTH_HEADER.HOST`, `GIT_AUTH_TOKEN.HOST` | of this host (with its port, if the address has one) |
//! | `GIT_AUTH_HEADER`, `GIT_AUTH_TOKEN` | of any |

use base64::Engine as _;
use skep_build::{BuildError, Services, without_password};

/// What is shown in the place of a secret.
const HIDDEN: &str = "***";

/// Settings of git that log in to the server of `remote`, an address of the web; and what must not be shown.
#[derive(Default)]
pub(super) struct Login {
    /// `GIT_CONFIG_KEY_n` and value.
    pub(super) settings: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Login {
    pub(super) async fn find(services: &dyn Services, remote: &str) -> Result<Login, BuildError> {
        let mut login = Login::default();
        let plain = without_password(remote);
        if let Some((header, secret)) = header(services, host(&plain)).await? {
            login.settings.push((format!("http.{plain}.extraheader"), format!("Authorization: {header}")));
            login.secrets.extend([header, secret]);
        }
        if let Some((setting, secret)) = password(remote) {
            login.settings.push(setting);
            login.secrets.push(secret);
        }
        login.secrets.retain(|secret| !secret.is_empty());
        // One may be part of another.
        login.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(login)
    }

    /// A text without secrets.
    pub(super) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(without_password(text), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

/// What the client sends as `Authorization`, and the secret in it.
async fn header(services: &dyn Services, host: &str) -> Result<Option<(String, String)>, BuildError> {
    for suffix in [format!(".{host}"), String::new()] {
        if let Some(header) = secret(services, &format!("GIT_AUTH_HEADER{suffix}")).await? {
            let credentials = header.split_once(' ').map_or(header.as_str(), |(_, credentials)| credentials).to_owned();
            return Ok(Some((header, credentials)));
        }
        if let Some(token) = secret(services, &format!("GIT_AUTH_TOKEN{suffix}")).await? {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
            return Ok(Some((format!("basic {pair}"), token)));
        }
    }
    Ok(None)
}

async fn secret(services: &dyn Services, name: &str) -> Result<Option<String>, BuildError> {
    let found = services.secret(name).await?;
    let Some(bytes) = found else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match text.contains(['\r', '\n', '\0']) {
        true => Err(BuildError::invalid(format!("the secret {name} has more than one line"))),
        false => Ok(Some(text)),
    }
}

/// The host of an address without a password, with its port.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The setting by which git logs in to a server with the name and the password of an address, if it has any.
fn password(remote: &str) -> Option<((String, String), String)> {
    let (scheme, rest) = remote.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (login, host) = authority.rsplit_once('@')?;
    let secret = login.split_once(':').map_or(login, |(_, password)| password).to_owned();
    Some(((format!("url.{scheme}://{authority}/.insteadOf"), format!("{scheme}://{host}/")), secret))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use skep_build::graph::LocalSource;
    use skep_build::services::{Duplex, Later, RegistryLogin, Synced};
    use skep_types::{Digest, ErrorKind};
    use tokio::io::{AsyncRead, AsyncWrite};

    use super::*;

    /// A client that has secrets and nothing else.
    struct Secrets(BTreeMap<&'static str, &'static str>);

    fn nothing<'a, T: Send + 'a>() -> Later<'a, T> {
        Box::pin(std::future::ready(Err(BuildError::new(ErrorKind::NotFound, "nothing"))))
    }

    impl Services for Secrets {
        fn sync<'a>(&'a self, _: &'a LocalSource, _: OwnedFd, _: &'a (dyn Fn(u64) + Send + Sync)) -> Later<'a, Synced> {
            nothing()
        }
        fn shared_key<'a>(&'a self, _: &'a str) -> Later<'a, Option<String>> {
            nothing()
        }
        fn put_blob<'a>(
            &'a self,
            _: &'a str,
            _: &'a Digest,
            _: u64,
            _: Box<dyn AsyncRead + Send + Unpin>,
        ) -> Later<'a, ()> {
            nothing()
        }
        fn secret<'a>(&'a self, id: &'a str) -> Later<'a, Option<Vec<u8>>> {
            let found = self.0.get(id).map(|secret| secret.as_bytes().to_vec());
            Box::pin(std::future::ready(Ok(found)))
        }
        fn has_agent<'a>(&'a self, _: &'a str) -> Later<'a, bool> {
            nothing()
        }
        fn agent<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn Duplex>> {
            nothing()
        }
        fn login<'a>(&'a self, _: &'a str) -> Later<'a, Option<RegistryLogin>> {
            nothing()
        }
        fn upload<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>> {
            nothing()
        }
        fn send_file<'a>(&'a self, _: usize, _: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>> {
            nothing()
        }
        fn send_tree<'a>(&'a self, _: usize, _: &'a Path) -> Later<'a, ()> {
            nothing()
        }
        fn blob<'a>(&'a self, _: &'a str, _: &'a Digest, _: &'a Path) -> Later<'a, ()> {
            nothing()
        }
    }

    async fn find(secrets: &[(&'static str, &'static str)], remote: &str) -> Result<Login, BuildError> {
        Login::find(&Secrets(secrets.iter().copied().collect()), remote).await
    }

    #[tokio::test]
    async fn the_secret_of_the_host_comes_first() {
        let all = [
            ("GIT_AUTH_TOKEN.h:8443", "own"),
            ("GIT_AUTH_HEADER", "bearer any"),
            ("GIT_AUTH_TOKEN", "any-token"),
            ("GIT_AUTH_HEADER.g", "bearer of-g"),
            ("GIT_AUTH_TOKEN.g", "of-g-token"),
        ];
        for (remote, header) in [
            ("https://me@h:8443/x.git", "Authorization: basic eC1hY2Nlc3MtdG9rZW46b3du"),
            ("https://g/x.git", "Authorization: bearer of-g"),
            ("https://h/x.git", "Authorization: bearer any"),
        ] {
            let login = find(&all, remote).await.expect("a login");
            assert_eq!(login.settings[0].1, header, "{remote}");
            assert_eq!(login.settings[0].0, format!("http.{}.extraheader", without_password(remote)));
        }
        assert!(find(&[], "https://h/x.git").await.expect("none").settings.is_empty());
    }

    #[tokio::test]
    async fn no_secret_is_shown() {
        let login = find(&[("GIT_AUTH_TOKEN", "hush")], "https://me:word@h/x.git").await.expect("a login");
        let said = "fatal: Authorization: basic eC1hY2Nlc3MtdG9rZW46aHVzaA== (hush) at https://me:word@h/x.git: word";
        assert_eq!(login.hide(said), "fatal: Authorization: *** (***) at https://h/x.git: ***");
        let header = find(&[("GIT_AUTH_HEADER", "bearer tacit")], "https://h/x.git").await.expect("a login");
        assert_eq!(header.hide("tacit, bearer tacit"), "***, ***");
        assert!(find(&[("GIT_AUTH_TOKEN", "two\nlines")], "https://h/x.git").await.is_err());
    }

    #[test]
    fn a_password_is_only_in_a_setting() {
        let (setting, secret) = password("https://me:secret@host:8443/a/b.git").expect("a password");
        assert_eq!(setting.0, "url.https://me:secret@host:8443/.insteadOf");
        assert_eq!((setting.1.as_str(), secret.as_str()), ("https://host:8443/", "secret"));
        assert_eq!(password("https://host/a@b.git"), None);
    }
}
