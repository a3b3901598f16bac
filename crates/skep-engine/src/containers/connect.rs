//! A container's networks while it exists: it joins and leaves them, running or not.

use std::sync::Arc;

use skep_net::Netns;
use skep_store::crash_point;

use super::bundle;
use super::record::Record;
use super::task::Task;
use crate::engine::{Inner, blocking};
use crate::model::event::EventType;
use crate::model::network::{Endpoint, EndpointSettings, NetworkMode};
use crate::model::status::Status;
use crate::networks::{self, Context, Plug, StoredNetwork};
use crate::{Error, Result};

impl Task {
    /// Makes it a member of a network, and plugs it in if it runs. On failure it is as it was.
    pub(super) async fn connect(&mut self, network: Arc<StoredNetwork>, settings: EndpointSettings) -> Result<()> {
        self.may_change_networks()?;
        may_join(&self.record, &network)?;
        networks::check_endpoint(&network, &settings, Context::Connect)?;
        if self.record.endpoints.contains_key(&network.name) {
            if self.running.is_none() {
                // What was asked for first holds, as with Docker.
                return Ok(());
            }
            return Err(Error::Forbidden(format!(
                "endpoint with name {} already exists in network {}",
                self.record.name, network.name
            )));
        }
        let mut record = self.record.clone();
        let place = Endpoint { network: network.id, settings, attached: None, names: Vec::new() };
        record.endpoints.insert(network.name.clone(), place);
        record.rename_endpoints();
        let name = network.name.clone();
        let change = move |engine: &Inner, record: &Record, netns: &Netns, plugs: &mut Vec<Plug>| {
            engine.networks.plug_more(engine, record, netns, &name, plugs).map(|()| None)
        };
        let taken_back = |engine: &Inner, netns: &Netns, plugs: &mut Vec<Plug>| match plugs.last() {
            Some(plug) => engine.networks.unplug_one(netns, plug),
            None => Ok(()),
        };
        self.change_networks(record, change, taken_back).await?;
        self.tell_network("connect", &network);
        Ok(())
    }

    /// Takes it out of a network.
    pub(super) async fn disconnect(&mut self, text: &str, network: Arc<StoredNetwork>) -> Result<()> {
        self.may_change_networks()?;
        if self.record.host.network_mode == NetworkMode::Host && network.name == "host" {
            return Err(Error::Forbidden(
                "cannot disconnect container from host network - container was created in host network mode".to_owned(),
            ));
        }
        let mut record = self.record.clone();
        let is_member = |place: &Endpoint| place.network == network.id;
        let Some(name) = record.endpoints.iter().find(|(_, place)| is_member(place)).map(|(name, _)| name.clone())
        else {
            return Err(Error::Forbidden(format!("container {} is not connected to network {text}", self.record.id)));
        };
        let whole = Arc::new(record.clone());
        record.endpoints.remove(&name);
        let member = whole.clone();
        let change = move |engine: &Inner, _: &Record, netns: &Netns, plugs: &mut Vec<Plug>| {
            engine.networks.lead_ways(engine, &whole, netns, plugs, Some(&name))?;
            Ok(plugs.iter().position(|plug| plug.network == name).map(|at| plugs.remove(at)))
        };
        let led_back = move |engine: &Inner, netns: &Netns, plugs: &mut Vec<Plug>| {
            engine.networks.lead_ways(engine, &member, netns, plugs, None)
        };
        self.change_networks(record, change, led_back).await?;
        self.tell_network("disconnect", &network);
        Ok(())
    }

