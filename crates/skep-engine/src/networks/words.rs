//! Docker's words for what goes wrong with networks.

use skep_net::{NetError, PortHolder};

use super::StoredNetwork;
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::{Error, StartFailure};

/// What goes wrong while a container is plugged in; who has a port is said in addition.
pub(super) fn plug(engine: &Inner, record: &Record, error: NetError) -> Error {
    let prefix = format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {}",
        record.name
    );
    match error {
        NetError::PortInUse { address, protocol, holder } => {
            let holder = match &holder {
                PortHolder::Container(id) => match engine.containers.get(*id) {
                    Some(handle) => format!("container \"{}\" ({})", handle.view().name, id.short()),
                    None => holder.to_string(),
                },
                PortHolder::Process { .. } | PortHolder::Unknown => holder.to_string(),
            };
            let why = match holder.starts_with("container") {
                true => format!("Bind for {address} failed: port is already allocated"),
                false => format!("failed to bind host port for {address}/{protocol}: address already in use"),
            };
            Error::Start { cause: StartFailure::PortInUse, message: format!("{prefix}: {why}: in use by {holder}") }
        }
        error @ NetError::AddressInUse(_) => {
            Error::Forbidden(format!("failed to set up container networking: {error}"))
        }
        error @ (NetError::AddressOutside { .. } | NetError::Config(_) | NetError::PortRange(..)) => {
            Error::Invalid(format!("{prefix}: {error}"))
        }
        error => Error::Start { cause: StartFailure::Other, message: format!("{prefix}: {error}") },
    }
}

/// A network of a container is gone.
pub(super) fn missing(name: &str) -> Error {
    let message = format!("failed to set up container networking: network {name} not found");
    Error::Start { cause: StartFailure::Other, message }
}

/// What goes wrong with a network itself.
pub(super) fn network(error: NetError) -> Error {
    match error {
        error @ NetError::SubnetOverlap { .. } => Error::Forbidden(error.to_string()),
        error => Error::Network(error),
    }
}

/// Containers are still plugged into the network.
pub(super) fn busy(engine: &Inner, network: &StoredNetwork) -> Error {
    let views = engine.containers.all().into_iter().map(|handle| handle.view()).collect::<Vec<_>>();
    let members = views.iter().filter_map(|view| {
        let place = view.endpoints.values().find(|place| place.network == network.id)?.attached.as_ref()?;
        let id: String = place.endpoint_id.chars().take(12).collect();
        Some(format!("name:\"{}\" id:\"{id}\"", view.name))
    });
    let members = match members.collect::<Vec<_>>().as_slice() {
        // One that is just starting, or a step of a build.
        [] => String::new(),
        members => format!(" ({})", members.join(", ")),
    };
    Error::Forbidden(format!("error while removing network: network {} has active endpoints{members}", network.name))
}

/// One problem as it is, several as a list.
pub(super) fn list(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => many.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
    }
}
