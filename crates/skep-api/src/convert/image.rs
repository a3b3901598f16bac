//! Images to the wire.

use chrono::SecondsFormat;
use serde_json::Value;
use skep_engine::model::image::{
    HistoryEntry, ImageConfig, ImageDetails, ImageId, ImageSummary, ManifestKind, ManifestSummary, Removal,
};
use skep_types::{ErrorKind, Platform};
use skep_wire::{
    AttestationData, Descriptor, DescriptorPlatform, Empty, GraphDriver, HealthConfig, ImageData, ImageDeleted,
    ImageHistoryItem, ImageInspect, ImageMetadata, ManifestSize, RootFs, Timestamp, UnpackedSize,
};

use crate::http::ApiError;
use crate::http::version::ApiVersion;

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A row of `images`. `containers` says how many use it, if that was counted.
pub(crate) fn summary(image: ImageSummary, containers: Option<usize>, version: ApiVersion) -> skep_wire::ImageSummary {
    skep_wire::ImageSummary {
        containers: containers.and_then(|count| i64::try_from(count).ok()).unwrap_or(-1),
        created: image.created,
        id: image.id.to_string(),
        labels: image.labels.unwrap_or_default(),
        parent_id: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        repo_digests: image.repo_digests,
        repo_tags: image.repo_tags,
        shared_size: image.shared_size.map_or(-1, bytes),
        size: bytes(image.size),
        virtual_size: if version < ApiVersion::minor(44) { bytes(image.size) } else { 0 },
        descriptor: image.descriptor.filter(|_| version >= ApiVersion::minor(48)).map(descriptor),
        manifests: Vec::new(),
    }
}

pub(crate) fn descriptor(given: skep_registry::Descriptor) -> Descriptor {
    Descriptor {
        media_type: given.media_type,
        digest: given.digest.to_string(),
        size: bytes(given.size),
        annotations: given.annotations,
        platform: given.platform.map(platform),
        ..Descriptor::default()
    }
}

fn platform(platform: Platform) -> DescriptorPlatform {
    DescriptorPlatform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..DescriptorPlatform::default()
    }
}

/// A manifest behind a name. `users` tells the containers of an image.
pub(crate) fn manifest(
    summary: ManifestSummary,
    users: &dyn Fn(&ImageId) -> Vec<String>,
) -> skep_wire::ManifestSummary {
    let (content, total) = (bytes(summary.content), bytes(summary.content + summary.unpacked));
    let image = summary.image();
    let (kind, image_data, attestation_data) = match summary.kind {
        ManifestKind::Image { platform: known, id } => {
            let data = ImageData {
                platform: known.map(platform).unwrap_or_default(),
                size: UnpackedSize { unpacked: bytes(summary.unpacked) },
                containers: id.as_ref().map(users).unwrap_or_default(),
            };
            ("image", Some(data), None)
        }
        ManifestKind::Attestation { about } => {
            let about = about.map(|digest| digest.to_string()).unwrap_or_default();
            ("attestation", None, Some(AttestationData { about }))
        }
    };
    skep_wire::ManifestSummary {
        id: summary.descriptor.digest.to_string(),
        descriptor: descriptor(summary.descriptor),
        available: image.is_some(),
        size: ManifestSize { content, total },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
    }
}

/// Fields of a container's configuration that images showed until v1.50, always at zero.
const FORMER_CONFIG: [(&str, bool); 9] = [
    ("AttachStderr", false),
    ("AttachStdin", false),
    ("AttachStdout", false),
    ("Domainname", true),
    ("Hostname", true),
    ("Image", true),
    ("OpenStdin", false),
    ("StdinOnce", false),
    ("Tty", false),
];

pub(crate) fn details(
    image: ImageDetails,
    manifests: Vec<skep_wire::ManifestSummary>,
    version: ApiVersion,
) -> Result<Value, ApiError> {
    let mut value = serde_json::to_value(ImageInspect { manifests, ..inspect(image, version) })
        .map_err(|error| ApiError::new(ErrorKind::System, format!("encoding the answer: {error}")))?;
    if version < ApiVersion::minor(50)
        && let Some(config) = value.get_mut("Config").and_then(Value::as_object_mut)
    {
        let zero = |is_text| if is_text { Value::from("") } else { Value::from(false) };
        config.extend(FORMER_CONFIG.map(|(key, is_text)| (key.to_owned(), zero(is_text))));
    }
    Ok(value)
}

fn inspect(image: ImageDetails, version: ApiVersion) -> ImageInspect {
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        parent: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        comment: image.comment,
        created: image.created.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true)).unwrap_or_default(),
        docker_version: image.docker_version,
        author: image.author,
        config: config(image.config),
        architecture: image.platform.architecture,
        variant: image.platform.variant,
        os: image.platform.os,
        os_version: image.os_version,
        size: bytes(image.size),
        virtual_size: if version < ApiVersion::minor(44) { bytes(image.size) } else { 0 },
        graph_driver: GraphDriver { data: image.graph_driver_data, name: image.graph_driver.to_owned() },
        root_fs: RootFs { kind: "layers".to_owned(), layers: image.diff_ids.iter().map(ToString::to_string).collect() },
        metadata: ImageMetadata { last_tag_time: Timestamp::or_never(image.last_tag_time) },
        descriptor: image.descriptor.filter(|_| version >= ApiVersion::minor(48)).map(descriptor),
        manifests: Vec::new(),
    }
}

fn config(config: ImageConfig) -> skep_wire::ImageConfig {
    skep_wire::ImageConfig {
        user: config.user,
        exposed_ports: config.exposed_ports.iter().map(|port| (port.to_string(), Empty {})).collect(),
        env: config.env,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: config.volumes.into_iter().map(|path| (path, Empty {})).collect(),
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: config.stop_signal.unwrap_or_default(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: check.test.unwrap_or_default(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build,
        shell: config.shell.unwrap_or_default(),
    }
}

pub(crate) fn history(entry: HistoryEntry) -> ImageHistoryItem {
    ImageHistoryItem {
        comment: entry.comment,
        created: entry.created,
        created_by: entry.created_by,
        id: entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: bytes(entry.size),
        tags: entry.tags,
    }
}

pub(crate) fn removal(removal: Removal) -> ImageDeleted {
    match removal {
        Removal::Untagged(name) => ImageDeleted { untagged: name, ..ImageDeleted::default() },
        Removal::Deleted(id) => ImageDeleted { deleted: id.to_string(), ..ImageDeleted::default() },
    }
}
