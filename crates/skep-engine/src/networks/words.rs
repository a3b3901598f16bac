//! Docker's words for what goes wrong with networks.

use skep_net::{NetError, PortHolder};

use crate::containers::record::Record;
use crate::engine::Inner;
use crate::{Error, StartFailure};

/// Docker's words for what goes wrong while plugging in; who has a port is said in addition.
pub(super) fn plug_error(engine: &Inner, record: &Record, error: NetError) -> Error {
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
        error @ (NetError::AddressInUse(_)
        | NetError::AddressOutside { .. }
        | NetError::Config(_)
        | NetError::PortRange(..)) => Error::Invalid(format!("{prefix}: {error}")),
        error => Error::Start { cause: StartFailure::Other, message: format!("{prefix}: {error}") },
    }
}
