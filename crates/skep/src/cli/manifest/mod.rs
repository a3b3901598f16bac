//! Commands about manifests in registries.

pub(crate) mod inspect;
