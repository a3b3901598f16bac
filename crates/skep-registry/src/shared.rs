//! What connections to registries share: HTTP clients, which keep their connections open for the next one, and tokens.
//!
//! A client is shared by those that would build the same one: the key holds all that goes into it, the bytes of the certificates
//! among it. These are read anew for each connection, so that a changed file means another client; that goes for `hosts.toml` too, which
//! is read before. Of the system's authorities only what the file system says about their files is looked at.
//!
//! A token is shared by those that would ask the same service for the same with the same credentials. The key is a hash: neither a
//! password nor a refresh token stays in memory for it. Logins share no tokens, for they ask whether credentials are good *now*.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::header::HeaderValue;

use crate::config::Proxies;

/// A client that nobody asked for in so long is dropped, with its connections, when another one is asked for.
const IDLE: Duration = Duration::from_secs(300);
/// The most clients and the most tokens that are kept.
const MOST: usize = 64;

/// Connections and tokens, shared by all clones.
#[derive(Clone, Default)]
pub struct Shared(Arc<Inner>);

#[derive(Default)]
struct Inner {
    clients: Mutex<HashMap<ClientKey, (Client, Instant)>>,
    tokens: Mutex<HashMap<Fingerprint, Token>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// All that tells one client from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    pub(crate) user_agent: String,
    pub(crate) connect_timeout: Duration,
    /// Of reads; a client for pushes has none.
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) route: Route,
    /// Any certificate of the server will do.
    pub(crate) trusting: bool,
    /// Of the certificates that were configured, in their order.
    pub(crate) certificates: Fingerprint,
    /// What the files of the system's authorities look like; empty where they do not count.
    pub(crate) system: Vec<Stamp>,
}

/// The way to a host.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Direct,
    Proxies(Proxies),
    /// What the environment says.
    Environment,
}

/// A token as it is sent.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) expires: Instant,
}

/// A hash of several texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut all = Vec::new();
        for part in parts {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &all).as_ref());
        all.fill(0);
        Fingerprint(hash)
    }
}

impl Shared {
    /// The client of a key, built if there is none.
    pub(crate) fn client<E>(&self, key: ClientKey, build: impl FnOnce() -> Result<Client, E>) -> Result<Client, E> {
        let now = Instant::now();
        let mut clients = self.0.clients.lock();
        clients.retain(|_, (_, used)| now.saturating_duration_since(*used) < IDLE);
        if let Some((client, used)) = clients.get_mut(&key) {
            *used = now;
            return Ok(client.clone());
        }
        let client = build()?;
        if clients.len() >= MOST {
            drop_first(&mut clients, |(_, used)| *used);
        }
        clients.insert(key, (client.clone(), now));
        Ok(client)
    }

    /// A token that is good at least until `until`.
    pub(crate) fn token(&self, key: &Fingerprint, until: Instant) -> Option<Token> {
        self.0.tokens.lock().get(key).filter(|token| token.expires > until).cloned()
    }

    pub(crate) fn keep_token(&self, key: Fingerprint, token: Token) {
        let now = Instant::now();
        let mut tokens = self.0.tokens.lock();
        tokens.retain(|_, token| token.expires > now);
        if tokens.len() >= MOST {
            drop_first(&mut tokens, |token| token.expires);
        }
        tokens.insert(key, token);
    }

    /// A token that was refused is not given to others.
    pub(crate) fn drop_token(&self, refused: &HeaderValue) {
        self.0.tokens.lock().retain(|_, token| token.header != refused);
    }
}

/// Makes room: the one with the earliest time goes.
fn drop_first<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, time: impl Fn(&V) -> Instant) {
    let first = map.iter().min_by_key(|(_, value)| time(value)).map(|(key, _)| key.clone());
    if let Some(first) = first {
        map.remove(&first);
    }
}

/// Modification time and length of a file; nothing if it is not there.
pub(crate) type Stamp = Option<(SystemTime, u64)>;

/// What the places look like where TLS libraries look for the system's authorities.
pub(crate) fn system_authorities() -> Vec<Stamp> {
    const PLACES: [&str; 6] = [
        "/etc/ssl/certs",
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ];
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let stamp = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    named.chain(PLACES.map(PathBuf::from)).map(|path| stamp(&path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user_agent: &str) -> ClientKey {
        ClientKey {
            user_agent: user_agent.to_owned(),
            connect_timeout: Duration::from_secs(1),
            read_timeout: None,
            route: Route::Direct,
            trusting: true,
            certificates: Fingerprint::of([]),
            system: Vec::new(),
        }
    }

    #[test]
    fn a_client_is_built_once_for_a_key() {
        let shared = Shared::default();
        let mut built = 0;
        for number in [0, 0, 1, 0, 1] {
            let key = key(&number.to_string());
            let client = shared.client(key, || {
                built += 1;
                Client::builder().tls_danger_accept_invalid_certs(true).build()
            });
            client.expect("a client");
        }
        assert_eq!(built, 2);
    }

    #[test]
    fn a_failure_is_not_kept_and_the_number_is_bounded() {
        let shared = Shared::default();
        assert!(shared.client(key("x"), || Err::<Client, _>("no")).is_err());
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
        for number in 0..MOST + 10 {
            shared.client(key(&number.to_string()), || Ok::<_, ()>(client.clone())).expect("a client");
        }
        assert_eq!(shared.0.clients.lock().len(), MOST);
    }

    #[test]
    fn tokens_expire_and_go_when_they_are_refused() {
        let (shared, now) = (Shared::default(), Instant::now());
        let token = |text: &'static str, lifetime| Token {
            header: HeaderValue::from_static(text),
            expires: now + Duration::from_secs(lifetime),
        };
        let (one, two) = (Fingerprint::of([&b"a"[..], b"bc"]), Fingerprint::of([&b"ab"[..], b"c"]));
        assert_ne!(one, two);
        shared.keep_token(one, token("Bearer 1", 60));
        shared.keep_token(two, token("Bearer 2", 600));
        assert!(shared.token(&one, now + Duration::from_secs(70)).is_none());
        assert!(shared.token(&one, now).is_some());
        shared.drop_token(&HeaderValue::from_static("Bearer 1"));
        assert!(shared.token(&one, now).is_none());
        assert!(shared.token(&two, now).is_some());
    }
}
