//! What the engine says of its builder.

use skep_buildkit::MESSAGE_LIMIT;
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::moby::buildkit::v1::ListWorkersRequest;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::proto::moby::buildkit::v1::types::WorkerRecord;

use crate::cli::build::session;
use crate::cli::{Cli, Failure};

/// The name of the only builder.
pub(super) const NAME: &str = "default";

/// Connects to the engine's builder.
pub(super) async fn control(cli: &Cli) -> Result<ControlClient<Channel>, Failure> {
    let channel = channel(cli).await?;
    Ok(ControlClient::with_origin(channel, Channel::origin()).max_decoding_message_size(MESSAGE_LIMIT))
}

/// A connection to the engine's builder.
pub(super) async fn channel(cli: &Cli) -> Result<Channel, Failure> {
    session::builder(cli.client().await?).await
}

/// What the builder refused.
pub(super) fn failed(status: &tonic::Status) -> Failure {
    Failure::message(format!("ERROR: {}", status.message()))
}

/// The builder of the engine.
pub(super) struct Worker(WorkerRecord);

impl Worker {
    pub(super) async fn ask(cli: &Cli) -> Result<Self, Failure> {
        let answer = control(cli).await?.list_workers(ListWorkersRequest::default()).await;
        let answer = answer.map_err(|status| failed(&status))?;
        let worker = answer.into_inner().record.into_iter().next();
        worker.map(Worker).ok_or_else(|| Failure::message("ERROR: the engine has no builder"))
    }

    pub(super) fn version(&self) -> &str {
        self.0.buildkit_version.as_ref().map_or("", |version| version.version.as_str())
    }

    /// What it builds for, its own platform first.
    pub(super) fn platforms(&self) -> Vec<String> {
        let name = |platform: &skep_buildkit::proto::pb::Platform| {
            let parts = [&platform.os, &platform.architecture, &platform.variant];
            parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
        };
        self.0.platforms.iter().map(name).collect()
    }

    /// What else it says of itself, by name.
    pub(super) fn labels(&self) -> std::collections::BTreeMap<&str, &str> {
        self.0.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}
