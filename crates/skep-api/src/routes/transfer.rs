//! Images in and out: pull, import, load, save. The long ones answer with lines of progress; a failure before the first
//! line is an error like any other, a later one is the last line.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use skep_engine::images::ImageError;
use skep_engine::model::image::{ImportImage, PullImage};
use skep_wire::Progress;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::images::{platform, reference};
use super::registry::credentials;
use crate::convert;
use crate::http::answer::{BodyError, body_stream};
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

/// Lines that may wait for a slow client.
pub(super) const PENDING: usize = 64;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/images/create", create).cancellable(),
        route(Method::POST, "/images/load", load).cancellable(),
        route(Method::GET, "/images/get", save_many),
        route(Method::GET, "/images/{name}/get", save_one),
    ]
}

async fn create(request: Request) -> Result<Answer, ApiError> {
    if request.query.filled("fromImage").is_some() {
        return pull(request).await;
    }
    match request.query.text("fromSrc") {
        "-" => import(request).await,
        "" => Err(ApiError::invalid("one of fromImage and fromSrc is needed")),
        url => {
            let url = url.to_owned();
            import_from(request, url).await
        }
    }
}

async fn pull(request: Request) -> Result<Answer, ApiError> {
    let image = reference(request.query.text("fromImage"), request.query.text("tag"))?;
    let options = PullImage { platform: platform(&request)?, referrers: request.query.flag_or("referrers", false) };
    let credentials = credentials(&request);
    let engine = request.engine.clone();
    let (sender, receiver) = mpsc::channel(PENDING);
    let work =
        async move { engine.images().pull(&image, &options, credentials.as_ref(), sender).await.map(|_| Vec::new()) };
    progress(work, receiver, convert::progress::pull).await
}

async fn import(request: Request) -> Result<Answer, ApiError> {
    let options = import_options(&request)?;
    let archive = StreamReader::new(body_stream(request.body));
    let id = request.engine.images().import(archive, options).await?;
    let line = line(&Progress::status("", id.to_string()));
    Ok(Answer::stream("application/json", stream::once(async { Ok::<_, Infallible>(line) })))
}

async fn import_from(request: Request, url: String) -> Result<Answer, ApiError> {
    let options = import_options(&request)?;
    let engine = request.engine.clone();
    let (sender, receiver) = mpsc::channel(PENDING);
    let work = async move {
        let id = engine.images().import_from(&url, options, sender).await?;
        Ok(vec![Progress::status("", id.to_string())])
    };
    progress(work, receiver, convert::progress::import).await
}

fn import_options(request: &Request) -> Result<ImportImage, ApiError> {
    let query = &request.query;
    let tagged = match query.text("repo") {
        "" => None,
        repository => Some(reference(repository, query.text("tag"))?.or_latest()),
    };
    Ok(ImportImage {
        reference: tagged,
        changes: query.all("changes"),
        message: query.text("message").to_owned(),
        platform: platform(request)?,
    })
}

async fn load(request: Request) -> Result<Answer, ApiError> {
    let platform = platform(&request)?;
    let quiet = request.query.flag_or("quiet", true);
    let engine = request.engine.clone();
    let (sender, receiver) = mpsc::channel(PENDING);
    let archive = StreamReader::new(body_stream(request.body));
    let work = async move {
        let loaded = engine.images().load(archive, platform.as_ref(), sender).await?;
        Ok(if quiet { loaded.iter().map(convert::progress::loaded).collect() } else { Vec::new() })
    };
    if !quiet {
        return progress(work, receiver, convert::progress::load).await;
    }
    progress(work, receiver, |_| Progress::default()).await
}

async fn save_one(request: Request) -> Result<Answer, ApiError> {
    let names = vec![request.name().to_owned()];
    save(request, names).await
}

async fn save_many(request: Request) -> Result<Answer, ApiError> {
    let names: Vec<String> = request
        .query
        .all("names")
        .iter()
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(ApiError::invalid("no image name specified"));
    }
    save(request, names).await
}

