//! The engine's errors as a build's.

use skep_build::BuildError;
use skep_store::StoreError;
use skep_types::ErrorKind;

use crate::Error;

/// A failure inside the engine, with what it was about.
pub(super) fn failed<'a>(what: &'a str) -> impl FnOnce(std::io::Error) -> BuildError + 'a {
    move |error| {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            _ => ErrorKind::System,
        };
        BuildError::new(kind, format!("{what}: {error}"))
    }
}

/// What a source is could not be found out, in BuildKit's words.
pub(super) fn unknown(error: BuildError) -> BuildError {
    BuildError { message: format!("failed to load cache key: {}", error.message), ..error }
}

/// An error of the engine.
pub(super) fn engine(error: Error) -> BuildError {
    BuildError::new(error.kind(), error.to_string())
}

/// An error of the store.
pub(super) fn store(error: StoreError) -> BuildError {
    BuildError::new(error.kind(), error.to_string())
}

/// Nobody wants the result any more.
pub(super) fn cancelled() -> BuildError {
    BuildError::new(ErrorKind::Cancelled, "context canceled")
}

/// Runs blocking work on a thread for it, to its end.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BuildError::new(ErrorKind::System, format!("a worker thread of the engine: {error}"))),
    }
}
