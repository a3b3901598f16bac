//! An image from a container: `commit`.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use skep_fs::Root;

use super::archive::{changed_paths, open_layers};
use super::blocking;
use crate::images::{CommitSettings, WriteLayer};
use crate::model::event::EventType;
use crate::model::image::{CommitImage, ImageId};
use crate::model::status::Status;
use crate::model::view::ContainerView;
use crate::{Engine, Error, Result};

impl Engine {
    /// Makes an image of what a container changed. Once begun it runs to its end, so that a container never stays frozen.
    pub async fn commit_container(&self, name: &str, options: CommitImage) -> Result<ImageId> {
        let view = self.container(name)?;
        match view.status {
            Status::Dead => {
                return Err(Error::Conflict(format!("You cannot commit container {} which is Dead", view.id)));
            }
            Status::Removing => {
                let id = view.id;
                return Err(Error::Conflict(format!("You cannot commit container {id} which is being removed")));
            }
            _ => {}
        }
        if options.reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        let options = CommitImage { created_by: view.config.cmd.clone().unwrap_or_default().join(" "), ..options };
        let settings = {
            let (engine, options, view) = (self.clone(), options.clone(), Arc::clone(&view));
            blocking(move || Ok(engine.images().commit_settings(&view.image_id, &options, &view.config)?)).await?
        };
        let engine = self.clone();
        let work = self.inner.tasks.spawn(async move { engine.commit_frozen(&view, options, settings).await });
        match work.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::system("committing a container", io::Error::other(error))),
        }
    }

    async fn commit_frozen(
        &self,
        view: &Arc<ContainerView>,
        options: CommitImage,
        settings: CommitSettings,
    ) -> Result<ImageId> {
        let id = view.id.to_string();
        // Not running, or frozen already: there is nothing to freeze, and nothing to let go on.
        let frozen = options.pause && self.pause_container(&id).await.is_ok();
        let committed = self.commit_changes(view, options, settings).await;
        if frozen {
            // A container that ended meanwhile is not frozen any more.
            match self.unpause_container(&id).await {
                Ok(()) | Err(Error::Conflict(_) | Error::NoSuchContainer(_)) => {}
                Err(error) => return committed.and(Err(error)),
            }
        }
        committed
    }

    async fn commit_changes(
        &self,
        view: &Arc<ContainerView>,
        options: CommitImage,
        settings: CommitSettings,
    ) -> Result<ImageId> {
        let layer = {
            let view = Arc::clone(view);
            blocking(move || layer_of(&view)).await?
        };
        let comment = options.comment.clone();
        let name = options.reference.as_ref().map(|reference| reference.or_latest().familiar()).unwrap_or_default();
        let id = self.inner.images.commit(view.image_id, options, settings, layer).await?;
        let mut attributes = view.config.labels.clone();
        attributes.extend(
            [
                ("image", view.config.image.clone()),
                ("name", view.name.to_string()),
                ("comment", comment),
                ("imageID", id.to_string()),
                ("imageRef", name),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        self.inner.events.emit(EventType::Container, "commit", view.id.to_string(), attributes);
        Ok(id)
    }
}

/// What writes the container's changes as a layer; nothing if it changed nothing. Mount points that the engine made are no changes.
fn layer_of(view: &ContainerView) -> Result<Option<WriteLayer>> {
    let (upper, lower) = open_layers(view)?;
    let changed = changed_paths(view, &upper, &lower)?;
    if changed.is_empty() {
        return Ok(None);
    }
    let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec();
    let wanted: HashSet<Vec<u8>> = changed.iter().map(|change| relative(&change.path)).collect();
    Ok(Some(write_of(upper, wanted)))
}

fn write_of(upper: Root, wanted: HashSet<Vec<u8>>) -> WriteLayer {
    Box::new(move |out| skep_fs::pack::write_layer(&upper, &|path| wanted.contains(path), out))
}
