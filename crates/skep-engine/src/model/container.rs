//! What a container runs: the part of its settings that could come from an image.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skep_types::{ContainerName, Platform, Port};

use super::host::HostConfig;
use super::network::EndpointSettings;

/// What `create` asks for. Nothing is filled in from the image yet.
#[derive(Debug, Clone, Default)]
pub struct CreateContainer {
    /// The name; one is made up when there is none.
    pub name: Option<ContainerName>,
    /// The platform that the image must be of.
    pub platform: Option<Platform>,
    /// What runs.
    pub config: ContainerConfig,
    /// Where and within which bounds it runs.
    pub host: HostConfig,
    /// Settings per network, by network name or id.
    pub endpoints: BTreeMap<String, EndpointSettings>,
}

/// What runs in a container (Docker's `Config`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Host name; the short id when empty.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
    /// `user[:group]`, by name or number.
    pub user: String,
    /// The creator attached to stdin.
    pub attach_stdin: bool,
    /// The creator attached to stdout.
    pub attach_stdout: bool,
    /// The creator attached to stderr.
    pub attach_stderr: bool,
    /// Ports that the image speaks of.
    pub exposed_ports: BTreeSet<Port>,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Stdin is kept open.
    pub open_stdin: bool,
    /// Stdin ends when the first client that attached to it leaves.
    pub stdin_once: bool,
    /// `NAME=value`; `NAME` alone takes the variable away that the image set.
    pub env: Vec<String>,
    /// Arguments, or command and arguments.
    pub cmd: Option<Vec<String>>,
    /// Program that `cmd` is passed to.
    pub entrypoint: Option<Vec<String>>,
    /// The image as the user wrote it.
    pub image: String,
    /// Paths that become anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Working directory.
    pub working_dir: String,
    /// Triggers for images built from this one.
    pub on_build: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end, as written; SIGTERM when there is none.
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL; negative waits for ever.
    pub stop_timeout: Option<i64>,
    /// Shell for the shell form of commands.
    pub shell: Option<Vec<String>>,
}
