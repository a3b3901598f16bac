//! A container's changes as an image: `docker commit`.
//!
//! The image has the layers of the container's image, and one more with what the container changed; a container that changed
//! nothing adds a step to the history and no layer. The settings are the container's, as the instructions change them.

use std::io::{self, PipeWriter, Write};
use std::sync::Arc;

use skep_store::{ChainId, Layers, StagedLayer, UnpackOptions};

use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::config::{ConfigFile, ContainerDefaults, HistoryStep};
use super::target::Target;
use super::{ImageError, Inner, Result, changes};
use crate::model::container::ContainerConfig;
use crate::model::image::{CommitImage, ImageHealthcheck, ImageId};

/// The bytes of an archive without entries.
const EMPTY_ARCHIVE: u64 = 1024;

/// Writes the archive of what a container changed.
pub(crate) type WriteLayer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The settings of an image to be made from a container: what is asked for (all of the container's if nothing is), changed by
/// the instructions, the gaps filled with the container's.
pub(super) fn settings(
    options: &CommitImage,
    container: &ContainerConfig,
    base_check: Option<ImageHealthcheck>,
) -> Result<ContainerDefaults> {
    let whole = ContainerDefaults { healthcheck: base_check, ..of_container(container) };
    let mut settings = options.config.as_ref().map_or_else(|| whole.clone(), of_container);
    changes::apply(&mut settings, &options.changes)?;
    fill(&mut settings, whole);
    Ok(settings)
}

fn of_container(config: &ContainerConfig) -> ContainerDefaults {
    ContainerDefaults {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.iter().map(ToString::to_string).collect(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        ..ContainerDefaults::default()
    }
}

/// Fills what `settings` leaves open, by the rules by which a container takes settings from its image.
fn fill(settings: &mut ContainerDefaults, from: ContainerDefaults) {
    let or = |own: &mut String, other: String| {
        if own.is_empty() {
            *own = other;
        }
    };
    or(&mut settings.user, from.user);
    or(&mut settings.working_dir, from.working_dir);
    settings.exposed_ports.extend(from.exposed_ports);
    settings.volumes.extend(from.volumes);
    for (key, value) in from.labels {
        settings.labels.entry(key).or_insert(value);
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in from.env {
        if !settings.env.iter().any(|own| name(own) == name(&entry)) {
            settings.env.push(entry);
        }
    }
    if settings.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if settings.cmd.as_ref().is_none_or(Vec::is_empty) {
            settings.cmd = from.cmd;
        }
        settings.entrypoint = settings.entrypoint.take().or(from.entrypoint);
    }
    settings.healthcheck = settings.healthcheck.take().or(from.healthcheck);
    settings.stop_signal = settings.stop_signal.take().or(from.stop_signal);
    settings.stop_timeout = settings.stop_timeout.or(from.stop_timeout);
    settings.shell = settings.shell.take().or(from.shell);
}

/// Makes the image. `layer` is absent when nothing was changed. Returns its id, and whether it is a new one.
pub(super) async fn commit(
    inner: &Arc<Inner>,
    base: ImageId,
    options: CommitImage,
    settings: ContainerDefaults,
    layer: Option<WriteLayer>,
) -> Result<ImageId> {
    let work = {
        let inner = Arc::clone(inner);
        move || {
            let catalog = inner.catalog();
            let record = catalog.any_image(&base).ok_or_else(|| ImageError::NotFound(base.to_string()))?;
            let claim = Arc::new(Claim::on(&inner, &record.chain_ids));
            let base_file = ConfigFile::parse(&inner.store.blobs().read(&base)?)?;
            let mut layer_sizes = record.layer_sizes.clone();
            let added = match layer {
                Some(write) => stack(&inner, &claim, record.chain_ids.last(), write)?,
                None => None,
            };
            layer_sizes.extend(added.as_ref().map(|layer| layer.size));
            let file = configuration(base_file, &options, settings, added.map(|layer| layer.diff_id));
            let config = serde_json::to_vec(&file).map_err(io::Error::from)?;
            let image = NewImage { config, parsed: file, layer_sizes, manifests: Vec::new(), attached: Vec::new() };
            Ok((claim, image, options.reference))
        }
    };
    let (claim, image, reference) = run_blocking(work).await?;
    let mut writer = inner.write().await;
    let id = image.add_to(&mut writer);
    writer.draft.set_parent(&id, &base);
    if let Some(reference) = &reference {
        writer.draft.put_reference(reference, Target::of_image(id), Some(chrono::Utc::now()));
    }
    writer.commit_claimed(claim).await?;
    Ok(id)
}

/// What there is to know of a layer that was put on the stack.
struct Added {
    diff_id: skep_types::Digest,
    size: u64,
}

/// Brings the container's layer into the store, on top of `below`. None if it turns out to be empty.
fn stack(inner: &Inner, claim: &Claim, below: Option<&ChainId>, write: WriteLayer) -> Result<Option<Added>> {
    let layers = inner.store.layers();
    let staged = unpack(layers, write)?;
    if staged.tar_size <= EMPTY_ARCHIVE {
        return Ok(None);
    }
    let added = Added { diff_id: staged.diff_id, size: staged.size };
    claim.add(&[ChainId::of(below, &added.diff_id)]);
    layers.commit(below, vec![staged])?;
    Ok(Some(added))
}

/// Packs on one thread, unpacks on this one.
fn unpack(layers: &Layers, write: WriteLayer) -> Result<StagedLayer> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut writer: io::BufWriter<PipeWriter> = io::BufWriter::with_capacity(64 << 10, writer);
            write(&mut writer).and_then(|()| writer.flush())
        });
        let unpacked = layers.stage().and_then(|staging| staging.unpack(reader, &UnpackOptions::default()));
        let packed = match packing.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // A reader that gave up makes the writer fail; a writer that failed makes the reader see half an archive.
        match (packed, unpacked) {
            (Ok(()), Ok(staged)) => Ok(staged),
            (Err(error), unpacked) if error.kind() != io::ErrorKind::BrokenPipe || unpacked.is_ok() => {
                Err(error.into())
            }
            (_, Err(error)) => Err(error.into()),
            (Err(error), Ok(_)) => Err(error.into()),
        }
    })
}

