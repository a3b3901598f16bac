//! Networks and volumes to the wire.

use chrono::SecondsFormat;
use skep_engine::model::network::NetworkView;
use skep_engine::model::volume::Volume;
use skep_wire::{Ipam, IpamPool, Network, NetworkContainer};

/// A network. In the list, `with_containers` is not asked for.
pub(crate) fn network(view: NetworkView, with_containers: bool) -> Network {
    let containers = view.containers.into_iter().filter(|_| with_containers).map(|(id, member)| {
        let member = NetworkContainer {
            name: member.name,
            endpoint_id: member.endpoint_id,
            mac_address: member.mac,
            ipv4_address: member.ipv4,
            ipv6_address: String::new(),
        };
        (id.to_string(), member)
    });
    Network {
        name: view.name,
        id: view.id.to_string(),
        created: view.created.into(),
        scope: "local".to_owned(),
        driver: view.driver,
        enable_ipv4: true,
        ipam: Ipam {
            driver: "default".to_owned(),
            config: view
                .ipam
                .into_iter()
                .map(|pool| IpamPool { subnet: pool.subnet, gateway: pool.gateway, ..IpamPool::default() })
                .collect(),
            ..Ipam::default()
        },
        internal: view.internal,
        containers: containers.collect(),
        options: view.options,
        labels: view.labels,
        ..Network::default()
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
