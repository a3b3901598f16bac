//! Users and their passwords, in the file form of Apache's `htpasswd -B`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::auth::watched::{FileError, Watched};
use crate::digest::{Algorithm, ContentDigest};

/// How many passwords are checked at once: each takes a processor for a tenth of a second.
const CHECKS: usize = 2;

/// How many good passwords are remembered.
const REMEMBERED: usize = 1000;

/// A hash that no password has to match: checking one takes as long for a user that there is not.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuW4HoMqFXYHXqmPKJE7aGcRQSlyf9pRK";

/// A password file, read again when it changes.
#[derive(Debug)]
pub struct Htpasswd {
    file: Watched<HashMap<String, String>>,
    checks: Arc<Semaphore>,
    /// Digests of user, password and hash that were found to fit: bcrypt is slow by design, and clients send their password with
    /// each request. A changed hash is another entry.
    good: Mutex<HashMap<ContentDigest, ()>>,
    salt: String,
}

impl Htpasswd {
    /// Reads the file; entries that are not bcrypt's are refused.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Htpasswd {
            file: Watched::open(path, parse)?,
            checks: Arc::new(Semaphore::new(CHECKS)),
            good: Mutex::default(),
            salt: skep_fs::atomic::random_name(),
        })
    }

    pub(crate) fn read_again(&self) -> Result<(), FileError> {
        self.file.read_again()
    }

    /// Whether this is the user's password.
    pub(crate) async fn verify(&self, user: &str, password: &str) -> bool {
        let users = self.file.get();
        let hash = users.get(user).map_or(NOBODY, String::as_str).to_owned();
        let known = users.contains_key(user);
        let text = [&self.salt, user, password, &hash].map(|part| format!("{}:{part}", part.len())).concat();
        let entry = ContentDigest::of(Algorithm::Sha256, text.as_bytes());
        if self.good.lock().contains_key(&entry) {
            return true;
        }
        let Ok(_turn) = self.checks.acquire().await else { return false };
        let password = password.to_owned();
        let fits = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let fits = known && fits.unwrap_or(false);
        if fits {
            let mut good = self.good.lock();
            if good.len() >= REMEMBERED {
                good.clear();
            }
            good.insert(entry, ());
        }
        fits
    }
}

fn parse(bytes: &[u8]) -> Result<HashMap<String, String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        let (user, hash) = line.split_once(':').ok_or_else(|| wrong("no name and hash with a colon between"))?;
        if !["$2y$", "$2a$", "$2b$"].iter().any(|prefix| hash.starts_with(prefix)) || hash.len() != 60 {
            return Err(wrong("not a bcrypt hash (htpasswd -B makes them)"));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_checked_and_changes_are_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("htpasswd");
        let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash");
        std::fs::write(&path, format!("# users\nana:{}\n\n", hash("old"))).expect("written");
        let users = Htpasswd::open(&path).expect("users");
        assert!(users.verify("ana", "old").await && users.verify("ana", "old").await);
        assert!(!users.verify("ana", "new").await && !users.verify("bob", "old").await && !users.verify("", "").await);
        std::fs::write(&path, format!("ana:{}\nbob:{}\n", hash("new"), hash("b"))).expect("written");
        assert!(
            users.verify("ana", "new").await && users.verify("bob", "b").await && !users.verify("ana", "old").await
        );
        // Nonsense changes nothing, a deleted user is none.
        std::fs::write(&path, "ana:plain").expect("written");
        assert!(users.verify("ana", "new").await);
        std::fs::write(&path, "").expect("written");
        assert!(!users.verify("ana", "new").await);
        assert!(parse(b"no colon").is_err() && parse(b"a:{SHA}x").is_err() && parse(b"\xff").is_err());
    }
}