    /// Puts a changed record in force: in the kernel if the container runs, in the database, in what is shown. `change` hands out
    /// the plug that goes, which is pulled once that is stored: a daemon that is killed in between finds a link that nobody knows,
    /// and removes it. `undo` takes back what `change` did when the record can't be stored.
    pub(super) async fn change_networks(
        &mut self,
        mut record: Record,
        change: impl FnOnce(&Inner, &Record, &Netns, &mut Vec<Plug>) -> Result<Option<Plug>> + Send + 'static,
        undo: impl FnOnce(&Inner, &Netns, &mut Vec<Plug>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let engine = self.engine.clone();
        let running = self.running.as_ref().map(|running| (running.facts.pid, running.plugs.clone()));
        let (record, plugs) = blocking(move || {
            let Some((pid, mut plugs)) = running else {
                engine.storage.put_container(&record)?;
                return Ok((record, None));
            };
            let netns = networks::of_process(pid)?;
            let gone = change(&engine, &record, &netns, &mut plugs)?;
            networks::describe(&plugs, &mut record);
            if let Err(error) = engine.storage.put_container(&record) {
                plugs.extend(gone);
                undo(&engine, &netns, &mut plugs)?;
                return Err(error);
            }
            crash_point("networks-changed");
            let unplugged = gone.map_or(Ok(()), |plug| engine.networks.unplug_one(&netns, &plug));
            // It is so, whatever its own files say.
            for error in [unplugged, tell_container(&engine, &record, &plugs)].into_iter().filter_map(Result::err) {
                tracing::warn!(container = %record.id, %error, "after a change of its networks");
            }
            networks::announce(&engine, &record);
            Ok((record, Some(plugs)))
        })
        .await?;
        self.record = record;
        if let (Some(running), Some(plugs)) = (&mut self.running, plugs) {
            running.plugs = plugs;
        }
        self.publish();
        Ok(())
    }

    fn may_change_networks(&self) -> Result<()> {
        match self.status {
            Status::Removing | Status::Dead => Err(Error::Forbidden(format!(
                "container {} is marked for removal and cannot be connected or disconnected to the network",
                self.record.id
            ))),
            _ => Ok(()),
        }
    }

    /// Nothing of it is in any network any more. Its links are taken away elsewhere.
    pub(super) async fn leave_networks(&mut self) {
        self.record.clear_network();
        self.announce().await;
    }

    /// Tells all who have to know which networks it is in, and where.
    pub(super) async fn announce(&self) {
        let (engine, record) = (self.engine.clone(), self.record.clone());
        let told = blocking(move || {
            networks::announce(&engine, &record);
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::warn!(container = %self.record.id, %error, "telling its names");
        }
    }

    /// An event for each network that a start or an end concerns.
    pub(super) fn network_events(&self, action: &str) {
        for (name, place) in &self.record.endpoints {
            if let Ok(network) = self.engine.networks.of_endpoint(name, place.network) {
                self.tell_network(action, &network);
            }
        }
    }

    fn tell_network(&self, action: &str, network: &StoredNetwork) {
        let container = ("container".to_owned(), self.record.id.to_string());
        self.engine.network_event(network, action, [container]);
    }
}

/// Writes a running container's files about names.
fn tell_container(engine: &Inner, record: &Record, plugs: &[Plug]) -> Result<()> {
    let hostname = bundle::hostname(engine, record)?;
    bundle::write_hosts(engine, record, &hostname, &networks::addresses(plugs))?;
    networks::write_resolver(engine, record, &bundle::bundle_path(engine, record.id))
}

/// Which networks go together with what a container has.
fn may_join(record: &Record, network: &StoredNetwork) -> Result<()> {
    let forbidden = |text: &str| Err(Error::Forbidden(text.to_owned()));
    if network.settings.config_only {
        return forbidden("cannot create endpoint on configuration-only network");
    }
    match (&record.host.network_mode, network.name.as_str()) {
        (NetworkMode::Host | NetworkMode::Container(_), name) if name != "host" => forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (_, "host") => {
            forbidden("cannot connect container to host network - container must be created in host network mode")
        }
        (_, "none") if !record.endpoints.is_empty() => forbidden(PRIVATE),
        (_, name) if name != "none" && record.endpoints.contains_key("none") => forbidden(PRIVATE),
        _ => Ok(()),
    }
}

const PRIVATE: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

impl Inner {
    /// Tells the world what happened to a network.
    pub(crate) fn network_event(
        &self,
        network: &StoredNetwork,
        action: &str,
        more: impl IntoIterator<Item = (String, String)>,
    ) {
        let mut attributes = std::collections::BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver().to_owned()),
        ]);
        attributes.extend(more);
        self.events.emit(EventType::Network, action, network.id.to_string(), attributes);
    }
}
