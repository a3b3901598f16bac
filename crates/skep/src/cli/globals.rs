//! The options before the command, and the client that they lead to.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skep_client::{ApiVersion, Client, Config, Endpoint, TlsFiles};

use super::Failure;
use super::config::ConfigFile;
use super::flags::flags;

/// Where the engine listens unless something else is said.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/skep/skep.sock";

flags! {
    /// Options before the command.
    pub(crate) struct GlobalFlags {
        config: Option<String> => "config", "Directory of the client's config file (default: ~/.docker)";
        context: Option<String> => "context" 'c', "Name of the context to use (only \"default\")";
        debug: bool => "debug" 'D', "Say more about what happens";
        hosts: Vec<String> => "host" 'H', "Engine to connect to";
        log_level: String = "info" => "log-level" 'l', "Least severe messages to show: debug, info, warn, error, fatal";
        tls: bool => "tls", "Use TLS; implied by --tlsverify";
        tls_ca: Option<String> => "tlscacert", "Trust only certificates signed by this authority";
        tls_cert: Option<String> => "tlscert", "File of the client's certificate";
        tls_key: Option<String> => "tlskey", "File of the client's key";
        tls_verify: bool => "tlsverify", "Use TLS and check who the engine is";
        version: bool => "version" 'v', "Print the version and quit";
    }
}

/// One call of the command line.
pub(crate) struct Cli {
    /// The name we were called by: `skep` or `docker`.
    pub(crate) program: String,
    pub(crate) globals: GlobalFlags,
    client: OnceLock<Client>,
    config: OnceLock<ConfigFile>,
}

impl Cli {
    /// Checks the global options; connects to nothing.
    pub(crate) fn new(program: &str, globals: GlobalFlags) -> Result<Self, Failure> {
        if !matches!(
            globals.log_level.as_str(),
            "trace" | "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic"
        ) {
            return Err(Failure::message(format!("Unable to parse logging level: {}", globals.log_level)));
        }
        let program = program.to_owned();
        Ok(Cli { program, globals, client: OnceLock::new(), config: OnceLock::new() })
    }

    /// The client's config file, read at first use.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| ConfigFile::load(&self.config_dir()))
    }

    fn config_dir(&self) -> PathBuf {
        match (&self.globals.config, std::env::var_os("DOCKER_CONFIG")) {
            (Some(dir), _) => PathBuf::from(dir),
            (None, Some(dir)) if !dir.is_empty() => PathBuf::from(dir),
            _ => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
        }
    }

    /// A client with a live connection. Where nobody listens at the default socket, root gets an engine started.
    pub(crate) async fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let (host, is_default) = self.host()?;
        let client = Client::new(self.client_config(&host)?)?;
        match client.connect().await {
            Ok(()) => {}
            Err(error) if error.is_not_running() && is_default && rustix::process::geteuid().is_root() => {
                crate::on_demand::start(&self.program, DEFAULT_HOST, error).await?;
                client.connect().await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.client.get_or_init(|| client))
    }

    /// The endpoint as text, and whether nobody chose it.
    pub(crate) fn host(&self) -> Result<(String, bool), Failure> {
        if let [_, _, ..] = self.globals.hosts.as_slice() {
            return Err(Failure::message("Specify only one -H"));
        }
        if let Some(host) = self.globals.hosts.first() {
            return Ok((host.clone(), false));
        }
        if let Some(context) = &self.globals.context {
            check_context(context)?;
        } else if let Some(host) = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            return Ok((host, false));
        } else if let Some(context) = std::env::var("DOCKER_CONTEXT").ok().filter(|context| !context.is_empty()) {
            check_context(&context)?;
        }
        Ok((DEFAULT_HOST.to_owned(), true))
    }

    fn client_config(&self, host: &str) -> Result<Config, Failure> {
        let tls = self.tls();
        let port = if tls.is_some() { 2376 } else { 2375 };
        let endpoint = Endpoint::parse(host, port).map_err(|_| {
            Failure::message(format!(
                "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: {host}"
            ))
        })?;
        let mut config = Config::new(endpoint);
        config.tls = tls;
        config.user_agent = concat!("Docker-Client/skep-", env!("CARGO_PKG_VERSION"), " (linux)").to_owned();
        config.headers = self.config().http_headers.clone().into_iter().collect();
        if let Some(version) = std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty()) {
            config.version = Some(version.parse::<ApiVersion>()?);
        }
        Ok(config)
    }

    fn tls(&self) -> Option<TlsFiles> {
        let globals = &self.globals;
        let verify = globals.tls_verify || std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        if !verify && !globals.tls && std::env::var_os("DOCKER_TLS").is_none_or(|value| value.is_empty()) {
            return None;
        }
        let dir = match std::env::var_os("DOCKER_CERT_PATH") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => self.config_dir(),
        };
        let file = |given: &Option<String>, name: &str| given.as_ref().map_or_else(|| dir.join(name), PathBuf::from);
        Some(TlsFiles {
            ca: file(&globals.tls_ca, "ca.pem"),
            cert: file(&globals.tls_cert, "cert.pem"),
            key: file(&globals.tls_key, "key.pem"),
            verify,
        })
    }
}

fn check_context(name: &str) -> Result<(), Failure> {
    if name == "default" {
        return Ok(());
    }
    Err(Failure::message(format!(
        "Failed to initialize: unable to resolve docker endpoint: context \"{name}\": context not found"
    )))
}
