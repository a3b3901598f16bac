//! Images that a build begins with, or copies from.

use std::sync::Arc;

use skep_build::BuildError;
use skep_build::event::{BuildEvent, Status};
use skep_build::graph::ImageSource;
use skep_build::request::PullMode;
use skep_build::worker::{Context, ResolvedImage};
use skep_registry::Credentials;
use skep_types::{ErrorKind, Reference};
use tokio::sync::mpsc;

use super::super::error::{cancelled, engine as engine_error, store};
use super::layout::{self, Stored};
use crate::engine::Inner;
use crate::images::{ImageError, Kept, Remote};
use crate::model::image::{LayerState, PullProgress};

/// How long layers that were fetched are kept for whoever asked for them to hold them.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// Where the layers of an image are.
pub(in crate::build) enum From {
    Registry(Box<Remote>),
    /// A content store of the client.
    Store(Stored),
}

/// Finds an image and its configuration.
pub(in crate::build) async fn resolve(
    engine: &Arc<Inner>,
    source: &ImageSource,
    context: &Context,
) -> Result<ResolvedImage, BuildError> {
    if let Some(store) = &source.layout {
        return layout::resolve(engine, &format!("oci:{store}"), &source.reference, context).await;
    }
    let reference = &source.reference;
    let images = &engine.images;
    let here = match source.pull {
        PullMode::Missing => images.base_here(reference, &context.platform).map_err(|e| failed(reference, e))?,
        PullMode::Always => None,
    };
    let base = match here {
        Some(base) => base,
        None => {
            let login = credentials(reference, context).await?;
            let asking = images.base_there(reference, &context.platform, login.as_ref());
            tokio::select! {
                base = asking => base.map_err(|error| failed(reference, error))?,
                () = context.cancel.cancelled() => return Err(cancelled()),
            }
        }
    };
    let here = match base.chain {
        Some(chain) => engine.storage.store().layers().get(&chain).map_err(store)?.is_some(),
        None => true,
    };
    Ok(ResolvedImage {
        reference: reference.clone(),
        platform: base.platform,
        digest: base.digest,
        config: base.config.into(),
        stack: base.chain,
        here,
        origin: base.remote.map(|remote| Arc::new(From::Registry(Box::new(remote))) as _),
    })
}

/// Brings its layers here.
pub(in crate::build) async fn fetch(
    engine: &Arc<Inner>,
    image: &ResolvedImage,
    context: &Context,
) -> Result<(), BuildError> {
    let Some(chain) = image.stack else { return Ok(()) };
    if engine.storage.store().layers().get(&chain).map_err(store)?.is_some() {
        return Ok(());
    }
    let from = image.origin.as_ref().and_then(|origin| origin.downcast_ref::<From>());
    let from = from.ok_or_else(|| {
        BuildError::new(ErrorKind::NotFound, format!("{}: nobody has its layers", image.reference.familiar()))
    })?;
    let remote = match from {
        From::Registry(remote) => remote,
        From::Store(stored) => return keep(engine, layout::fetch(engine, stored, context).await?),
    };
    let (progress, told) = mpsc::channel(64);
    let fetching = async {
        let kept = engine.images.fetch_base(remote, &progress).await;
        drop(progress);
        kept
    };
    let both = async { tokio::join!(fetching, tell(told, context)) };
    let (kept, ()) = tokio::select! {
        both = both => both,
        () = context.cancel.cancelled() => return Err(cancelled()),
    };
    keep(engine, kept.map_err(|error| failed(&image.reference, error))?)
}

/// Keeps what was fetched until whoever asked for it holds it.
fn keep(engine: &Arc<Inner>, kept: Kept) -> Result<(), BuildError> {
    let closing = engine.closing();
    engine.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = closing.cancelled() => {}
        }
        drop(kept);
    });
    Ok(())
}

/// How to log in to the registry of an image.
pub(super) async fn credentials(reference: &Reference, context: &Context) -> Result<Option<Credentials>, BuildError> {
    login(&*context.services, reference).await
}

/// The same, of a client.
pub(in crate::build) async fn login(
    services: &dyn skep_build::Services,
    reference: &Reference,
) -> Result<Option<Credentials>, BuildError> {
    let login = services.login(reference.registry()).await?;
    Ok(login.map(|login| match login.username.is_empty() {
        true => Credentials { identity_token: login.secret, ..Credentials::default() },
        false => Credentials { username: login.username, password: login.secret, ..Credentials::default() },
    }))
}

/// BuildKit's words for an image that can't be had.
pub(super) fn failed(reference: &Reference, error: ImageError) -> BuildError {
    let error = engine_error(crate::Error::Image(error));
    let name = reference.or_latest();
    let message = match error.kind {
        ErrorKind::NotFound => format!("{name}: not found"),
        _ => error.message,
    };
    BuildError { message, ..error }
}

/// Tells how the layers come in.
async fn tell(mut told: mpsc::Receiver<PullProgress>, context: &Context) {
    while let Some(message) = told.recv().await {
        let PullProgress::Layer { id, state } = message else { continue };
        let (id, current, total, ended) = match state {
            LayerState::Downloading { current, total } => (id, current, total, false),
            LayerState::Downloaded => (id, 0, 0, true),
            LayerState::Extracting { current, total } => (format!("extracting {id}"), current, total, false),
            LayerState::Complete => (format!("extracting {id}"), 0, 0, true),
            _ => continue,
        };
        let now = chrono::Utc::now();
        let completed = ended.then_some(now);
        let status = Status { id, vertex: context.vertex, current, total, started: Some(now), completed };
        // Nobody has to listen.
        let _ = context.events.send(BuildEvent::Status(status)).await;
    }
}
