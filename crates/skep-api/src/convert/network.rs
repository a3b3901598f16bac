//! Networks and volumes to the wire.

use chrono::SecondsFormat;
use skep_engine::model::network::{self as model, CreateNetwork, NetworkView};
use skep_engine::model::volume::Volume;
use skep_wire::{ConfigReference, Ipam, IpamPool, Network, NetworkContainer, NetworkCreateRequest};

/// A network. In the list, `with_containers` is not asked for.
pub(crate) fn network(view: NetworkView, with_containers: bool) -> Network {
    let containers = view.containers.into_iter().filter(|_| with_containers).map(|(id, member)| {
        let member = NetworkContainer {
            name: member.name,
            endpoint_id: member.endpoint_id,
            mac_address: member.mac,
            ipv4_address: member.ipv4,
            ipv6_address: member.ipv6,
        };
        (id.to_string(), member)
    });
    Network {
        name: view.name,
        id: view.id.to_string(),
        created: view.created.into(),
        scope: view.scope,
        driver: view.driver,
        enable_ipv4: view.ipv4,
        enable_ipv6: view.ipv6,
        ipam: Ipam {
            driver: view.ipam.driver,
            options: view.ipam.options,
            config: view.ipam.pools.into_iter().map(pool).collect(),
        },
        internal: view.internal,
        attachable: view.attachable,
        config_from: ConfigReference { network: view.config_from },
        config_only: view.config_only,
        containers: containers.collect(),
        options: view.options,
        labels: view.labels,
        ..Network::default()
    }
}

fn pool(pool: model::IpamPool) -> IpamPool {
    IpamPool { subnet: pool.subnet, ip_range: pool.range, gateway: pool.gateway, auxiliary_addresses: pool.auxiliary }
}

/// What the engine is asked to make.
pub(crate) fn create(request: NetworkCreateRequest) -> CreateNetwork {
    let ipam = request.ipam.unwrap_or_default();
    let pool = |pool: IpamPool| model::IpamPool {
        subnet: pool.subnet,
        range: pool.ip_range,
        gateway: pool.gateway,
        auxiliary: pool.auxiliary_addresses,
    };
    CreateNetwork {
        name: request.name,
        driver: request.driver,
        scope: request.scope,
        ipv4: request.enable_ipv4,
        ipv6: request.enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        config_only: request.config_only,
        config_from: request.config_from.map(|from| from.network).filter(|name| !name.is_empty()),
        ipam: model::Ipam {
            driver: ipam.driver,
            options: ipam.options,
            pools: ipam.config.into_iter().map(pool).collect(),
        },
        options: request.options,
        labels: request.labels,
    }
}

pub(crate) fn volume(volume: Volume) -> skep_wire::Volume {
    let mut labels = volume.labels;
    if volume.anonymous {
        // dockerd marks volumes without a name so, and its clients look for it.
        labels.entry("com.docker.volume.anonymous".to_owned()).or_default();
    }
    skep_wire::Volume {
        created_at: volume.created.to_rfc3339_opts(SecondsFormat::Secs, true),
        driver: "local".to_owned(),
        labels,
        mountpoint: volume.mountpoint,
        name: volume.name.to_string(),
        options: volume.options,
        scope: "local".to_owned(),
        ..skep_wire::Volume::default()
    }
}
