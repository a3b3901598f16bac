//! From flags to the body of POST /containers/create.

use std::collections::BTreeMap;

use skep_wire::{ContainerConfig, ContainerCreateRequest, Empty, HostConfig, LogConfig, RestartPolicy};

use super::{ContainerFlags, device, environment, health, network, port, security, volume};
use crate::cli::Failure;

/// The request that `flags` and the words behind them make. `words` starts with the image.
pub(crate) fn build(flags: &ContainerFlags, words: &[String]) -> Result<ContainerCreateRequest, Failure> {
    if flags.memory_swappiness != -1 && !(0..=100).contains(&flags.memory_swappiness) {
        return Err(Failure::message(format!(
            "invalid value: {}. Valid memory swappiness range is 0-100",
            flags.memory_swappiness
        )));
    }
    if !flags.disable_content_trust {
        return Err(Failure::message("content trust is not supported"));
    }
    if !flags.mac_address.is_empty() {
        network::check_mac(&flags.mac_address)?;
    }
    let mounts = Paths::parse(flags)?;
    let ports = port::parse(&flags.publish, &flags.expose)?;
    let config = ContainerConfig {
        hostname: flags.hostname.clone(),
        domainname: flags.domain_name.clone(),
        user: flags.user.clone(),
        exposed_ports: ports.exposed,
        tty: flags.tty,
        open_stdin: flags.interactive,
        attach_stdin: attached(flags, "stdin"),
        attach_stdout: attached(flags, "stdout"),
        attach_stderr: attached(flags, "stderr"),
        stdin_once: flags.interactive && attached(flags, "stdin"),
        env: environment::environment(&flags.env_file, flags.env.0.clone())?,
        cmd: words.get(1..).filter(|command| !command.is_empty()).map(<[String]>::to_vec),
        healthcheck: health::build(flags)?,
        image: words.first().cloned().unwrap_or_default(),
        volumes: mounts.anonymous.iter().map(|path| (path.clone(), Empty {})).collect(),
        working_dir: flags.workdir.clone(),
        entrypoint: flags.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
        labels: labels(flags)?,
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..ContainerConfig::default()
    };
    let (network_mode, networking_config) = network::build(flags)?;
    let host_config = HostConfig { network_mode, port_bindings: ports.bindings, ..host_config(flags, mounts)? };
    if host_config.auto_remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
        return Err(Failure::message("conflicting options: cannot specify both --restart and --rm"));
    }
    Ok(ContainerCreateRequest { config, host_config, networking_config })
}

/// The labels; rates travel as such, since Docker's API has no place for them.
fn labels(flags: &ContainerFlags) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = environment::labels(&flags.label_file, &flags.label.0)?;
    let rates = [("skep.rate.in", &flags.rate_in), ("skep.rate.out", &flags.rate_out)];
    let said = rates.into_iter().filter(|(_, rate)| !rate.is_empty());
    labels.extend(said.map(|(name, rate)| (name.to_owned(), rate.clone())));
    Ok(labels)
}

/// Whether a stream is attached: the ones named, or without any name all that make sense.
fn attached(flags: &ContainerFlags, stream: &str) -> bool {
    match flags.attach.0.is_empty() {
        true => stream != "stdin" || flags.interactive,
        false => flags.attach.has(stream),
    }
}

