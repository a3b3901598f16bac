//! The peers that skep is compared with: Docker's daemon, client and plugins of Debian's suite sid, unpacked below
//! `target/peers` without being installed. Packages are fetched by name through apt, with a private list of sources, so that
//! the machine's own apt is left alone. Their programs are linked so that they run on Debian 12; runc is not, and is taken from
//! the machine's own release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const PACKAGES: [&str; 6] = ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd", "tini-static"];

/// `cargo xtask peers`.
pub(crate) fn show() -> Result<ExitCode> {
    let peers = Peers::fetch(&crate::paths::target())?;
    println!("{}", peers.root.join("tree").display());
    Ok(ExitCode::SUCCESS)
}

/// Where the peers' programs are, after fetching them if they are not there.
pub(crate) struct Peers {
    root: PathBuf,
}

impl Peers {
    /// Fetches what is missing.
    pub(crate) fn fetch(target: &Path) -> Result<Peers> {
        let root = target.join("peers");
        let done = root.join(".complete");
        let names = PACKAGES.join(", ");
        if fs::read_to_string(&done).ok().as_ref() != Some(&names) {
            eprintln!("fetching {names} from Debian's sid suite");
            fetch(&root)?;
            fs::write(&done, names)?;
        }
        Ok(Peers { root })
    }

    /// A program by its name.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let folders = ["usr/bin", "usr/sbin", "usr/libexec/docker/cli-plugins"];
        let found =
            folders.iter().map(|folder| self.root.join("tree").join(folder).join(name)).find(|path| path.exists());
        found.with_context(|| format!("{name} is not in the packages {}", PACKAGES.join(", ")))
    }

    /// Folders for PATH, so that dockerd finds containerd and its shim. runc comes from the machine.
    pub(crate) fn path(&self) -> String {
        let tree = self.root.join("tree");
        let own = std::env::var("PATH").unwrap_or_default();
        format!("{}:{}:{own}", tree.join("usr/bin.peers").display(), tree.join("usr/sbin").display())
    }
}

fn fetch(root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?; // of a fetch that broke off, or of other packages
    }
    let apt = root.join("apt");
    for folder in ["lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    fs::write(apt.join("status"), "")?;
    let mirror = mirror()?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(apt.join("sources.list"), format!("deb [signed-by={keyring}] {mirror} sid main\n"))?;
    let options: Vec<String> = [
        format!("Dir::Etc::sourcelist={}", apt.join("sources.list").display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::State::status={}", apt.join("status").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        "APT::Sandbox::User=root".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    run(Command::new("apt-get").args(&options).args(["update", "-q"]))?;
    run(Command::new("apt-get").args(&options).args(["download", "-q"]).args(PACKAGES).current_dir(apt.join("debs")))?;
    let tree = root.join("tree");
    for package in fs::read_dir(apt.join("debs"))? {
        run(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&tree))?;
    }
    // What shadows the machine's own programs by accident is kept out of the peers' PATH: only what dockerd starts is in it.
    let linked = tree.join("usr/bin.peers");
    fs::create_dir_all(&linked)?;
    for name in ["containerd", "containerd-shim-runc-v2", "ctr", "docker-init"] {
        let source = tree.join("usr/bin").join(name);
        if source.exists() {
            std::os::unix::fs::symlink(Path::new("../bin").join(name), linked.join(name))?;
        }
    }
    Ok(())
}

/// The mirror that this machine's apt uses.
fn mirror() -> Result<String> {
    let mut texts = Vec::new();
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    for path in parts.chain([PathBuf::from("/etc/apt/sources.list")]) {
        texts.push(fs::read_to_string(path).unwrap_or_default());
    }
    let is_main = |url: &str| url.starts_with("http") && url.trim_end_matches('/').ends_with("/debian");
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    match words.into_iter().find(|word| is_main(word)) {
        Some(url) => Ok(url.to_owned()),
        None => bail!("no mirror of Debian's main archive in the machine's apt sources"),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
