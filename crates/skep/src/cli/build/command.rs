//! `build`: the command itself.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::moby::buildkit::v1 as proto;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::provider::{self, Login, Provider};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tonic::Status;

use super::context::{self, Found};
use super::newfile::NewFile;
use super::output::{Destination, Output};
use super::request::{BuildFlags, Cache, Request};
use super::{failed, layout, result, session, shell, updates};
use crate::cli::command::runner;
use crate::cli::failure::go_path_error;
use crate::cli::flags::FlagSet;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials};
use crate::ui::build::{Display, Style};
use crate::ui::{self, tty};

pub(crate) const COMMAND: Command = Command {
    paths: &["build", "image build", "builder build", "buildx build"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    args: Args::Exactly(1),
    completion: Completion::Nothing,
    flags: BuildFlags::specs,
    run: runner!(BuildFlags, run),
};

/// How often the display is redrawn.
const TICK: Duration = Duration::from_millis(100);
/// How long the last messages of a build are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The same of one that stays open after a failure, and so says no last word.
const LAST_WORDS_OPEN: Duration = Duration::from_millis(100);

/// A build that is ready to be asked for.
struct Prepared {
    request: Request,
    uploads: BTreeMap<String, provider::Upload>,
    /// The Dockerfile, as far as it has a path.
    file: PathBuf,
    /// Holds a Dockerfile that came on standard input, until the end of the build.
    _kept: Option<TempDir>,
}

async fn run(cli: &Cli, flags: BuildFlags, words: Vec<String>) -> Outcome {
    let fail = |text: String| Failure::message(format!("ERROR: failed to build: {text}"));
    let style = if flags.quiet { Style::Quiet } else { Style::parse(&flags.progress).map_err(fail)? };
    if !matches!(flags.builder.as_str(), "" | "default") {
        return Err(Failure::message(format!("ERROR: no builder {:?} found", flags.builder)));
    }
    let call = flags.call().map_err(fail)?;
    shell::wanted(&flags.on_error).map_err(fail)?;
    let proxy = cli.config().proxy(&cli.host()?.0);
    let mut request = flags.request(&proxy, tty::is_terminal(std::io::stdout())).map_err(fail)?;
    if let Some(call) = &call {
        request.attributes.insert("requestid".to_owned(), format!("frontend.{}", call.name));
        request.attributes.insert("frontend.caps".to_owned(), "moby.buildkit.frontend.subrequests".to_owned());
        request.outputs = Vec::new();
    }
    let prepared = prepare(&flags.file, words.first().map_or(".", String::as_str), request).map_err(fail)?;
    let file = prepared.file.clone();
    let answer = build(cli, &flags, style, prepared).await?;
    match call {
        Some(call) => call.show(&answer.values, &file),
        None => finish(&flags, &answer),
    }
}

fn finish(flags: &BuildFlags, answer: &Answer) -> Outcome {
    if !flags.iidfile.is_empty() {
        result::write_id(&flags.iidfile, &answer.values)?;
    }
    if !flags.metadata_file.is_empty() {
        result::write_metadata(&flags.metadata_file, &answer.values, &answer.build)?;
    }
    if let Some(id) = result::image_id(&answer.values).filter(|_| flags.quiet) {
        ui::line(id);
    }
    Ok(())
}

/// Finds the context and the Dockerfile.
fn prepare(file: &str, word: &str, mut request: Request) -> Result<Prepared, String> {
    if file == "-" && word == "-" {
        return Err("invalid argument: can't use stdin for both build context and dockerfile".to_owned());
    }
    let mut stdin = std::io::stdin();
    if word == "-" && tty::is_terminal(&stdin) {
        ui::error_line("reading the context from standard input: an archive or a Dockerfile, ended by Ctrl-D");
    }
    let mut kept = None;
    let mut uploads = BTreeMap::new();
    let mut shown = PathBuf::from(if file.is_empty() { "Dockerfile" } else { file });
    let mut name = if file.is_empty() { "Dockerfile".to_owned() } else { file.to_owned() };
    match context::find(word, &mut stdin)? {
        Found::Directory(path) => {
            let at = match file {
                "" if path == Path::new(".") => PathBuf::from("Dockerfile"),
                "" => path.join("Dockerfile"),
                file => PathBuf::from(file),
            };
            if file != "-" {
                shown.clone_from(&at);
                let folder = at.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                request.directories.insert("dockerfile".to_owned(), folder.to_owned());
                name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
            }
            request.directories.insert("context".to_owned(), path);
        }
        Found::Remote(url) => drop(request.attributes.insert("context".to_owned(), url)),
        Found::Archive(head) => {
            let id = skep_fs::atomic::random_name();
            request.attributes.insert("context".to_owned(), format!("http://buildkit-session/{id}"));
            let rest = std::io::Cursor::new(head).chain(tokio::io::stdin());
            let stream: Box<dyn AsyncRead + Send + Unpin> = Box::new(rest);
            uploads.insert(id, Mutex::new(Some(stream)));
        }
        Found::Text(text) => {
            let folder = keep(&text)?;
            let empty = folder.path().join("empty");
            std::fs::create_dir(&empty).map_err(|error| go_path_error("mkdir", &empty, &error))?;
            request.directories.insert("dockerfile".to_owned(), folder.path().to_owned());
            request.directories.insert("context".to_owned(), empty);
            name = "Dockerfile".to_owned();
            kept = Some(folder);
        }
    }
    if file == "-" {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut stdin, &mut text).map_err(|error| format!("failed to read stdin: {error}"))?;
        let folder = keep(&text)?;
        request.directories.insert("dockerfile".to_owned(), folder.path().to_owned());
        name = "Dockerfile".to_owned();
        kept = Some(folder);
    }
    request.attributes.insert("filename".to_owned(), name);
    Ok(Prepared { request, uploads, file: shown, _kept: kept })
}

