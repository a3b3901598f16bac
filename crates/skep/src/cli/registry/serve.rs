//! `registry serve`: a registry of one's own.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_registryd::storage::Location;
use skep_registryd::{
    Access, CacheConfig, Collection, Maintenance, Mode, Parts, Registry, Reloader, Retention, Settings, TlsFiles,
    Untagged,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::authority;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct ServeFlags {
        access_rules: Option<String> => "access-rules", "File of rules that say what users may do";
        anonymous_pull: bool => "anonymous-pull", "Let everybody pull without credentials";
        debug: bool => "debug" 'D', "Say more about what happens";
        gc_grace: String = "1h" => "gc-grace", "What is younger is never garbage";
        gc_interval: String = "1h" => "gc-interval", "How often garbage is collected; 0 for never";
        gc_untagged: bool => "gc-untagged", "Manifests that never had a tag are garbage, too";
        grace: String = "10s" => "grace", "How long requests may go on after SIGTERM";
        htpasswd: Option<String> => "htpasswd", "File of users and their passwords, as htpasswd -B makes it";
        listen: String = "127.0.0.1:5000" => "listen", "Where clients connect, as host:port; port 0 for a free one";
        metrics_listen: Option<String> => "metrics-listen", "Where /metrics is served instead, without TLS and credentials";
        read_only: bool => "read-only", "Serve what is there, take nothing";
        retention: Option<String> => "retention", "File of rules that say which tags stay";
        root: String = "/var/lib/skep-registry" => "root", "Folder for everything that lasts";
        s3_endpoint: Option<String> => "s3-endpoint", "Address of an S3-compatible store that is not Amazon's";
        s3_region: Option<String> => "s3-region", "The store's region";
        sparse_indexes: bool => "sparse-indexes", "Take an index whose manifests are not all there";
        storage: Option<String> => "storage", "Where content is kept instead of --root: s3://bucket/prefix";
        tls_cert: Option<String> => "tls-cert", "File of the registry's certificate and its chain";
        tls_client_ca: Option<String> => "tls-client-ca", "File of authorities: serve only clients that show a certificate of theirs";
        tls_key: Option<String> => "tls-key", "File of its private key";
        token_issuer: Option<String> => "token-issuer", "Who makes the tokens: their iss";
        token_keys: Option<String> => "token-keys", "File of the keys that tokens are signed with: JWKS, or public keys in PEM";
        token_realm: Option<String> => "token-realm", "Where clients get tokens";
        token_service: Option<String> => "token-service", "Who the tokens are for: their aud";
        upload_age: String = "24h" => "upload-age", "Uploads that nobody goes on with for so long are given up";
        upstreams: Option<String> => "upstreams", "File of registries that this one is a cache of";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["registry serve"],
    usage: "[OPTIONS]",
    about: "Run a registry that any client can push to and pull from

Everything is kept below --root: no other program or database is needed. With
--storage the content, though not the metadata, is in an S3-compatible store,
with credentials from the environment (AWS_ACCESS_KEY_ID and so on). Names and
tags are in registry.redb below --root in any case: whoever loses that file has
content that nobody can name, so keep copies of it, made while the registry is
stopped or by a snapshot of the file system. Without it, the registry does not
start on a storage that has content.

The first line on standard output says where the registry listens; requests are
logged on standard error. SIGTERM ends it once running requests are done.

A registry for this machine:
  skep registry serve --root /srv/registry
  skep tag app 127.0.0.1:5000/team/app && skep push 127.0.0.1:5000/team/app

A team's registry, with TLS, users and public reading:
  htpasswd -B -c /etc/registry.users ana
  skep registry serve --listen :443 --tls-cert cert.pem --tls-key key.pem \\
      --htpasswd /etc/registry.users --anonymous-pull
What users may do is everything, or what rules allow:
  {\"rules\": [{\"users\": [\"*\"], \"repositories\": [\"public/**\"], \"actions\": [\"pull\"]},
             {\"users\": [\"ana\"], \"repositories\": [\"**\"],
              \"actions\": [\"pull\", \"push\", \"delete\"]}]}
Tokens of another service are taken with --token-realm, --token-service,
--token-issuer and --token-keys.

SIGHUP makes the registry read its files again (certificate and key, users,
rules, keys, upstreams, retention) without a client noticing; if one of them is
wrong all stay as they were, and the log says why. Files of users, access rules
and keys for tokens are read again by themselves when they change.

A cache of other registries, for names that begin with their prefix or that a
client asks for with ns=REGISTRY:
  {\"manifestTtl\": \"5m\", \"upstreams\": [
    {\"prefix\": \"hub/\", \"registry\": \"docker.io\", \"username\": \"ana\",
     \"passwordFile\": \"/etc/hub.password\"}]}

Garbage is collected while the registry runs: what a deleted tag took is free
after --gc-grace. Which tags stay can be left to rules, of which the first that
fits a repository counts:
  {\"rules\": [{\"repositories\": \"team/**\", \"keepMatching\": [\"v*\", \"latest\"],
              \"keepLast\": 10, \"maxAge\": \"720h\"}]}
Try them first: skep registry gc --dry-run --retention FILE",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ServeFlags::specs,
    run: runner!(ServeFlags, run),
};

async fn run(cli: &Cli, flags: ServeFlags, _: Vec<String>) -> Outcome {
    let level = if flags.debug || cli.globals.debug { "debug,hyper=info" } else { "info" };
    let filter = EnvFilter::try_new(level).map_err(|error| Failure::message(error.to_string()))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let settings = settings(&flags)?;
    // The registry has threads of its own; this one, made for a client, waits for it.
    let registry = std::thread::spawn(move || serve(settings));
    registry.join().unwrap_or_else(|_| Err(Failure::message("the registry broke down")))
}

fn settings(flags: &ServeFlags) -> Result<Settings, Failure> {
    let mut settings = Settings::new(PathBuf::from(&flags.root), address(&flags.listen)?);
    settings.access = if flags.read_only { Access::ReadOnly } else { Access::ReadWrite };
    settings.storage = match (&flags.storage, &flags.s3_endpoint, &flags.s3_region) {
        (None, None, None) => None,
        (None, ..) => return Err(Failure::usage("--s3-endpoint and --s3-region need --storage")),
        (Some(url), endpoint, region) => {
            Some(Location { url: Some(url.clone()), endpoint: endpoint.clone(), region: region.clone() })
        }
    };
    let upstreams = flags.upstreams.as_ref().map(|file| CacheConfig::read(Path::new(file))).transpose();
    settings.cache = upstreams.map_err(|error| Failure::message(error.to_string()))?;
    settings.authority = Arc::new(authority::authority(flags)?);
    let client_authorities = flags.tls_client_ca.as_ref().map(PathBuf::from);
    settings.tls = match (&flags.tls_cert, &flags.tls_key) {
        (None, None) if client_authorities.is_some() => {
            return Err(Failure::usage("--tls-client-ca needs --tls-cert and --tls-key"));
        }
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            Some(TlsFiles { certificate: certificate.into(), key: key.into(), client_authorities })
        }
        _ => return Err(Failure::usage("--tls-cert and --tls-key need each other")),
    };
    settings.metrics_listen = flags.metrics_listen.as_deref().map(address).transpose()?;
    settings.parts = if flags.sparse_indexes { Parts::Blobs } else { Parts::All };
    settings.grace = duration("grace", &flags.grace)?;
    settings.maintenance = Maintenance {
        interval: Some(duration("gc-interval", &flags.gc_interval)?).filter(|interval| !interval.is_zero()),
        collection: Collection {
            grace: duration("gc-grace", &flags.gc_grace)?,
            upload_age: duration("upload-age", &flags.upload_age)?,
            untagged: if flags.gc_untagged { Untagged::Remove } else { Untagged::Keep },
            mode: Mode::Remove,
        },
    };
    settings.retention = retention(flags.retention.as_deref())?;
    Ok(settings)
}

/// The rules of a file.
pub(super) fn retention(file: Option<&str>) -> Result<Retention, Failure> {
    let rules = file.map_or_else(|| Ok(Retention::default()), |file| Retention::read(Path::new(file)));
    rules.map_err(|error| Failure::message(error.to_string()))
}

pub(super) fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    skep_types::parse_go_duration(text)
        .map_err(|error| Failure::usage(format!("invalid argument {text:?} for \"--{flag}\" flag: {error}")))
}

/// `host:port`; without a host every address of the machine.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let wrong = |reason: String| Failure::usage(format!("invalid argument {text:?} for \"--listen\" flag: {reason}"));
    let mut found = full.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("the host has no address".to_owned()))
}

fn serve(settings: Settings) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let registry = Registry::start(settings).await.map_err(|error| Failure::message(error.to_string()))?;
        ui::line(&format!("listening on {scheme}://{}", registry.address()));
        if let Some(address) = registry.metrics_address() {
            ui::line(&format!("metrics on http://{address}/metrics"));
        }
        let reloader = registry.reloader();
        let shutdown = async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hangup.recv() => reload(&reloader).await,
                }
            }
            tracing::info!("stopping: requests that run may end");
        };
        registry.run(shutdown).await;
        Ok(())
    })
}

/// The files are few and small, but a disk may be slow.
async fn reload(reloader: &Reloader) {
    let reloader = reloader.clone();
    match tokio::task::spawn_blocking(move || reloader.reload()).await {
        Ok(Ok(())) => tracing::info!("all files are read again"),
        Ok(Err(error)) => tracing::error!(%error, "what was in the files before still counts"),
        Err(error) => tracing::error!(%error, "reading the files again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let read = |text: &str| address(text).map(|address| address.to_string()).map_err(|failure| failure.text);
        assert_eq!(read(":5000"), Ok("0.0.0.0:5000".to_owned()));
        assert_eq!(read("[::1]:0"), Ok("[::1]:0".to_owned()));
        assert!(read("5000").is_err_and(|text| text.starts_with("invalid argument \"5000\" for \"--listen\" flag")));
    }
}
