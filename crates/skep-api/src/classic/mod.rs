//! Builds over `POST /build`: what `DOCKER_BUILDKIT=0 docker build` and the SDKs speak. The context is an archive in the request, the
//! answer a stream of text.

mod context;
mod kit;
mod options;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use skep_build::event::Classic;
use skep_build::services::Services;
use skep_build::{BuildError, BuildEvent, Job};
use skep_wire::Progress;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use crate::buildkit::BuildKit;
use crate::http::answer::{Body, body_stream};
use crate::http::{Answer, ApiError, Request};

use context::{Client, Unpacked};
pub(crate) use options::prune;

/// Events and lines that wait for a slow client.
const PENDING: usize = 64;

/// Bytes of text that are held back.
const HELD_MAX: usize = 2 << 20;

/// `POST /build`.
pub(crate) async fn build(mut request: Request, kit: Arc<BuildKit>) -> Result<Answer, ApiError> {
    let options = options::read(&request)?;
    let logins = options::logins(request.header("x-registry-config"))?;
    let body = std::mem::replace(&mut request.body, crate::http::answer::full(bytes::Bytes::new()));
    let place = request.engine.config().data_root.join("staging");
    let context = match options.has_archive {
        true => Some(Arc::new(unpack(body, place).await?)),
        false => None,
    };
    let client = Arc::new(Client { context, logins });
    let (lines, answer) = mpsc::channel(PENDING);
    let cancel = CancellationToken::new();
    let work = Work { kit, options, client, cancel: cancel.clone(), lines };
    answer_with(work, answer).await
}

/// Puts the archive into a directory that goes with the build.
async fn unpack(body: Body, place: std::path::PathBuf) -> Result<Unpacked, ApiError> {
    let archive = SyncIoBridge::new(StreamReader::new(body_stream(body)));
    match tokio::task::spawn_blocking(move || Unpacked::new(archive, &place)).await {
        Ok(unpacked) => unpacked.map_err(ApiError::from),
        Err(error) => Err(ApiError::new(skep_types::ErrorKind::System, format!("the request broke off: {error}"))),
    }
}

/// A build, and where its text goes.
struct Work {
    kit: Arc<BuildKit>,
    options: options::Options,
    client: Arc<Client>,
    cancel: CancellationToken,
    lines: mpsc::Sender<Progress>,
}

impl Work {
    async fn run(self) -> Result<(), BuildError> {
        if !self.options.request.classic {
            return kit::run(self).await;
        }
        let Work { kit, options, client, cancel, lines } = self;
        let _cancels = cancel.clone().drop_guard();
        let _entry = kit.builds.begin_classic(&options.id, cancel.clone());
        let (events, receiver) = mpsc::channel(PENDING);
        let services: Arc<dyn Services> = client;
        let job = Job { services, events, cancel, inputs: Default::default() };
        let building = async {
            let built = kit.builder.build(options.request.clone(), job.clone()).await?;
            let answers = kit.builder.export(&built, &options.request, &job).await;
            drop(job);
            answers.map(|exported| exported.metadata)
        };
        let mut teller = Teller::new(lines.clone(), options.quiet);
        let (answers, ()) = tokio::join!(building, teller.take(receiver));
        if answers.is_err() {
            teller.fail(options.force_remove).await;
        }
        let answers = answers?;
        let id = answers.get("containerimage.config.digest").or_else(|| answers.get("containerimage.digest"));
        for line in text::end(id.map(String::as_str).unwrap_or_default(), &options.names, options.quiet) {
            let _ = lines.send(line).await; // nobody has to listen
        }
        Ok(())
    }
}

/// Turns events into text.
struct Teller {
    lines: mpsc::Sender<Progress>,
    /// What a client that wants to hear nothing hears all the same if the build fails.
    held: Option<Held>,
    /// What stands for the container of the step that runs.
    running: Option<String>,
}

/// The last lines, of bounded size.
#[derive(Default)]
struct Held {
    lines: VecDeque<Progress>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, line: Progress) {
        self.bytes += line.stream.len();
        self.lines.push_back(line);
        while self.bytes > HELD_MAX {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.stream.len());
        }
    }
}

impl Teller {
    fn new(lines: mpsc::Sender<Progress>, quiet: bool) -> Self {
        Teller { lines, held: quiet.then(Held::default), running: None }
    }

    /// Takes events until all who tell them are gone.
    async fn take(&mut self, mut events: mpsc::Receiver<BuildEvent>) {
        while let Some(event) = events.recv().await {
            match &event {
                BuildEvent::Classic(Classic::Running { container }) => self.running = Some(container.clone()),
                BuildEvent::Classic(Classic::Removed { .. }) => self.running = None,
                _ => {}
            }
            for line in text::lines(event) {
                self.say(line).await;
            }
        }
    }

    /// The build has failed.
    async fn fail(&mut self, force_remove: bool) {
        if let Some(container) = self.running.take().filter(|_| force_remove) {
            for line in text::lines(BuildEvent::Classic(Classic::Removed { container })) {
                self.say(line).await;
            }
        }
        for line in self.held.take().unwrap_or_default().lines {
            self.say(line).await;
        }
    }

    async fn say(&mut self, line: Progress) {
        match &mut self.held {
            Some(held) => held.push(line),
            // Nobody is there to be told any more; the build goes on all the same.
            None => drop(self.lines.send(line).await),
        }
    }
}

/// The text as it comes. A failure before the first line is an error like any other, a later one is the last line.
async fn answer_with(work: Work, lines: mpsc::Receiver<Progress>) -> Result<Answer, ApiError> {
    let mut stream = Box::pin(text::until_the_end(work.run(), lines));
    let first = match stream.next().await {
        None => None,
        Some(Ok(line)) => Some(line),
        Some(Err(error)) => return Err(ApiError::from(error)),
    };
    let rest = stream.map(|line| line.unwrap_or_else(|error| text::failure(&error)));
    let lines = futures_util::stream::iter(first).chain(rest);
    Ok(Answer::stream("application/json", lines.map(|line| Ok::<_, std::convert::Infallible>(text::encode(&line)))))
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        ApiError::new(error.kind, error.message)
    }
}