fn configuration(
    base: ConfigFile,
    options: &CommitImage,
    settings: ContainerDefaults,
    diff_id: Option<skep_types::Digest>,
) -> ConfigFile {
    let created = Some(chrono::Utc::now().fixed_offset());
    let step = HistoryStep {
        created,
        created_by: options.created_by.clone(),
        author: options.author.clone(),
        comment: options.comment.clone(),
        empty_layer: diff_id.is_none(),
    };
    let mut file = ConfigFile {
        author: options.author.clone(),
        comment: options.comment.clone(),
        config: Some(settings),
        created,
        docker_version: String::new(),
        ..base
    };
    file.history.push(step);
    file.rootfs.diff_ids.extend(diff_id);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn container() -> ContainerConfig {
        ContainerConfig {
            env: list(&["A=1", "PATH=/bin"]),
            cmd: Some(list(&["sh"])),
            labels: [("made".to_owned(), "by hand".to_owned())].into(),
            exposed_ports: ["99/tcp".parse().expect("a port")].into(),
            working_dir: "/tmp".to_owned(),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn instructions_change_what_the_container_has() {
        let options = CommitImage {
            changes: list(&["ENV B=2", "CMD [\"top\"]", "EXPOSE 80", "LABEL made=new"]),
            ..CommitImage::default()
        };
        let check = ImageHealthcheck { retries: 3, ..ImageHealthcheck::default() };
        let settings = settings(&options, &container(), Some(check.clone())).expect("settings");
        assert_eq!(settings.env, ["A=1", "PATH=/bin", "B=2"]);
        assert_eq!(settings.cmd, Some(list(&["top"])));
        assert_eq!(settings.exposed_ports.iter().collect::<Vec<_>>(), ["80/tcp", "99/tcp"]);
        assert_eq!(settings.labels["made"], "new");
        assert_eq!((settings.working_dir.as_str(), settings.healthcheck), ("/tmp", Some(check)));
    }

    #[test]
    fn what_is_asked_for_comes_before_what_the_container_has() {
        let asked = ContainerConfig {
            env: list(&["Z=1", "A=2"]),
            cmd: Some(list(&["a"])),
            entrypoint: Some(list(&["e"])),
            ..ContainerConfig::default()
        };
        let options = CommitImage { config: Some(asked), ..CommitImage::default() };
        let found = settings(&options, &container(), None).expect("settings");
        assert_eq!(found.env, ["Z=1", "A=2", "PATH=/bin"]);
        assert_eq!((found.cmd, found.entrypoint), (Some(list(&["a"])), Some(list(&["e"]))));
        // An entrypoint of one's own doesn't get the container's command.
        let asked = ContainerConfig { entrypoint: Some(list(&["e"])), ..ContainerConfig::default() };
        let options = CommitImage { config: Some(asked), ..CommitImage::default() };
        assert_eq!(settings(&options, &container(), None).expect("settings").cmd, None);
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        for (change, text) in [
            ("RUN x", "RUN is not a valid change command"),
            ("FOO bar", "FOO is not a valid change command"),
            ("WORKDIR", "WORKDIR requires exactly one argument"),
        ] {
            let options = CommitImage { changes: list(&[change]), ..CommitImage::default() };
            let error = settings(&options, &container(), None).expect_err(change);
            assert_eq!(error.to_string(), text);
        }
    }
}
