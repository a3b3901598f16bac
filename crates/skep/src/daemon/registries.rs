//! How registries are reached: mirrors, proxies, certificates, from options and configuration file.

use std::path::PathBuf;

use skep_engine::{EngineConfig, Proxies};

use super::file::{File, FileProxies};
use super::settings::{either, list};
use crate::cli::Failure;
use crate::cli::daemon::DaemonFlags;

/// What concerns registries.
pub(super) struct Registries {
    insecure: Vec<String>,
    mirrors: Vec<String>,
    certificate_dirs: Option<Vec<PathBuf>>,
    proxies: Option<Proxies>,
    downloads: Option<usize>,
    attempts: Option<u32>,
    uploads: Option<usize>,
}

impl Registries {
    /// Takes it out of options and file.
    pub(super) fn take(flags: &mut DaemonFlags, file: &mut File, clashes: &mut Vec<String>) -> Result<Self, Failure> {
        let c = clashes;
        let insecure = list(std::mem::take(&mut flags.insecure_registries));
        let mirrors = list(std::mem::take(&mut flags.registry_mirrors));
        let mirrors = either("registry-mirrors", mirrors, file.registry_mirrors.take(), c).unwrap_or_default();
        let dirs = either("certs-dirs", list(std::mem::take(&mut flags.certs_dirs)), file.certs_dirs.take(), c);
        let downloads = number("max concurrent downloads", flags.max_concurrent_downloads.take())?;
        let downloads = either("max-concurrent-downloads", downloads, file.max_concurrent_downloads.take(), c);
        let attempts = number("max download attempts", flags.max_download_attempts.take())?;
        let attempts = either("max-download-attempts", attempts, file.max_download_attempts.take(), c);
        let uploads = number("max concurrent uploads", flags.max_concurrent_uploads.take())?;
        let uploads = either("max-concurrent-uploads", uploads, file.max_concurrent_uploads.take(), c);
        Ok(Registries {
            insecure: either("insecure-registries", insecure, file.insecure_registries.take(), c).unwrap_or_default(),
            mirrors: mirrors.iter().map(|text| mirror(text)).collect::<Result<_, _>>()?,
            certificate_dirs: dirs.map(|dirs| dirs.into_iter().map(PathBuf::from).collect()),
            proxies: proxies(flags, file.proxies.take().unwrap_or_default(), c),
            downloads: downloads.map(|most| positive("max concurrent downloads", most)).transpose()?,
            attempts: attempts.map(|most| positive("max download attempts", most)).transpose()?,
            uploads: uploads.map(|most| positive("max concurrent uploads", most)).transpose()?,
        })
    }

    /// Tells the engine.
    pub(super) fn apply(self, engine: &mut EngineConfig) {
        engine.insecure_registries = self.insecure;
        engine.registry_mirrors = self.mirrors;
        engine.certificate_dirs = self.certificate_dirs;
        engine.proxies = self.proxies;
        engine.max_concurrent_downloads = self.downloads.unwrap_or(engine.max_concurrent_downloads);
        engine.max_download_attempts = self.attempts.unwrap_or(engine.max_download_attempts);
        engine.max_concurrent_uploads = self.uploads.unwrap_or(engine.max_concurrent_uploads);
    }
}

fn proxies(flags: &mut DaemonFlags, own: FileProxies, clashes: &mut Vec<String>) -> Option<Proxies> {
    let http = either("http-proxy", flags.http_proxy.take(), own.http_proxy, clashes);
    let https = either("https-proxy", flags.https_proxy.take(), own.https_proxy, clashes);
    let none = either("no-proxy", flags.no_proxy.take(), own.no_proxy, clashes);
    if http.is_none() && https.is_none() && none.is_none() {
        return None;
    }
    // What is not set here is as in the environment.
    let set = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    Some(Proxies {
        http: http.or_else(|| set(["HTTP_PROXY", "http_proxy"])),
        https: https.or_else(|| set(["HTTPS_PROXY", "https_proxy"])),
        none: none.or_else(|| set(["NO_PROXY", "no_proxy"])),
    })
}

fn number<T: std::str::FromStr>(name: &str, text: Option<String>) -> Result<Option<T>, Failure> {
    let parsed = text.as_deref().map(str::parse).transpose();
    parsed.map_err(|_| Failure::message(format!("invalid {name}: {}", text.unwrap_or_default())))
}

fn positive<T: Default + PartialEq + std::fmt::Display>(name: &str, value: T) -> Result<T, Failure> {
    match value == T::default() {
        true => Err(Failure::message(format!("invalid {name}: {value}"))),
        false => Ok(value),
    }
}

/// A mirror's address, with a slash at its end; dockerd's words when it is none.
fn mirror(text: &str) -> Result<String, Failure> {
    let failed = |why: String| Err(Failure::message(format!("invalid mirror: {why}")));
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) else {
        return failed(format!("{text:?} is not a valid URI"));
    };
    if !matches!(scheme, "http" | "https") {
        return failed(format!("unsupported scheme {scheme:?} in {text:?}"));
    }
    if rest.contains(['?', '#']) {
        return failed(format!("query or fragment at end of the URI {text:?}"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    if let Some((user, host)) = host.rsplit_once('@') {
        let user = user.split(':').next().unwrap_or_default();
        return failed(format!("username/password not allowed in URI \"{scheme}://{user}:xxxxx@{host}\""));
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return failed(format!("{text:?} is not a valid URI"));
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_addresses_without_secrets() {
        assert_eq!(mirror("https://m.example").expect("good"), "https://m.example/");
        assert_eq!(mirror("http://m.example:5000/hub/").expect("good"), "http://m.example:5000/hub/");
        for (bad, part) in [
            ("m.example", "is not a valid URI"),
            ("ftp://m.example", "unsupported scheme \"ftp\""),
            ("https://m.example/?a", "query or fragment"),
            ("https://me:secret@m.example", "username/password not allowed"),
            ("https://", "is not a valid URI"),
        ] {
            let error = mirror(bad).expect_err(bad).text;
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
