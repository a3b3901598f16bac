//! Builds over `POST /build`: what `DOCKER_BUILDKIT=0 docker build` and the SDKs speak. The context is an archive in the request, the
//! answer a stream of text.

mod context;
mod options;
mod text;

use std::sync::Arc;

use futures_util::StreamExt;
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
        let Work { kit, options, client, cancel, lines } = self;
        let _cancels = cancel.clone().drop_guard();
        let _entry = kit.builds.begin_classic(&options.id, cancel.clone());
        let (events, receiver) = mpsc::channel(PENDING);
        let services: Arc<dyn Services> = client;
        let job = Job { services, events, cancel, inputs: Default::default() };
        let building = async {
            let built = kit.builder.build(options.request.clone(), job.clone()).await?;
            let answers = kit.builder.export(&built, &options.request.exports, &job).await;
            drop(job);
            answers
        };
        let telling = tell(receiver, lines.clone(), options.quiet);
        let (answers, ()) = tokio::join!(building, telling);
        let answers = answers?;
        let id = answers.get("containerimage.config.digest").or_else(|| answers.get("containerimage.digest"));
        for line in text::end(id.map(String::as_str).unwrap_or_default(), &options.names, options.quiet) {
            // Nobody is there to be told any more; the build is done all the same.
            let _ = lines.send(line).await;
        }
        Ok(())
    }
}

/// Turns events into text until all who tell them are gone.
async fn tell(mut events: mpsc::Receiver<BuildEvent>, lines: mpsc::Sender<Progress>, quiet: bool) {
    while let Some(event) = events.recv().await {
        if quiet {
            continue;
        }
        for line in text::lines(event) {
            let _ = lines.send(line).await; // as above
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