fn host_config(flags: &ContainerFlags, mounts: Paths) -> Result<HostConfig, Failure> {
    for (flag, mode, good) in [
        (
            "--pid: invalid PID mode",
            &flags.pid,
            matches!(flags.pid.as_str(), "" | "host") || flags.pid.starts_with("container:"),
        ),
        ("--uts: invalid UTS mode", &flags.uts, matches!(flags.uts.as_str(), "" | "host")),
        ("--userns: invalid USER mode", &flags.userns, matches!(flags.userns.as_str(), "" | "host")),
        (
            "--cgroupns: invalid CGROUP mode",
            &flags.cgroupns,
            matches!(flags.cgroupns.as_str(), "" | "host" | "private"),
        ),
    ] {
        if !good && !mode.is_empty() {
            return Err(Failure::message(flag));
        }
    }
    let security = security::parse(&flags.security_opt)?;
    let unconfined = security.system_paths_unconfined.then(Vec::new);
    let (devices, mut device_requests) = device::parse(&flags.device)?;
    device_requests.extend(flags.gpus.0.iter().cloned());
    Ok(HostConfig {
        binds: mounts.binds,
        container_id_file: flags.cid_file.clone(),
        log_config: log_config(flags)?,
        restart_policy: parse_restart(&flags.restart)?,
        auto_remove: flags.remove,
        volume_driver: flags.volume_driver.clone(),
        volumes_from: flags.volumes_from.clone(),
        annotations: flags.annotation.0.clone(),
        cap_add: flags.cap_add.clone(),
        cap_drop: flags.cap_drop.clone(),
        cgroupns_mode: flags.cgroupns.clone(),
        dns: flags.dns.0.clone(),
        dns_options: flags.dns_option.iter().chain(&flags.dns_opt).cloned().collect(),
        dns_search: flags.dns_search.0.clone(),
        extra_hosts: flags.add_host.0.clone(),
        group_add: flags.group_add.clone(),
        ipc_mode: flags.ipc.clone(),
        links: flags.link.0.clone(),
        oom_score_adj: flags.oom_score_adj,
        pid_mode: flags.pid.clone(),
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        security_opt: security.options,
        masked_paths: unconfined.clone(),
        readonly_paths: unconfined,
        storage_opt: key_values(&flags.storage_opt).ok_or("invalid storage option")?,
        tmpfs: mounts.tmpfs,
        mounts: flags.mount.0.clone(),
        uts_mode: flags.uts.clone(),
        userns_mode: flags.userns.clone(),
        shm_size: flags.shm_size.0,
        sysctls: flags.sysctl.0.clone(),
        runtime: flags.runtime.clone(),
        isolation: flags.isolation.clone(),
        devices,
        device_requests,
        init: flags.init,
        ..resources(flags)
    })
}

fn resources(flags: &ContainerFlags) -> HostConfig {
    HostConfig {
        cpu_shares: flags.cpu_shares,
        memory: flags.memory.0,
        nano_cpus: flags.cpus.0,
        cgroup_parent: flags.cgroup_parent.clone(),
        blkio_weight: flags.blkio_weight,
        blkio_weight_device: flags.blkio_weight_device.0.clone(),
        blkio_device_read_bps: flags.device_read_bps.0.clone(),
        blkio_device_write_bps: flags.device_write_bps.0.clone(),
        blkio_device_read_iops: flags.device_read_iops.0.clone(),
        blkio_device_write_iops: flags.device_write_iops.0.clone(),
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpu_realtime_period: flags.cpu_rt_period,
        cpu_realtime_runtime: flags.cpu_rt_runtime,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        device_cgroup_rules: flags.device_cgroup_rule.0.clone(),
        kernel_memory: flags.kernel_memory.0,
        memory_reservation: flags.memory_reservation.0,
        memory_swap: flags.memory_swap.0,
        memory_swappiness: (flags.memory_swappiness != -1).then_some(flags.memory_swappiness),
        oom_kill_disable: flags.oom_kill_disable,
        pids_limit: flags.pids_limit,
        ulimits: flags.ulimit.0.values().cloned().collect(),
        cpu_count: flags.cpu_count,
        cpu_percent: flags.cpu_percent,
        io_maximum_iops: u64::from(flags.io_max_iops),
        io_maximum_bandwidth: u64::try_from(flags.io_max_bandwidth.0).unwrap_or(0),
        ..HostConfig::default()
    }
}

/// `-v` and `--tmpfs`, sorted by what they become.
struct Paths {
    binds: Vec<String>,
    anonymous: Vec<String>,
    tmpfs: BTreeMap<String, String>,
}

impl Paths {
    fn parse(flags: &ContainerFlags) -> Result<Self, String> {
        let (mut binds, mut anonymous) = (Vec::new(), Vec::new());
        for spec in &flags.volume {
            match volume::parse(spec)? {
                volume::Short::Bind(bind) => binds.push(bind),
                volume::Short::Anonymous(path) => anonymous.push(path),
            }
        }
        let tmpfs = flags
            .tmpfs
            .iter()
            .map(|spec| match spec.split_once(':') {
                Some((path, options)) => (path.to_owned(), options.to_owned()),
                None => (spec.clone(), String::new()),
            })
            .collect();
        Ok(Paths { binds, anonymous, tmpfs })
    }
}

fn log_config(flags: &ContainerFlags) -> Result<LogConfig, String> {
    if flags.log_driver == "none" && !flags.log_opt.is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    let config = flags
        .log_opt
        .iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (option.clone(), String::new()),
        })
        .collect();
    Ok(LogConfig { driver: flags.log_driver.clone(), config })
}

