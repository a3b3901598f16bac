//! `update`.

use skep_client::Client;
use skep_wire::{ContainerUpdateRequest, ContainerUpdateResponse, HostConfig, PortBinding, PortMap, PortsChange};

use super::options::port;
use super::options::request::parse_restart;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::{NanoCpus, Size, SwapSize};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

flags! {
    pub(crate) struct UpdateFlags {
        blkio_weight: Option<u16> => "blkio-weight", "Block I/O weight, 10 to 1000, or 0 for none";
        cpu_period: Option<i64> => "cpu-period", "Period of the CPU quota in microseconds";
        cpu_quota: Option<i64> => "cpu-quota", "CPU time per period in microseconds";
        cpu_rt_period: Option<i64> => "cpu-rt-period", "Real-time period in microseconds";
        cpu_rt_runtime: Option<i64> => "cpu-rt-runtime", "Real-time CPU time per period in microseconds";
        cpu_shares: Option<i64> => "cpu-shares" 'c', "CPU weight relative to other containers";
        cpus: Option<NanoCpus> => "cpus", "Number of CPUs";
        cpuset_cpus: Option<String> => "cpuset-cpus", "CPUs to run on (0-3, 0,1)";
        cpuset_mems: Option<String> => "cpuset-mems", "Memory nodes to use (0-3, 0,1)";
        memory: Option<Size> => "memory" 'm', "Memory limit";
        memory_reservation: Option<Size> => "memory-reservation", "Memory to fall back to when it gets scarce";
        memory_swap: Option<SwapSize> => "memory-swap", "Memory and swap together; -1 for unlimited swap";
        pids_limit: Option<i64> => "pids-limit", "Most processes; -1 for no limit";
        publish_add: Vec<String> => "publish-add", "Publish a port from now on, as run -p ([[ip:]port:]port[/tcp|udp|sctp])";
        publish_rm: Vec<String> => "publish-rm", "Publish a port no more: the container's (80, 53/udp), or one way to it (8080:80)";
        restart: Option<String> => "restart", "What to do when the container exits";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["update", "container update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Update configuration of one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: UpdateFlags::specs,
    run: runner!(UpdateFlags, run),
};

async fn run(cli: &Cli, flags: UpdateFlags, names: Vec<String>) -> Outcome {
    let ports = ports(&flags)?;
    let resources = resources(flags)?;
    if resources == HostConfig::default() && ports == PortsChange::default() {
        return Err(Failure::message("you must provide one or more flags when using this command"));
    }
    let request = ContainerUpdateRequest { resources };
    let client = cli.client().await?;
    let (mut failed, mut warnings) = (Vec::new(), Vec::new());
    for name in &names {
        match update(client, name, &request, &ports).await {
            Ok(more) => {
                ui::line(name);
                warnings.extend(more);
            }
            Err(failure) => failed.push(failure.text),
        }
    }
    for warning in warnings {
        ui::line(&warning);
    }
    Failure::all(failed)
}

/// What is asked for, one call after the other; the engine's warnings come back.
async fn update(
    client: &Client,
    name: &str,
    request: &ContainerUpdateRequest,
    ports: &PortsChange,
) -> Result<Vec<String>, Failure> {
    if *ports != PortsChange::default() {
        let path = reference::container(name, "/ports")?;
        let _: PortMap = client.post(format!("/skep{path}"), ports).await?;
    }
    if request.resources == HostConfig::default() {
        return Ok(Vec::new());
    }
    let answer: ContainerUpdateResponse = client.post(reference::container(name, "/update")?, request).await?;
    Ok(answer.warnings)
}

fn ports(flags: &UpdateFlags) -> Result<PortsChange, Failure> {
    let publish = port::parse(&flags.publish_add, &[])?.bindings;
    let mut unpublish = port::parse(&flags.publish_rm, &[])?.bindings;
    for bindings in unpublish.values_mut().flatten() {
        // A port of the container alone is meant with all that leads to it.
        bindings.retain(|binding| *binding != PortBinding::default());
    }
    Ok(PortsChange { publish, unpublish })
}

fn resources(flags: UpdateFlags) -> Result<HostConfig, Failure> {
    Ok(HostConfig {
        blkio_weight: flags.blkio_weight.unwrap_or_default(),
        cpu_period: flags.cpu_period.unwrap_or_default(),
        cpu_quota: flags.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: flags.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: flags.cpu_rt_runtime.unwrap_or_default(),
        cpu_shares: flags.cpu_shares.unwrap_or_default(),
        nano_cpus: flags.cpus.unwrap_or_default().0,
        cpuset_cpus: flags.cpuset_cpus.unwrap_or_default(),
        cpuset_mems: flags.cpuset_mems.unwrap_or_default(),
        memory: flags.memory.unwrap_or_default().0,
        memory_reservation: flags.memory_reservation.unwrap_or_default().0,
        memory_swap: flags.memory_swap.unwrap_or_default().0,
        pids_limit: flags.pids_limit.filter(|limit| *limit != 0),
        restart_policy: flags.restart.map(|text| parse_restart(&text)).transpose()?.unwrap_or_default(),
        ..HostConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_by_their_own_number_or_by_a_way_to_them() {
        let flags = UpdateFlags {
            publish_add: vec!["127.0.0.1:8443:443".into()],
            publish_rm: vec!["80".into(), "5353:53/udp".into()],
            ..UpdateFlags::default()
        };
        let change = serde_json::to_value(ports(&flags).expect("good")).expect("json");
        let expected = serde_json::json!({
            "Publish": {"443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}]},
            "Unpublish": {"80/tcp": [], "53/udp": [{"HostIp": "", "HostPort": "5353"}]},
        });
        assert_eq!(change, expected);
        let wrong = UpdateFlags { publish_add: vec!["80:x".into()], ..UpdateFlags::default() };
        assert_eq!(ports(&wrong).expect_err("no port").text, "invalid containerPort: x");
    }
}