/// A folder with a Dockerfile.
fn keep(text: &[u8]) -> Result<TempDir, String> {
    let folder = TempDir::new().map_err(|error| format!("failed to make a folder for the Dockerfile: {error}"))?;
    let path = folder.path().join("Dockerfile");
    std::fs::write(&path, text).map_err(|error| go_path_error("write", &path, &error))?;
    Ok(folder)
}

type Solved = Result<proto::SolveResponse, Status>;

/// What the engine said at the end.
struct Answer {
    values: HashMap<String, String>,
    build: String,
}

async fn build(cli: &Cli, flags: &BuildFlags, style: Style, prepared: Prepared) -> Result<Answer, Failure> {
    let Prepared { mut request, uploads, file: _, _kept } = prepared;
    let warnings = find_caches(&mut request);
    let contexts = find_layouts(&mut request)
        .map_err(|text| Failure::message(format!("ERROR: failed to build: failed to get build context {text}")))?;
    let layouts = layouts(&request);
    let client = cli.client().await?;
    let id = skep_fs::atomic::random_name();
    let build = skep_fs::atomic::random_name();
    let solve = solve_request(&request, &id, &build);
    let shared_key = shared_key(&request);
    let mut files = Vec::new();
    let mut provider = provide(cli, request, uploads, &mut files)?;
    provider.stores.extend(contexts);
    session::open(client, provider, &id, &shared_key).await?;
    let channel = session::builder(client).await?;
    let mut display = Display::new(style, "Building", "skep:default");
    display.begin("building with \"default\" instance using skep");
    let wanted = shell::wanted(&flags.on_error).map_err(Failure::message)?;
    let mut entry = wanted.then(|| shell::Entry::open(&channel, &solve));
    let mut asking = control(channel.clone());
    let solving: Pin<Box<dyn Future<Output = Solved> + Send>> = match &mut entry {
        Some(entry) => Box::pin(entry.solve()),
        None => Box::pin(async move { asking.solve(solve).await.map(tonic::Response::into_inner) }),
    };
    let patience = if wanted { LAST_WORDS_OPEN } else { LAST_WORDS };
    let outcome = follow(channel, solving, (&build, patience), style, &mut display).await;
    display.end();
    if let (Some(entry), Err(status)) = (entry, &outcome) {
        entry.enter(status).await;
    }
    match outcome {
        Ok(values) => {
            for file in files {
                file.keep().map_err(Failure::message)?;
            }
            for (path, key, tag) in &layouts {
                name_layout(path, values.get(*key), tag)?;
            }
            warnings.iter().for_each(|warning| ui::error_line(warning));
            ui::error_text(&display.warnings(flags.debug || cli.globals.debug));
            Ok(Answer { values, build })
        }
        Err(status) => Err(failed::failure(&status)),
    }
}

fn control(channel: Channel) -> ControlClient<Channel> {
    ControlClient::with_origin(channel, Channel::origin()).max_decoding_message_size(skep_buildkit::MESSAGE_LIMIT)
}

