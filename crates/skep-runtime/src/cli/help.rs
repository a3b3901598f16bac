//! What the program says about itself.

use skep_runtime::container::{LaunchError, Result};

use super::args::Args;

/// The step of the error that stands for a question for help.
pub(crate) const ASKED: &str = "help";

const GENERAL: &str = "\
skep-runtime: runs containers from OCI bundles

A bundle is a directory with a config.json and a root file system. To make one and run it:
    mkdir -p /tmp/b/rootfs/bin && cp /bin/busybox /tmp/b/rootfs/bin/sh
    cd /tmp/b && skep-runtime spec && skep-runtime run hello

Usage: skep-runtime [options] COMMAND [arguments]

Commands:
    run         create and start a container, and wait for its end (unless -d)
    create      make a container that waits to be started
    start       start a created container
    exec        run a process in a running container
    state       show a container's state as JSON
    list        show all containers
    ps          show a container's processes
    kill        send a signal to a container
    pause, resume  freeze a container, and let it go on
    update      change a container's limits
    delete      remove what is left of a stopped container
    spec        write an example config.json
    features    show what this runtime can do, as JSON

Options:
    --root DIR            where the state of containers is kept (default /run/skep-runtime)
    --log FILE            write messages to FILE as well
    --log-format FORMAT   text or json
    --debug               more messages
    --version, --help
`skep-runtime COMMAND --help` tells more.
";

/// Command, arguments, and what there is to know.
const COMMANDS: [(&str, &str); 14] = [
    ("run", CREATE_HELP),
    ("create", CREATE_HELP),
    ("start", "start ID\n\nLets the program of a created container run.\n"),
    (
        "exec",
        "exec [options] ID COMMAND [arguments]\nexec [options] --process FILE ID\n
    -t, --tty               give it a terminal
    -d, --detach            do not wait for its end
    -e, --env NAME=VALUE    add to the environment
        --cwd DIR           working directory
    -u, --user UID[:GID]    numbers only
    -g, --additional-gids GID
    -c, --cap NAME          add a capability
        --no-new-privs      execve may not raise privileges
    -p, --process FILE      the whole process as JSON (`process` of config.json)
        --pid-file FILE     write its process id
        --console-socket SOCKET   send the terminal's master there (with -t -d)
        --preserve-fds N    keep N more descriptors than the first three
The exit code is that of the process: 127 if the program does not exist, 126 if it can't be executed.\n",
    ),
    ("state", "state ID\n"),
    ("list", "list [-q] [-f table|json]\n"),
    ("ps", "ps [-f table|json] ID\n"),
    (
        "kill",
        "kill [-a] ID [SIGNAL]\n\n    -a, --all   send it to all processes of the container\nThe signal is TERM by default; a name or a number.\n",
    ),
    ("pause", "pause ID\n"),
    ("resume", "resume ID\n"),
    (
        "update",
        "update [options] ID\n
    -r, --resources FILE    limits as JSON (`linux.resources` of config.json); - for standard input
        --memory BYTES --memory-reservation BYTES --memory-swap BYTES
        --cpu-share N --cpu-period N --cpu-quota N --cpuset-cpus LIST --cpuset-mems LIST
        --pids-limit N --blkio-weight N\n",
    ),
    ("delete", "delete [-f] ID\n\n    -f, --force   kill it first; no error if it does not exist\n"),
    ("spec", "spec [-b DIR] [--rootless]\n\nWrites config.json to the directory (default: here).\n"),
    ("features", "features\n"),
];

const CREATE_HELP: &str = "create [options] ID\nrun [options] ID\n
    -b, --bundle DIR        the bundle (default: here)
        --pid-file FILE     write the container's process id
        --console-socket SOCKET   send the terminal's master there
        --preserve-fds N    keep N more descriptors than the first three
        --no-new-keyring    keep the caller's session keyring
    -d, --detach            (run) do not wait for its end
        --keep              (run) keep the state when the container ends
The exit code of run is that of the container's program.\n";

/// Prints how the program is used.
pub(crate) fn general() -> Result<u8> {
    super::print(GENERAL).map(|()| 0)
}

/// Prints how a command is used.
pub(crate) fn of(command: &str) -> Result<u8> {
    let text = COMMANDS.iter().find(|(name, _)| *name == command).map_or(GENERAL, |(_, text)| text);
    super::print(&format!("Usage: skep-runtime [options] {text}")).map(|()| 0)
}

/// Prints the version, in runc's form: engines parse it.
pub(crate) fn version() -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    super::print(&format!("skep-runtime version {version}\nspec: {}\n", skep_runtime::spec::VERSION)).map(|()| 0)
}

/// The error for an option that a command does not know, if it isn't a question for help.
pub(crate) fn or_unknown(name: &str, args: &Args) -> LaunchError {
    match name {
        "help" | "h" => LaunchError::system(ASKED, ""),
        _ => args.unknown(),
    }
}
