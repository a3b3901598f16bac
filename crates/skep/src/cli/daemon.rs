//! `daemon`: the engine, with dockerd's options.

use super::command::runner;
use super::flags::FlagSet;
use super::flags::flags;
use super::value::GoDuration;
use super::{Args, Cli, Command, Completion, Failure, Outcome};

flags! {
    pub(crate) struct DaemonFlags {
        bip: Option<String> => "bip", "Address of the default bridge with its prefix, as 10.1.0.1/24";
        bip6: Option<String> => "bip6", "IPv6 address of the default bridge with its prefix, as fd00:1::1/64";
        bridge: Option<String> => "bridge" 'b', "Name of the default bridge; \"none\" for no network (default: skep0)";
        certs_dirs: Vec<String> => "certs-dir", "Folders with HOST[:PORT]/{*.crt,*.cert,*.key,hosts.toml} (default: certs.d in /etc/skep, /etc/docker, /etc/containers)";
        cgroup_parent: Option<String> => "cgroup-parent", "Cgroup that containers live below (default: /skep)";
        config_file: Option<String> => "config-file", "Configuration file (default: /etc/skep/daemon.json)";
        data_root: Option<String> => "data-root", "Folder for everything that lasts (default: /var/lib/skep)";
        debug: bool => "debug" 'D', "Say more about what happens";
        default_address_pools: Vec<String> => "default-address-pool", "Where subnets of new networks are cut from, as base=10.10.0.0/16,size=24";
        default_network_opts: Vec<String> => "default-network-opt", "Options for new networks, as bridge=com.docker.network.driver.mtu=1400";
        default_shm_size: Option<String> => "default-shm-size", "Size of /dev/shm (default: 64MiB)";
        default_ulimits: Vec<String> => "default-ulimit", "Limits of processes, as nofile=1024:2048";
        dns: Vec<String> => "dns", "Name servers for containers";
        dns_options: Vec<String> => "dns-opt", "Options of resolv.conf for containers";
        dns_search: Vec<String> => "dns-search", "Search domains for containers";
        exec_root: Option<String> => "exec-root", "Folder for what a reboot may take (default: /run/skep)";
        fixed_cidr: Option<String> => "fixed-cidr", "Addresses for containers, within the bridge's subnet";
        fixed_cidr_v6: Option<String> => "fixed-cidr-v6", "IPv6 subnet of the default bridge, or with --bip6 the addresses for containers";
        gc: Option<bool> => "gc", "Collect garbage when the disk runs full (default: true)";
        gc_high: Option<String> => "gc-free-space-high", "Free space to stop collecting at, as 20% or 10GB (default: 10%)";
        gc_interval: Option<String> => "gc-interval", "Time between two looks at the free space (default: 60s)";
        gc_keep: Vec<String> => "gc-keep", "Images that stay: a pattern of names, or label=KEY[=VALUE]";
        gc_low: Option<String> => "gc-free-space-low", "Free space to begin collecting at, as 10% or 5GB (default: 5%)";
        gc_min_age: Option<String> => "gc-min-age", "Images used since then stay (default: 24h)";
        gc_tagged: Option<bool> => "gc-tagged", "Collect unused images with a tag, too (default: false)";
        group: Option<String> => "group" 'G', "Group of the unix socket (default: docker)";
        host_firewall: Option<String> => "host-firewall", "What the host's firewall drops: respect (it stays dropped), or bypass (containers pass, as with Docker) (default: respect)";
        host_gateway_ips: Vec<String> => "host-gateway-ip", "Addresses that host-gateway stands for in --add-host (default: those of the default bridge)";
        hosts: Vec<String> => "host" 'H', "Where to listen: unix://, tcp://, fd://";
        http_proxy: Option<String> => "http-proxy", "Proxy on the way to registries without TLS";
        https_proxy: Option<String> => "https-proxy", "Proxy on the way to registries";
        icc: Option<bool> => "icc", "Containers may talk to each other (default: true)";
        idle_timeout: Option<GoDuration> => "idle-timeout", "End after so long with no client and no container running, as 60s";
        init: bool => "init", "Give every container an init";
        insecure_registries: Vec<String> => "insecure-registry", "Registries spoken to without TLS: host[:port] or CIDR";
        ip: Option<String> => "ip", "Address that ports are published on (default: 0.0.0.0)";
        ip_masq: Option<bool> => "ip-masq", "Containers take the host's address on their way out (default: true)";
        ipv6: bool => "ipv6", "IPv6 in the default bridge";
        labels: Vec<String> => "label", "Labels of the daemon, as key=value";
        log_driver: Option<String> => "log-driver", "Log driver for containers (default: json-file)";
        log_level: Option<String> => "log-level" 'l', "Least severe messages: debug, info, warn, error (default: info)";
        log_opts: Vec<String> => "log-opt", "Options of the log driver, as max-size=10m";
        max_concurrent_downloads: Option<String> => "max-concurrent-downloads", "Layers downloaded at once (default: 3)";
        max_concurrent_uploads: Option<String> => "max-concurrent-uploads", "Layers uploaded at once (default: 5)";
        max_download_attempts: Option<String> => "max-download-attempts", "How often a download is begun before it fails (default: 5)";
        mtu: Option<String> => "mtu", "Largest packet of the default bridge (default: 1500)";
        cdi_spec_dirs: Vec<String> => "cdi-spec-dir", "Directories with descriptions of devices (default: /etc/cdi, /var/run/cdi)";
        no_proxy: Option<String> => "no-proxy", "Hosts and ranges that are reached without a proxy";
        registry_mirrors: Vec<String> => "registry-mirror", "Mirrors of Docker Hub";
        no_new_privileges: bool => "no-new-privileges", "Set no-new-privileges for all containers";
        pidfile: Option<String> => "pidfile" 'p', "File for the process id (default: EXEC-ROOT/skep.pid)";
        runtime: Option<String> => "runtime-path", "The skep-runtime program (default: beside this one)";
        signature_policy: Option<String> => "signature-policy", "Which images may come in (default: /etc/skep/policy.json, if there is one)";
        tls: bool => "tls", "Serve tcp with TLS; implied by --tlsverify";
        tls_ca: Option<String> => "tlscacert", "Authority that clients' certificates must be signed by";
        tls_cert: Option<String> => "tlscert", "File of the daemon's certificate";
        tls_key: Option<String> => "tlskey", "File of the daemon's key";
        tls_verify: bool => "tlsverify", "Serve tcp with TLS and check who the client is";
        unpack_limits: Vec<String> => "unpack-limit", "What a layer may cost: entries=10000000, size=1TiB, ratio=200";
        userns_remap: Option<String> => "userns-remap", "Ids that containers and steps of builds run under: default, USER[:GROUP] or UID[:GID], with ranges in /etc/subuid and /etc/subgid";
        validate: bool => "validate", "Check the configuration and end";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["daemon"],
    usage: "[OPTIONS]",
    about: "Run the engine: containers go on when it ends, and are found again when it starts",
    args: Args::None,
    completion: Completion::Nothing,
    flags: DaemonFlags::specs,
    run: runner!(DaemonFlags, run),
};

async fn run(cli: &Cli, mut flags: DaemonFlags, _: Vec<String>) -> Outcome {
    // `skep -H unix:///x daemon` means the same as `skep daemon -H unix:///x`.
    if flags.hosts.is_empty() {
        flags.hosts.clone_from(&cli.globals.hosts);
    }
    flags.debug |= cli.globals.debug;
    let validate = flags.validate;
    let settings = crate::daemon::settings::Settings::new(flags)?;
    if validate {
        crate::ui::line("configuration OK");
        return Ok(());
    }
    // The engine has threads of its own; this one, made for a client, waits for it.
    let engine = std::thread::spawn(move || crate::daemon::run(settings));
    engine.join().unwrap_or_else(|_| Err(Failure::message("the engine broke down")))
}
