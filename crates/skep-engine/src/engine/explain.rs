//! Who can reach a container or a published port.

use std::net::IpAddr;
use std::sync::Arc;

use super::blocking;
use crate::model::explain::{About, Explained, ExplainedNetworks};
use crate::model::network::{Attached, NetworkMode};
use crate::model::view::ContainerView;
use crate::{Engine, Error, Result};

const HOST: &str =
    "it is in the host's network: what it listens on are ports of the host, which no rule of skep's concerns";
const NONE: &str = "it is in no network: nobody can reach it";
const SHARED: &str = "it is in the network of another container: ask about that one";
const DIRECT: &str =
    "it has an interface of its own on the network of the host's: the host's packet filter does not see its traffic";

impl Engine {
    /// Who can reach what: `what` is a published port (`8080`, `53/udp`), or a container's name or id.
    pub async fn explain_network(&self, what: &str) -> Result<ExplainedNetworks> {
        let views = self.asked_about(what)?;
        let engine = self.clone();
        blocking(move || {
            let mut containers = Vec::new();
            for view in &views {
                engine.explain_container(view, &mut containers)?;
            }
            let names =
                engine.inner.networks.views(&[]).into_iter().map(|network| (network.id, network.name)).collect();
            Ok(ExplainedNetworks { containers, names })
        })
        .await
    }

    fn asked_about(&self, what: &str) -> Result<Vec<Arc<ContainerView>>> {
        let (number, protocol) = what.split_once('/').map_or((what, None), |(number, name)| (number, Some(name)));
        if number.parse::<u16>().is_ok() {
            let publishes = |view: &&Arc<ContainerView>| {
                let ports = view
                    .ports
                    .iter()
                    .filter(|(port, _)| protocol.is_none_or(|wanted| port.protocol.to_string() == wanted));
                view.status.running().is_some()
                    && ports.flat_map(|(_, bindings)| bindings).any(|binding| binding.host_port == number)
            };
            let found: Vec<_> = self.views().iter().filter(publishes).cloned().collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        match self.inner.containers.find(what) {
            Ok(handle) => {
                let view = handle.view();
                match view.status.running() {
                    Some(_) => Ok(vec![view]),
                    None => Err(Error::Conflict(format!("container {} is not running", view.name))),
                }
            }
            Err(_) if number.parse::<u16>().is_ok() => Err(Error::NoSuchPublishedPort(what.to_owned())),
            Err(error) => Err(error),
        }
    }

    fn explain_container(&self, view: &ContainerView, found: &mut Vec<Explained>) -> Result<()> {
        let mut say = |network: &str, about: About| {
            found.push(Explained { id: view.id, name: view.name.to_string(), network: network.to_owned(), about });
        };
        match &view.host.network_mode {
            NetworkMode::Host => say("host", About::Words(HOST)),
            NetworkMode::None => say("none", About::Words(NONE)),
            NetworkMode::Container(_) => say("", About::Words(SHARED)),
            NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_) => {}
        }
        for (name, endpoint) in &view.endpoints {
            let Some(attached) = &endpoint.attached else { continue };
            let addresses = addresses(attached);
            if addresses.is_empty() {
                continue;
            }
            let explained = self.inner.networks.explain(endpoint.network, &addresses)?;
            say(name, explained.filter(|e| !e.ports.is_empty()).map_or(About::Words(DIRECT), About::Ports));
        }
        Ok(())
    }
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    let v4 = attached.address.map(IpAddr::V4);
    v4.into_iter().chain(attached.address6.map(|(ip, _)| IpAddr::V6(ip))).collect()
}