/// Waits for the build and shows what is heard of it. Ctrl-C cancels it.
async fn follow(
    channel: Channel,
    mut solve: Pin<Box<dyn Future<Output = Solved> + Send + '_>>,
    (build, patience): (&str, Duration),
    style: Style,
    display: &mut Display,
) -> Result<HashMap<String, String>, Status> {
    let mut control = control(channel);
    let status = proto::StatusRequest { r#ref: build.to_owned() };
    let listening = control.status(status);
    let mut listening = std::pin::pin!(listening);
    let (mut updates, mut asked) = (None, false);
    let mut answer = None;
    let mut tick = tokio::time::interval(TICK);
    let mut last_words = std::pin::pin!(tokio::time::sleep(Duration::MAX / 1_000_000_000));
    loop {
        let listens = !asked && answer.is_none();
        let next = async {
            match &mut updates {
                None => std::future::pending().await,
                Some(stream) => next_message(stream).await,
            }
        };
        tokio::select! {
            biased;
            message = next => match message {
                Some(message) => updates::show(message, style, display),
                None if answer.is_some() => break,
                None => updates = None,
            },
            opened = &mut listening, if listens => {
                asked = true;
                updates = Some(opened?.into_inner());
            }
            ended = &mut solve, if answer.is_none() => {
                answer = Some(ended);
                last_words.as_mut().reset(tokio::time::Instant::now() + patience);
                if updates.is_none() {
                    break;
                }
            }
            () = &mut last_words, if answer.is_some() => break,
            _ = tokio::signal::ctrl_c(), if answer.is_none() => {
                // Dropping the call is what tells the engine.
                return Err(Status::cancelled("context canceled"));
            }
            _ = tick.tick() => display.tick(),
        }
    }
    answer.unwrap_or_else(|| Err(Status::unavailable("the engine went away"))).map(|answer| answer.exporter_response)
}

async fn next_message(stream: &mut tonic::Streaming<proto::StatusResponse>) -> Option<proto::StatusResponse> {
    // How a stream of messages ends tells nothing that the answer doesn't.
    stream.message().await.ok().flatten()
}

fn solve_request(request: &Request, session: &str, build: &str) -> proto::SolveRequest {
    let caches = |caches: &[Cache]| -> Vec<proto::CacheOptionsEntry> {
        caches
            .iter()
            .map(|cache| proto::CacheOptionsEntry {
                r#type: cache.kind.clone(),
                attrs: cache.attributes.clone().into_iter().collect(),
            })
            .collect()
    };
    let exporters = request.outputs.iter().map(|output| proto::Exporter {
        r#type: output.kind.clone(),
        attrs: output.attributes.clone().into_iter().collect(),
    });
    proto::SolveRequest {
        r#ref: build.to_owned(),
        session: session.to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: request.attributes.clone().into_iter().collect(),
        cache: Some(proto::CacheOptions {
            exports: caches(&request.cache_to),
            imports: caches(&request.cache_from),
            ..proto::CacheOptions::default()
        }),
        entitlements: request.entitlements.clone(),
        exporters: exporters.collect(),
        ..proto::SolveRequest::default()
    }
}

/// The same for each build of the same directory by the same user, so that only what changed is sent.
fn shared_key(request: &Request) -> String {
    let Some(path) = request.directories.get("context") else { return String::new() };
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}:{}", rustix::process::getuid().as_raw(), path.display())
}

/// What of this machine the engine may have. `files` gets those that are to be kept in the end.
fn provide(
    cli: &Cli,
    request: Request,
    uploads: BTreeMap<String, provider::Upload>,
    files: &mut Vec<NewFile>,
) -> Result<Provider, Failure> {
    let mut secrets = BTreeMap::new();
    for secret in &request.secrets {
        let value = secret.read().map_err(|text| Failure::message(format!("ERROR: failed to build: {text}")))?;
        secrets.insert(secret.id.clone(), provider::Secret::Value(value));
    }
    let mut agents = BTreeMap::new();
    for agent in &request.agents {
        let opened = agent.open().map_err(|text| Failure::message(format!("ERROR: failed to build: {text}")))?;
        agents.insert(agent.id.clone(), opened);
    }
    let mut stores = BTreeMap::new();
    for cache in request.cache_from.iter().chain(&request.cache_to).filter(|cache| cache.kind == "local") {
        if let Some(path) = cache.attributes.get("dest").or(cache.attributes.get("src")) {
            stores.insert(format!("local:{path}"), PathBuf::from(path));
        }
    }
    let layout = request.outputs.iter().find(|output| matches!(output.kind.as_str(), "oci" | "docker"));
    if let Some(Destination::Directory(path)) = layout.map(|output| &output.destination) {
        stores.insert("export".to_owned(), path.clone());
    }
    Ok(Provider {
        directories: request.directories,
        secrets,
        agents,
        logins: logins(cli),
        exports: request.outputs.iter().map(|output| destination(output, files)).collect::<Result<_, _>>()?,
        uploads,
        stores,
    })
}