async fn save(request: Request, names: Vec<String>) -> Result<Answer, ApiError> {
    let pieces = request.engine.images().save(&names, platform(&request)?.as_ref()).await?;
    Ok(Answer::stream("application/x-tar", pieces.map_err(|error| BodyError::from(error.to_string()))))
}

/// A line as dockerd ends it.
fn line(progress: &Progress) -> Bytes {
    let mut text = serde_json::to_vec(progress).unwrap_or_default();
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// Runs `work` and answers with its messages as lines, empty ones left out, then with the lines it returns.
///
/// The work is driven by the answer: when the client goes, both end.
pub(super) async fn progress<M: Send + 'static>(
    work: impl Future<Output = Result<Vec<Progress>, ImageError>> + Send + 'static,
    messages: mpsc::Receiver<M>,
    show: fn(M) -> Progress,
) -> Result<Answer, ApiError> {
    let mut transfer = Transfer { work: Some(Box::pin(work)), messages, show, last: VecDeque::new(), failure: None };
    let first = transfer.next().await.transpose()?;
    let rest = stream::unfold(transfer, |mut transfer| async {
        let line = transfer.next().await?.unwrap_or_else(|error| Progress::failure(ApiError::from(error).to_string()));
        Some((line, transfer))
    });
    let lines = stream::iter(first).chain(rest).map(|progress| Ok::<_, Infallible>(line(&progress)));
    Ok(Answer::stream("application/json", lines))
}

type Work = Pin<Box<dyn Future<Output = Result<Vec<Progress>, ImageError>> + Send>>;

struct Transfer<M> {
    /// None once it has ended.
    work: Option<Work>,
    messages: mpsc::Receiver<M>,
    show: fn(M) -> Progress,
    last: VecDeque<Progress>,
    failure: Option<ImageError>,
}

impl<M> Transfer<M> {
    /// The next line that isn't empty; a failure is the last.
    async fn next(&mut self) -> Option<Result<Progress, ImageError>> {
        loop {
            let message = match &mut self.work {
                None => self.messages.recv().await,
                Some(work) => tokio::select! {
                    biased;
                    Some(message) = self.messages.recv() => Some(message),
                    result = work => {
                        self.work = None;
                        match result {
                            Ok(lines) => self.last.extend(lines),
                            Err(error) => self.failure = Some(error),
                        }
                        continue;
                    }
                },
            };
            let Some(message) = message else {
                return self.last.pop_front().map(Ok).or_else(|| self.failure.take().map(Err));
            };
            let line = (self.show)(message);
            if line != Progress::default() {
                return Some(Ok(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(
        work: impl Future<Output = Result<Vec<Progress>, ImageError>> + Send + 'static,
        messages: &[&str],
    ) -> Vec<String> {
        let (sender, receiver) = mpsc::channel(PENDING);
        for &message in messages {
            sender.send(message.to_owned()).await.expect("room");
        }
        drop(sender);
        let show = |text: String| Progress { stream: text, ..Progress::default() };
        let Answer::Plain(response) = progress(work, receiver, show).await.expect("an answer") else {
            panic!("hijacked")
        };
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
        String::from_utf8_lossy(&bytes).split_terminator("\r\n").map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_failure_is_a_status_first_and_a_line_later() {
        let fail = || async { Err(ImageError::NotFound("x".to_owned())) };
        let (_, nothing) = mpsc::channel::<String>(1);
        let early = progress(fail(), nothing, |_| Progress::default()).await;
        assert_eq!(early.err().map(|error| error.status()), Some(http::StatusCode::NOT_FOUND));
        assert_eq!(
            lines(fail(), &["one", "", "two"]).await,
            [
                r#"{"stream":"one"}"#,
                r#"{"stream":"two"}"#,
                r#"{"errorDetail":{"message":"No such image: x"},"error":"No such image: x"}"#
            ]
        );
    }

    #[tokio::test]
    async fn the_works_own_lines_come_last() {
        let work = async { Ok(vec![Progress::status("", "done")]) };
        assert_eq!(lines(work, &["one"]).await, [r#"{"stream":"one"}"#, r#"{"status":"done"}"#]);
    }
}
