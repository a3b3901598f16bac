//! The JSON of the Docker Engine API, v1.24 to v1.51, as plain serde types that both sides use.
//!
//! What is the wire's alone lives here: the order of keys, which fields are `null` and which are missing when there is
//! nothing to say, Go's form of times, the texts of decoding errors. What a value means is decided elsewhere: the server
//! converts to the engine's types in skep-api, the command line reads these types directly.
//!
//! - Read with [`from_slice`] (or [`from_str`], [`from_value`]), never with serde_json itself: these follow Go's rules, by
//!   which keys match whatever their case, `null` leaves a field at its zero value, and unknown keys are ignored.
//! - Write with serde_json. Lists and maps are `Vec` and `BTreeMap`; the ones that dockerd shows as `null` when they are
//!   empty do so by attribute.
#![warn(missing_docs)]

mod auth;
mod config;
mod container;
mod copy;
mod decode;
mod event;
mod exec;
mod explain;
mod host_config;
mod image;
mod info;
mod mount;
mod network;
mod null;
mod progress;
mod registry;
mod stats;
mod summary;
mod syntax;
mod system;
mod time;
mod volume;

pub use auth::{AuthConfig, AuthConfigs, AuthError, AuthResponse};
pub use config::{ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, HealthConfig};
pub use container::{
    ContainerInspect, ContainerState, ContainerTop, ContainerUpdateRequest, ContainerUpdateResponse, FilesystemChange,
    GraphDriver, Health, HealthResult, PathStat, WaitError, WaitResponse,
};
pub use copy::{CopiedImages, ImageOutline, LayerStacks, OutlinedArtifact, OutlinedImage, OutlinedLayer};
pub use decode::{DecodeError, from_slice, from_str, from_value};
pub use event::{Event, EventActor};
pub use exec::{ExecCreateRequest, ExecInspect, ExecProcess, ExecStartRequest, IdResponse};
pub use explain::{ExplainedAnswer, ExplainedContainer, ExplainedPort, ExplainedReason, NetworkExplanation};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
pub use image::{
    AttestationData, Descriptor, DescriptorPlatform, ImageConfig, ImageData, ImageDeleted, ImageHistoryItem,
    ImageInspect, ImageMetadata, ImageSummary, ManifestSize, ManifestSummary, RootFs, UnpackedSize,
};
pub use info::{Commit, FirewallInfo, Info, Plugins, RegistryIndex, RegistryServiceConfig, RuntimeInfo, SwarmInfo};
pub use mount::{BindOptions, DriverConfig, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions};
pub use network::{
    Address, ConfigReference, EndpointIpamConfig, EndpointSettings, Ipam, IpamPool, Network, NetworkConnectRequest,
    NetworkContainer, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, NetworkSettings,
    NetworkingConfig, PortBinding, PortMap, PortSet, PortsChange,
};
pub use null::Empty;
pub use progress::{ErrorDetail, Progress, ProgressDetail};
pub use registry::{DistributionInspect, PushResult, SearchResult};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, StorageStats, Throttling,
};
pub use summary::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworks};
pub use system::{
    BuildCache, BuilderPruned, CacheMount, CheckFinding, CheckReport, ContainersPruned, DiskUsage, ErrorBody, GcItem,
    GcReport, ImagesPruned, NetworksPruned, PrunePreview, Version, VersionComponent, VersionPlatform,
};
pub use time::Timestamp;
pub use volume::{Volume, VolumeCreateRequest, VolumeList, VolumeUsage, VolumesPruned};
