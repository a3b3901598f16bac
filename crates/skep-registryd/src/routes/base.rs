//! Whether this is a registry, and whether it is well.

use http::StatusCode;
use serde_json::json;

use crate::error::Result;
use crate::http::answer::Answer;
use crate::http::server::Shared;

/// `GET /v2/`: clients look here first, for how to authenticate.
pub(crate) fn version() -> Answer {
    Answer::json("application/json", &json!({}))
}

/// `GET /healthz`: whether the metadata can be read.
pub(crate) async fn health(shared: &Shared) -> Result<Answer> {
    Ok(match shared.content.repositories("", 1, |_| true).await {
        Ok(_) => Answer::json("application/json", &json!({"status": "ok"})),
        Err(error) => {
            tracing::error!(%error, "the metadata can't be read");
            Answer::bytes(StatusCode::SERVICE_UNAVAILABLE, "application/json", r#"{"status":"failed"}"#)
        }
    })
}

/// `GET /metrics`.
pub(crate) fn metrics(shared: &Shared) -> Answer {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Answer::bytes(StatusCode::OK, TEXT, shared.metrics.text())
}
