//! A create request from the wire. Checks what the engine's types can no longer say; the engine checks the rest.

use std::collections::BTreeMap;

use skep_engine::model::container::{ContainerConfig, CreateContainer};
use skep_engine::model::network::EndpointSettings;
use skep_types::{ContainerName, Platform};
use skep_wire::{ContainerCreateRequest, NetworkingConfig};

use super::{create_host, endpoint, unsupported};
use crate::http::ApiError;

/// What the engine is asked for. `name` and `platform` come from the query.
pub(crate) fn create(name: &str, platform: &str, request: ContainerCreateRequest) -> Result<CreateContainer, ApiError> {
    if request.config == skep_wire::ContainerConfig::default() {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    create_host::check_conflicts(&request)?;
    unsupported::check(&request)?;
    let name = match name {
        "" => None,
        name => Some(name.parse::<ContainerName>().map_err(|error| ApiError::invalid(error.to_string()))?),
    };
    let platform = match platform {
        "" => None,
        text => Some(text.parse::<Platform>().map_err(|error| ApiError::invalid(error.to_string()))?),
    };
    let endpoints =
        endpoints(request.networking_config, &request.config.mac_address, &request.host_config.network_mode)?;
    Ok(CreateContainer {
        name,
        platform,
        config: config(request.config)?,
        host: create_host::host(request.host_config)?,
        endpoints,
    })
}

pub(crate) fn config(config: skep_wire::ContainerConfig) -> Result<ContainerConfig, ApiError> {
    if let Some(bad) = config.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(ApiError::invalid(format!("invalid environment variable: {bad}")));
    }
    let exposed_ports = config
        .exposed_ports
        .keys()
        .map(|text| text.parse().map_err(|_| ApiError::invalid(format!("invalid port specification: {text:?}"))))
        .collect::<Result<_, _>>()?;
    Ok(ContainerConfig {
        hostname: config.hostname,
        domainname: config.domainname,
        user: config.user,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports,
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env,
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        image: config.image,
        volumes: config.volumes.into_keys().collect(),
        working_dir: config.working_dir,
        on_build: config.on_build,
        labels: config.labels,
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout,
        shell: Some(config.shell).filter(|shell| !shell.is_empty()),
    })
}

/// Settings per network. The MAC address of old clients, which belongs to the container, goes to its main network.
fn endpoints(
    networking: NetworkingConfig,
    mac_address: &str,
    mode: &str,
) -> Result<BTreeMap<String, EndpointSettings>, ApiError> {
    let mut endpoints = networking
        .endpoints_config
        .into_iter()
        .map(|(network, settings)| {
            let settings = endpoint::settings(settings.unwrap_or_default())
                .map_err(|error| ApiError::invalid(format!("invalid config for network {network}: {error}")))?;
            Ok((network, settings))
        })
        .collect::<Result<BTreeMap<_, _>, ApiError>>()?;
    if !mac_address.is_empty() {
        let main = if mode.is_empty() { "default" } else { mode };
        let settings: &mut EndpointSettings = endpoints.entry(main.to_owned()).or_default();
        match &settings.mac_address {
            Some(other) if other != mac_address => {
                return Err(ApiError::invalid(
                    "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or \
                     should be left empty",
                ));
            }
            Some(_) => {}
            None => settings.mac_address = Some(mac_address.to_owned()),
        }
    }
    Ok(endpoints)
}
