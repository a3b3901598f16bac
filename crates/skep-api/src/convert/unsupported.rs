//! Fields of a create request that skep does not carry out: 501 with the field's name, unless they hold what they hold
//! when nobody asked for anything. A field that is neither here nor converted must not exist.

use skep_wire::{ContainerCreateRequest, HostConfig, Mount};

use crate::convert::info::RUNTIME;
use crate::http::ApiError;

/// Names under which clients ask for "the usual runtime".
const RUNTIMES: [&str; 4] = ["", RUNTIME, "runc", "io.containerd.runc.v2"];

pub(crate) fn check(request: &ContainerCreateRequest) -> Result<(), ApiError> {
    let config = &request.config;
    let health = config.healthcheck.as_ref().map(|check| check.test.iter().map(String::as_str).collect::<Vec<_>>());
    refuse_if("Healthcheck", !matches!(health.as_deref(), None | Some([] | ["NONE"])))?;
    refuse_if("NetworkDisabled", config.network_disabled)?;
    host(&request.host_config)
}

fn host(host: &HostConfig) -> Result<(), ApiError> {
    if !RUNTIMES.contains(&host.runtime.as_str()) {
        return Err(ApiError::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    for (field, used) in [
        ("VolumeDriver", !matches!(host.volume_driver.as_str(), "" | "local")),
        ("Cgroup", !host.cgroup.is_empty()),
        ("UsernsMode", !matches!(host.userns_mode.as_str(), "" | "host")),
        ("StorageOpt", !host.storage_opt.is_empty()),
        ("BlkioWeightDevice", !host.blkio_weight_device.is_empty()),
        ("BlkioDeviceReadBps", !host.blkio_device_read_bps.is_empty()),
        ("BlkioDeviceWriteBps", !host.blkio_device_write_bps.is_empty()),
        ("BlkioDeviceReadIOps", !host.blkio_device_read_iops.is_empty()),
        ("BlkioDeviceWriteIOps", !host.blkio_device_write_iops.is_empty()),
        ("CpuRealtimePeriod", host.cpu_realtime_period != 0),
        ("CpuRealtimeRuntime", host.cpu_realtime_runtime != 0),
        ("DeviceRequests", !host.device_requests.is_empty()),
        ("KernelMemory", host.kernel_memory != 0),
        ("KernelMemoryTCP", host.kernel_memory_tcp != 0),
        ("CpuCount", host.cpu_count != 0),
        ("CpuPercent", host.cpu_percent != 0),
        ("IOMaximumIOps", host.io_maximum_iops != 0),
        ("IOMaximumBandwidth", host.io_maximum_bandwidth != 0),
    ] {
        refuse_if(&format!("HostConfig.{field}"), used)?;
    }
    host.mounts.iter().try_for_each(mount)
}

fn mount(mount: &Mount) -> Result<(), ApiError> {
    let bind = mount.bind_options.clone().unwrap_or_default();
    let tmpfs = mount.tmpfs_options.clone().unwrap_or_default();
    for (field, used) in [
        ("Type=image", mount.kind == "image"),
        ("Type=npipe", mount.kind == "npipe"),
        ("Type=cluster", mount.kind == "cluster"),
        ("ImageOptions", mount.image_options.is_some()),
        ("ClusterOptions", mount.cluster_options.is_some()),
        ("BindOptions.ReadOnlyNonRecursive", bind.read_only_non_recursive),
        ("BindOptions.ReadOnlyForceRecursive", bind.read_only_force_recursive),
        ("TmpfsOptions.Options", !tmpfs.options.is_empty()),
    ] {
        refuse_if(&format!("HostConfig.Mounts.{field}"), used)?;
    }
    Ok(())
}

fn refuse_if(field: &str, used: bool) -> Result<(), ApiError> {
    if used { Err(ApiError::unsupported(field)) } else { Ok(()) }
}
