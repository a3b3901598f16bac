//! A build that failed, in the words of Docker's client.

use skep_buildkit::errors;
use tonic::Status;

use crate::cli::Failure;

/// The lines of the Dockerfile and the error.
pub(super) fn failure(status: &Status) -> Failure {
    let mut text = String::new();
    for source in errors::sources(status) {
        text.push_str(&source.excerpt());
    }
    let message = match status.code() {
        tonic::Code::Cancelled => "Canceled: context canceled".to_owned(),
        _ => status.message().to_owned(),
    };
    let message = message.strip_prefix("failed to solve: ").unwrap_or(&message);
    text.push_str(&format!("ERROR: failed to build: failed to solve: {message}"));
    Failure::new(1, text)
}
