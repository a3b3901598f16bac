//! `manifest inspect`: what a registry has under a name, asked of the registry itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use skep_registry::{
    Credentials, Descriptor, FetchedManifest, ImageManifest, Manifest, RegistryConfig, RegistryError, Repository,
    media_type,
};
use skep_types::{Reference, Selector};
use skep_wire::DescriptorPlatform;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials};
use crate::ui;
use crate::ui::json::indent_with;

flags! {
    struct InspectFlags {
        insecure: bool => "insecure", "Allow communication with an insecure registry";
        verbose: bool => "verbose" 'v', "Output additional info including layers and platform";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["manifest inspect"],
    usage: "[OPTIONS] MANIFEST",
    about: "Display an image manifest, or manifest list",
    args: Args::Exactly(1),
    completion: Completion::Nothing,
    flags: InspectFlags::specs,
    run: runner!(InspectFlags, run),
};

/// The largest configuration that is read.
const MAX_CONFIG: u64 = 8 << 20;

/// An entry of an index, in the order of Docker's output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    size: u64,
    digest: String,
    platform: DescriptorPlatform,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Entry>,
}

/// All about one image.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose {
    #[serde(rename = "Ref")]
    reference: String,
    descriptor: VerboseDescriptor,
    raw: String,
    #[serde(rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerboseDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: DescriptorPlatform,
}

async fn run(cli: &Cli, flags: InspectFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let wanted: Reference = name.parse().map_err(|e: skep_types::ReferenceError| e.to_string())?;
    let wanted = wanted.or_latest();
    let repository = connect(cli, &wanted, flags.insecure).await?;
    let found = repository.manifest(&wanted.selector()).await.map_err(|error| match error {
        RegistryError::ManifestUnknown { .. } | RegistryError::NameUnknown { .. } => {
            Failure::message(format!("no such manifest: {}", wanted.familiar()))
        }
        other => Failure::message(other.to_string()),
    })?;
    let text = match (&found.manifest, flags.verbose) {
        (Manifest::Image(_), false) | (Manifest::Artifact(_), _) => indent_with(&found.raw, "", "\t"),
        (Manifest::Image(manifest), true) => {
            let all = verbose(&repository, wanted.familiar(), manifest, &found, None).await?;
            indent_with(&serde_json::to_vec(&all)?, "", "\t")
        }
        (Manifest::Index(index), false) => {
            let manifests = index.manifests.iter().map(entry).collect();
            let list = List { schema_version: 2, media_type: found.media_type.clone(), manifests };
            indent_with(&serde_json::to_vec(&list)?, "", "   ")
        }
        (Manifest::Index(index), true) => {
            let mut all = Vec::new();
            for descriptor in &index.manifests {
                let image = repository.manifest(&Selector::Digest(descriptor.digest)).await;
                let image = image.map_err(|error| Failure::message(error.to_string()))?;
                let Manifest::Image(manifest) = &image.manifest else { continue };
                let reference = format!("{}@{}", wanted.familiar(), descriptor.digest);
                all.push(verbose(&repository, reference, manifest, &image, Some(descriptor)).await?);
            }
            indent_with(&serde_json::to_vec(&all)?, "", "\t")
        }
    };
    ui::line(&String::from_utf8_lossy(&text));
    Ok(())
}

async fn connect(cli: &Cli, wanted: &Reference, insecure: bool) -> Result<Repository, Failure> {
    let key = if wanted.registry() == "docker.io" { credentials::HUB } else { wanted.registry() };
    let auth = credentials::find(cli.config(), key)?;
    let credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
    };
    let config = RegistryConfig {
        insecure: insecure.then(|| wanted.registry().to_owned()).into_iter().collect(),
        ..RegistryConfig::default()
    };
    Repository::connect(&config, wanted, Some(&credentials))
        .await
        .map_err(|error| Failure::message(format!("failed to configure transport: error pinging v2 registry: {error}")))
}

fn entry(descriptor: &Descriptor) -> Entry {
    let Descriptor { media_type, digest, size, .. } = descriptor.clone();
    Entry { media_type, size, digest: digest.to_string(), platform: platform_of(descriptor) }
}

fn platform_of(descriptor: &Descriptor) -> DescriptorPlatform {
    descriptor.platform.clone().map_or_else(DescriptorPlatform::default, |platform| DescriptorPlatform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..DescriptorPlatform::default()
    })
}

/// What is shown of one image. Its platform is the index's, else that of its configuration.
async fn verbose(
    repository: &Repository,
    reference: String,
    manifest: &ImageManifest,
    found: &FetchedManifest,
    named: Option<&Descriptor>,
) -> Result<Verbose, Failure> {
    let platform = match named {
        Some(descriptor) => platform_of(descriptor),
        None => {
            let config = repository.small_blob(&manifest.config, MAX_CONFIG).await;
            skep_wire::from_slice(&config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?
        }
    };
    let text = String::from_utf8(found.raw.clone()).map_err(|error| error.to_string())?;
    let raw = RawValue::from_string(text)?;
    let (docker, oci) = match found.media_type.as_str() {
        media_type::DOCKER_MANIFEST => (Some(raw), None),
        _ => (None, Some(raw)),
    };
    let descriptor = VerboseDescriptor {
        media_type: found.media_type.clone(),
        digest: found.digest.to_string(),
        size: found.raw.len() as u64,
        platform,
    };
    Ok(Verbose { reference, descriptor, raw: STANDARD.encode(&found.raw), docker, oci })
}
