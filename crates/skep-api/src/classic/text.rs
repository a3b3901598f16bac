//! The classic builder's text.

use bytes::Bytes;
use futures_util::Stream;
use skep_build::event::Classic;
use skep_build::{BuildError, BuildEvent};
use skep_types::Digest;
use skep_wire::{ErrorDetail, Progress};
use tokio::sync::mpsc;

fn stream(text: impl Into<String>) -> Progress {
    Progress { stream: text.into(), ..Progress::default() }
}

/// What an event looks like.
pub(super) fn lines(event: BuildEvent) -> Vec<Progress> {
    match event {
        BuildEvent::Classic(news) => classic(news),
        BuildEvent::Log { stream: 2, data, .. } => {
            vec![stream(format!("\u{1b}[91m{}\u{1b}[0m", String::from_utf8_lossy(&data)))]
        }
        BuildEvent::Log { data, .. } => vec![stream(String::from_utf8_lossy(&data))],
        BuildEvent::Vertex(_) | BuildEvent::Status(_) | BuildEvent::Warning(_) => Vec::new(),
    }
}

fn classic(news: Classic) -> Vec<Progress> {
    match news {
        Classic::Step { number, total, text } => {
            vec![stream(format!("Step {number}/{total} : {text}")), stream("\n")]
        }
        Classic::Triggers { count } => {
            let plural = if count == 1 { "" } else { "s" };
            vec![stream(format!("# Executing {count} build trigger{plural}")), stream("\n")]
        }
        Classic::Cached => vec![stream(" ---> Using cache\n")],
        Classic::Running { container } => vec![stream(format!(" ---> Running in {container}\n"))],
        Classic::Removed { container } => vec![stream(format!(" ---> Removed intermediate container {container}\n"))],
        Classic::Image { id } => {
            let short = id.as_ref().map(Digest::short).unwrap_or_default();
            vec![stream(format!(" ---> {short}\n"))]
        }
        Classic::Unconsumed { names } => {
            vec![stream(format!("[Warning] One or more build-args [{}] were not consumed\n", names.join(" ")))]
        }
    }
}

/// What comes when all is done.
pub(super) fn end(id: &str, names: &[String], quiet: bool) -> Vec<Progress> {
    if quiet {
        return vec![stream(format!("{id}\n"))];
    }
    let short: String = id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect();
    let aux = Progress { aux: Some(serde_json::json!({ "ID": id })), ..Progress::default() };
    let tagged = names.iter().map(|name| stream(format!("Successfully tagged {name}\n")));
    [aux, stream(format!("Successfully built {short}\n"))].into_iter().chain(tagged).collect()
}

/// The last line of a build that failed. The code is the exit code of the program that failed.
pub(super) fn failure(error: &BuildError) -> Progress {
    let code = error.exit_code.map(i64::from).unwrap_or_default();
    Progress {
        error_detail: Some(ErrorDetail { code, message: error.message.clone() }),
        error: error.message.clone(),
        ..Progress::default()
    }
}

/// A line as dockerd ends it.
pub(super) fn encode(line: &Progress) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// Drives `work`, and gives out its lines, then its failure. Dropped, it ends the work.
pub(super) fn until_the_end(
    work: impl Future<Output = Result<(), BuildError>> + Send + 'static,
    lines: mpsc::Receiver<Progress>,
) -> impl Stream<Item = Result<Progress, BuildError>> + Send {
    let state = (Some(Box::pin(work)), lines, None);
    futures_util::stream::unfold(state, |(mut work, mut lines, mut failure)| async move {
        loop {
            let line = match &mut work {
                None => lines.recv().await,
                Some(running) => tokio::select! {
                    biased;
                    Some(line) = lines.recv() => Some(line),
                    result = running => {
                        work = None;
                        failure = result.err();
                        continue;
                    }
                },
            };
            return match (line, failure.take()) {
                (Some(line), failure) => Some((Ok(line), (work, lines, failure))),
                (None, Some(error)) => Some((Err(error), (work, lines, None))),
                (None, None) => None,
            };
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: Vec<Progress>) -> String {
        lines.into_iter().map(|line| line.stream).collect()
    }

    #[test]
    fn events_read_as_the_classic_builder_wrote_them() {
        let id: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
        let news = [
            Classic::Step { number: 1, total: 2, text: "FROM x".to_owned() },
            Classic::Triggers { count: 2 },
            Classic::Cached,
            Classic::Running { container: "c0ffee".to_owned() },
            Classic::Removed { container: "c0ffee".to_owned() },
            Classic::Image { id: Some(id) },
            Classic::Image { id: None },
            Classic::Unconsumed { names: vec!["A".to_owned(), "B".to_owned()] },
        ];
        let all: String = news.into_iter().map(|one| text(lines(BuildEvent::Classic(one)))).collect();
        // A blank at the end of a line is shown by a dot.
        insta::assert_snapshot!(all.replace(" \n", "·\n"), @r"
        Step 1/2 : FROM x
        # Executing 2 build triggers
         ---> Using cache
         ---> Running in c0ffee
         ---> Removed intermediate container c0ffee
         ---> abababababab
         --->·
        [Warning] One or more build-args [A B] were not consumed
        ");
        let ended = end("sha256:abababababababab", &["a:1".to_owned()], false);
        assert_eq!(ended[0].aux, Some(serde_json::json!({ "ID": "sha256:abababababababab" })));
        assert_eq!(text(ended), "Successfully built abababababab\nSuccessfully tagged a:1\n");
        assert_eq!(text(end("sha256:ab", &["a:1".to_owned()], true)), "sha256:ab\n");
    }

    #[tokio::test]
    async fn a_failure_comes_after_all_that_was_said() {
        use futures_util::StreamExt;
        let (sender, receiver) = mpsc::channel(4);
        let work = async move {
            sender.send(stream("one")).await.expect("room");
            let error = BuildError::new(
                skep_types::ErrorKind::System,
                "The command '/bin/sh -c false' returned a non-zero code: 1",
            );
            Err(BuildError { exit_code: Some(1), ..error })
        };
        let all: Vec<_> = until_the_end(work, receiver).collect().await;
        assert_eq!(all[0].as_ref().ok().map(|line| line.stream.as_str()), Some("one"));
        let last = all[1].as_ref().err().map(failure).expect("a failure");
        assert_eq!(last.error_detail.map(|detail| detail.code), Some(1));
        assert_eq!(all.len(), 2);
    }
}