/// `name[:retries]`.
pub(crate) fn parse_restart(text: &str) -> Result<RestartPolicy, String> {
    let Some((name, count)) = text.split_once(':') else {
        return Ok(RestartPolicy { name: text.to_owned(), maximum_retry_count: 0 });
    };
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        "" => 0,
        _ => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn key_values(options: &[String]) -> Option<BTreeMap<String, String>> {
    options.iter().map(|option| option.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Order, parse};

    fn request(words: &[&str]) -> Result<ContainerCreateRequest, Failure> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let (flags, rest) = parse::<ContainerFlags>(&words, Order::FlagsFirst).map_err(|e| format!("{e:?}"))?;
        build(&flags, &rest)
    }

    #[test]
    fn a_request_holds_what_the_flags_say() {
        let request = request(&[
            "-it",
            "--rm",
            "-p",
            "127.0.0.1:8080:80",
            "-v",
            "/a:/b:ro",
            "-v",
            "/anon",
            "--tmpfs",
            "/t:size=1m",
            "-e",
            "A=b",
            "-m",
            "64m",
            "--cpus",
            "1.5",
            "--memory-swap=-1",
            "--restart",
            "no",
            "--ulimit",
            "nofile=10:20",
            "-l",
            "x=y",
            "--entrypoint",
            "",
            "--init",
            "--network",
            "host",
            "--log-opt",
            "max-size=1m",
            "--stop-timeout",
            "3",
            "--security-opt",
            "systempaths=unconfined",
            "--health-cmd",
            "true",
            "--pids-limit",
            "5",
            "-h",
            "box",
            "img:1",
            "sh",
            "-c",
            "echo",
        ])
        .expect("a good command");
        let json = serde_json::to_value(&request).expect("json");
        for (pointer, value) in [
            ("/Image", serde_json::json!("img:1")),
            ("/Cmd", serde_json::json!(["sh", "-c", "echo"])),
            ("/Entrypoint", serde_json::json!([""])),
            ("/Env", serde_json::json!(["A=b"])),
            ("/Hostname", serde_json::json!("box")),
            ("/StdinOnce", serde_json::json!(true)),
            ("/Volumes", serde_json::json!({"/anon": {}})),
            ("/StopTimeout", serde_json::json!(3)),
            ("/Healthcheck/Test", serde_json::json!(["CMD-SHELL", "true"])),
            ("/HostConfig/Binds", serde_json::json!(["/a:/b:ro"])),
            ("/HostConfig/PortBindings", serde_json::json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})),
            ("/HostConfig/Memory", serde_json::json!(64 << 20)),
            ("/HostConfig/MemorySwap", serde_json::json!(-1)),
            ("/HostConfig/NanoCpus", serde_json::json!(1_500_000_000)),
            ("/HostConfig/AutoRemove", serde_json::json!(true)),
            ("/HostConfig/Init", serde_json::json!(true)),
            ("/HostConfig/NetworkMode", serde_json::json!("host")),
            ("/HostConfig/Tmpfs", serde_json::json!({"/t": "size=1m"})),
            ("/HostConfig/MaskedPaths", serde_json::json!([])),
            ("/HostConfig/PidsLimit", serde_json::json!(5)),
            ("/HostConfig/LogConfig/Config", serde_json::json!({"max-size": "1m"})),
        ] {
            assert_eq!(json.pointer(pointer), Some(&value), "{pointer}");
        }
    }

    #[test]
    fn conflicts_are_told_in_dockers_words() {
        for (words, text) in [
            (vec!["--rm", "--restart", "always", "x"], "conflicting options: cannot specify both --restart and --rm"),
            (vec!["--restart", "foo:x", "x"], "invalid restart policy format: maximum retry count must be an integer"),
            (vec!["--memory-swappiness", "300", "x"], "invalid value: 300. Valid memory swappiness range is 0-100"),
            (vec!["--storage-opt", "x", "y"], "invalid storage option"),
            (vec!["--userns", "x", "y"], "--userns: invalid USER mode"),
            (vec!["--pid", "x", "y"], "--pid: invalid PID mode"),
            (vec!["--uts", "x", "y"], "--uts: invalid UTS mode"),
            (vec!["--cgroupns", "x", "y"], "--cgroupns: invalid CGROUP mode"),
            (vec!["--mac-address", "x", "y"], "x is not a valid mac address"),
            (vec!["--no-healthcheck", "--health-cmd", "x", "y"], "--no-healthcheck conflicts with --health-* options"),
            (vec!["--log-driver", "none", "--log-opt", "a=b", "y"], "invalid logging opts for driver none"),
        ] {
            assert_eq!(request(&words).expect_err(text).text, text);
        }
    }
}
