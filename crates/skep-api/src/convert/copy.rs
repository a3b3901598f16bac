//! Outlines of images that go from one engine to another.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skep_engine::model::copy::{Outline, OutlinedArtifact, OutlinedImage, OutlinedLayer};
use skep_registry::Descriptor;
use skep_types::{Digest, Platform};

use crate::http::ApiError;

pub(crate) fn to_wire(outline: Outline) -> skep_wire::ImageOutline {
    let layer = |layer: OutlinedLayer| skep_wire::OutlinedLayer {
        diff_id: layer.diff_id.to_string(),
        chain_id: layer.chain_id.to_string(),
        size: i64::try_from(layer.size).unwrap_or(i64::MAX),
    };
    let image = |image: OutlinedImage| skep_wire::OutlinedImage {
        id: image.id.to_string(),
        descriptor: image.descriptor.map(descriptor_to_wire),
        layers: image.layers.into_iter().map(layer).collect(),
    };
    skep_wire::ImageOutline {
        name: outline.name.map(|name| name.to_string()).unwrap_or_default(),
        descriptor: outline.descriptor.map(descriptor_to_wire),
        images: outline.images.into_iter().map(image).collect(),
        documents: outline.documents.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
        artifacts: outline.artifacts.into_iter().map(artifact_to_wire).collect(),
    }
}

pub(crate) fn from_wire(outline: skep_wire::ImageOutline) -> Result<Outline, ApiError> {
    let name = match outline.name.as_str() {
        "" => None,
        name => Some(name.parse::<skep_types::Reference>()?),
    };
    let layer = |layer: skep_wire::OutlinedLayer| {
        let size = u64::try_from(layer.size).map_err(|_| ApiError::invalid("a layer has a negative size"))?;
        Ok(OutlinedLayer { diff_id: digest(&layer.diff_id)?, chain_id: digest(&layer.chain_id)?, size })
    };
    let image = |image: skep_wire::OutlinedImage| {
        Ok(OutlinedImage {
            id: digest(&image.id)?,
            descriptor: image.descriptor.map(descriptor_from_wire).transpose()?,
            layers: image.layers.into_iter().map(layer).collect::<Result<_, ApiError>>()?,
        })
    };
    let document = |text: &String| {
        let bytes = STANDARD.decode(text).map_err(|error| ApiError::invalid(format!("a document: {error}")))?;
        Ok(bytes.into())
    };
    Ok(Outline {
        name,
        descriptor: outline.descriptor.map(descriptor_from_wire).transpose()?,
        images: outline.images.into_iter().map(image).collect::<Result<_, ApiError>>()?,
        documents: outline.documents.iter().map(document).collect::<Result<_, ApiError>>()?,
        artifacts: outline.artifacts.into_iter().map(artifact_from_wire).collect::<Result<_, ApiError>>()?,
    })
}

fn artifact_to_wire(artifact: OutlinedArtifact) -> skep_wire::OutlinedArtifact {
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string()).unwrap_or_default();
    skep_wire::OutlinedArtifact {
        descriptor: descriptor_to_wire(artifact.descriptor),
        owner: text(artifact.owner),
        subject: text(artifact.subject),
        tag: artifact.tag.unwrap_or_default(),
        listed: artifact.listed,
    }
}

fn artifact_from_wire(artifact: skep_wire::OutlinedArtifact) -> Result<OutlinedArtifact, ApiError> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(OutlinedArtifact {
        descriptor: descriptor_from_wire(artifact.descriptor)?,
        owner: some(artifact.owner).map(|text| digest(&text)).transpose()?,
        subject: some(artifact.subject).map(|text| digest(&text)).transpose()?,
        tag: some(artifact.tag),
        listed: artifact.listed,
    })
}

pub(crate) fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: skep_types::DigestError| ApiError::invalid(format!("{text:?}: {error}")))
}

fn descriptor_to_wire(descriptor: Descriptor) -> skep_wire::Descriptor {
    skep_wire::Descriptor {
        media_type: descriptor.media_type,
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: descriptor.annotations,
        platform: descriptor.platform.map(|platform| skep_wire::DescriptorPlatform {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            ..skep_wire::DescriptorPlatform::default()
        }),
        ..skep_wire::Descriptor::default()
    }
}

fn descriptor_from_wire(descriptor: skep_wire::Descriptor) -> Result<Descriptor, ApiError> {
    Ok(Descriptor {
        media_type: descriptor.media_type,
        digest: digest(&descriptor.digest)?,
        size: u64::try_from(descriptor.size).map_err(|_| ApiError::invalid("a descriptor has a negative size"))?,
        platform: descriptor.platform.map(|platform| Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
        }),
        annotations: descriptor.annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_come_through() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
        let descriptor = Some(Descriptor {
            media_type: "m".to_owned(),
            digest,
            size: 3,
            platform: Some(Platform::host()),
            annotations: [("k".to_owned(), "v".to_owned())].into(),
        });
        let layers = vec![OutlinedLayer { diff_id: digest, chain_id: digest, size: 9 }];
        let artifacts = vec![OutlinedArtifact {
            descriptor: descriptor.clone().expect("some"),
            owner: Some(digest),
            subject: Some(digest),
            tag: None,
            listed: true,
        }];
        let outline = Outline {
            artifacts,
            name: Some("busybox:1".parse().expect("a name")),
            descriptor: descriptor.clone(),
            images: vec![OutlinedImage { id: digest, descriptor, layers }],
            documents: vec![b"\x00\xff{}".to_vec().into()],
        };
        assert_eq!(from_wire(to_wire(outline.clone())).ok(), Some(outline));
    }
}