/// Finds out what local caches are now; one that is not there is left out. Returns what there is to say of those.
fn find_caches(request: &mut Request) -> Vec<String> {
    let mut warnings = Vec::new();
    request.cache_from.retain_mut(|cache| {
        let Some(source) = cache.attributes.get("src").filter(|_| cache.kind == "local") else { return true };
        if cache.attributes.contains_key("digest") {
            return true;
        }
        let tag = cache.attributes.get("tag").map_or("latest", String::as_str);
        match layout::digest(Path::new(source), tag) {
            Ok(digest) => drop(cache.attributes.insert("digest".to_owned(), digest)),
            Err(error) => {
                warnings.push(format!("WARNING: local cache import at {source} not found due to err: {error}"));
                return false;
            }
        }
        true
    });
    warnings
}

/// Contexts that are layouts (`oci-layout://DIRECTORY[:TAG][@DIGEST]`): the engine asks for their blobs by the name of a store.
fn find_layouts(request: &mut Request) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut stores = BTreeMap::new();
    for (key, value) in request.attributes.iter_mut().filter(|(key, _)| key.starts_with("context:")) {
        let Some(place) = value.strip_prefix("oci-layout://") else { continue };
        let (place, digest) = match place.split_once('@') {
            Some((place, digest)) => (place, Some(digest.to_owned())),
            None => (place, None),
        };
        let (path, tag) = match place.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((path, tag)) => (path, tag),
            None => (place, "latest"),
        };
        let found = digest.map_or_else(|| layout::digest(Path::new(path), tag), Ok);
        let digest = found.map_err(|error| format!("{}: {error}", key.trim_start_matches("context:")))?;
        let store = skep_fs::atomic::random_name();
        stores.insert(format!("oci:{store}"), PathBuf::from(path));
        *value = format!("oci-layout://{store}:{tag}@{digest}");
    }
    Ok(stores)
}

/// Directories that become layouts, each with the part of the answer that says what is in it, and its tag.
fn layouts(request: &Request) -> Vec<(PathBuf, &'static str, String)> {
    let caches = request.cache_to.iter().filter(|cache| cache.kind == "local").filter_map(|cache| {
        let tag = cache.attributes.get("tag").map_or("latest", String::as_str);
        Some((PathBuf::from(cache.attributes.get("dest")?), "cache.manifest", tag.to_owned()))
    });
    let outputs = request.outputs.iter().filter_map(|output| match &output.destination {
        Destination::Directory(path) if matches!(output.kind.as_str(), "oci" | "docker") => {
            let tag = output.attributes.get("name").and_then(|name| name.rsplit_once(':'));
            let tag = tag.map(|(_, tag)| tag).filter(|tag| !tag.contains('/')).unwrap_or("latest");
            Some((path.clone(), "containerimage.descriptor", tag.to_owned()))
        }
        _ => None,
    });
    caches.chain(outputs).collect()
}

/// Gives what the engine put into a layout its name.
fn name_layout(path: &Path, descriptor: Option<&String>, tag: &str) -> Result<(), Failure> {
    let Some(text) = descriptor else { return Ok(()) }; // a cache that could not be written, and need not be
    let descriptor = result::decoded(text);
    let failed = |error| Failure::message(format!("ERROR: {}", go_path_error("write", path, &error)));
    layout::put(path, &descriptor, tag).map_err(failed)
}

/// The logins of the client's config file; helpers are asked when the engine asks.
fn logins(cli: &Cli) -> provider::Logins {
    let config = cli.config().clone();
    Arc::new(move |host| {
        let key = if matches!(host, "docker.io" | "registry-1.docker.io") { credentials::HUB } else { host };
        let found = credentials::find(&config, key).ok()?;
        let login = match found.identitytoken.as_str() {
            "" => Login { username: found.username, secret: found.password },
            token => Login { username: String::new(), secret: token.to_owned() },
        };
        (!login.secret.is_empty()).then_some(login)
    })
}

fn destination(output: &Output, files: &mut Vec<NewFile>) -> Result<provider::Destination, Failure> {
    let stream = |stream: Box<dyn AsyncWrite + Send + Unpin>| provider::Destination::Stream(Mutex::new(Some(stream)));
    Ok(match &output.destination {
        Destination::Engine => provider::Destination::Nowhere,
        Destination::Directory(path) => {
            std::fs::create_dir_all(path)
                .map_err(|error| Failure::message(format!("ERROR: {}", go_path_error("mkdir", path, &error))))?;
            provider::Destination::Directory(path.clone())
        }
        Destination::Stdout => stream(Box::new(tokio::io::stdout())),
        Destination::File(path) => {
            let opened = NewFile::create(path);
            let (file, new) =
                opened.map_err(|error| Failure::message(format!("ERROR: {}", go_path_error("open", path, &error))))?;
            files.extend(new);
            stream(Box::new(tokio::fs::File::from_std(file)))
        }
    })
}
