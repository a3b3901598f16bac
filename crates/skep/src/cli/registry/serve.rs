//! `registry serve`: a registry of one's own.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_registryd::{Access, Collection, Maintenance, Mode, Parts, Registry, Retention, Settings, Untagged};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct ServeFlags {
        debug: bool => "debug" 'D', "Say more about what happens";
        gc_grace: String = "1h" => "gc-grace", "What is younger is never garbage";
        gc_interval: String = "1h" => "gc-interval", "How often garbage is collected; 0 for never";
        gc_untagged: bool => "gc-untagged", "Manifests that never had a tag are garbage, too";
        grace: String = "10s" => "grace", "How long requests may go on after SIGTERM";
        listen: String = "127.0.0.1:5000" => "listen", "Where clients connect, as host:port; port 0 for a free one";
        read_only: bool => "read-only", "Serve what is there, take nothing";
        retention: Option<String> => "retention", "File of rules that say which tags stay";
        root: String = "/var/lib/skep-registry" => "root", "Folder for everything that lasts";
        sparse_indexes: bool => "sparse-indexes", "Take an index whose manifests are not all there";
        upload_age: String = "24h" => "upload-age", "Uploads that nobody goes on with for so long are given up";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["registry serve"],
    usage: "[OPTIONS]",
    about: "Run a registry that any client can push to and pull from

Everything is kept below --root: no other program or database is needed. The
first line on standard output says where the registry listens; requests are
logged on standard error. SIGTERM ends it once running requests are done.

A registry for this machine:
  skep registry serve --root /srv/registry
  skep tag app 127.0.0.1:5000/team/app && skep push 127.0.0.1:5000/team/app

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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let settings = settings(&flags)?;
    // The registry has threads of its own; this one, made for a client, waits for it.
    let registry = std::thread::spawn(move || serve(settings));
    registry.join().unwrap_or_else(|_| Err(Failure::message("the registry broke down")))
}

fn settings(flags: &ServeFlags) -> Result<Settings, Failure> {
    let mut settings = Settings::new(PathBuf::from(&flags.root), address(&flags.listen)?);
    settings.access = if flags.read_only { Access::ReadOnly } else { Access::ReadWrite };
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
        retention: retention(flags.retention.as_deref())?,
    };
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
        let registry = Registry::start(settings).await.map_err(|error| Failure::message(error.to_string()))?;
        ui::line(&format!("listening on http://{}", registry.address()));
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: requests that run may end");
        };
        registry.run(shutdown).await;
        Ok(())
    })
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
