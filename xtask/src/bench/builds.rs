//! Images from Dockerfiles: skep beside Docker's BuildKit and Buildah. skep and Docker are measured through the same client,
//! `docker build`; where skep's own is meant, the engine is called `skep build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::engines::{Engine, Engines};
use super::report::{Report, Unit};
use super::{Arguments, millis};
use crate::peers::Peers;

const STEPS: &str = "build 10 small steps, no cache";
const CACHED: &str = "build 10 small steps, all cached";
const CHANGE: &str = "build after 1 of 20,000 files changed";
const STAGES: &str = "build 8 parallel stages, no cache";
const LARGE: &str = "build with COPY of 1 GB, no cache";
const START: &str = "build: each further RUN true";
/// These take long: a fifth of the rounds is enough.
const FEWER: usize = 5;
/// What everything is built from.
const BASE: &str = "localhost/bench:1";
const NAME: &str = "localhost/built:1";

/// Whether any of this is wanted.
pub(super) fn wanted(only: &str) -> bool {
    [STEPS, CACHED, CHANGE, STAGES, LARGE, START].iter().any(|case| case.contains(only))
}

/// Something that builds.
struct Builder {
    name: &'static str,
    /// Program and leading arguments, up to `build`.
    command: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What is built.
struct Projects {
    small: PathBuf,
    many: PathBuf,
    large: PathBuf,
}

pub(super) fn measure(arguments: &Arguments, engines: &Engines, report: &mut Report) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("skep-bench-build-").tempdir()?;
    let projects = Projects::make(folder.path(), arguments)?;
    let builders = builders(folder.path(), engines, arguments)?;
    let wanted = |case: &str| case.contains(&arguments.only);
    let rounds = (arguments.rounds / FEWER).max(1);
    for builder in builders.iter().filter(|_| wanted(CACHED) || wanted(CHANGE)) {
        builder.build(&projects.small, "steps", &[])?;
        if wanted(CHANGE) {
            builder.build(&projects.many, "many", &[])?;
        }
    }
    for round in 0..rounds {
        for builder in &builders {
            let mut add = |case: &str, took: Duration| report.add(case, builder.name, Unit::Milliseconds, millis(took));
            if wanted(STEPS) {
                add(STEPS, builder.build(&projects.small, "steps", &["--no-cache"])?);
            }
            if wanted(CACHED) {
                builder.build(&projects.small, "steps", &[])?;
                add(CACHED, builder.build(&projects.small, "steps", &[])?);
            }
            if wanted(CHANGE) {
                fs::write(projects.many.join("many/7/3507"), format!("{} {round}", builder.name))?;
                add(CHANGE, builder.build(&projects.many, "many", &[])?);
            }
            if wanted(STAGES) {
                add(STAGES, builder.build(&projects.small, "stages", &["--no-cache"])?);
            }
            if wanted(LARGE) {
                add(LARGE, builder.build(&projects.large, "large", &["--no-cache"])?);
            }
            if wanted(START) {
                let few = builder.build(&projects.small, "few", &["--no-cache"])?;
                let more = builder.build(&projects.small, "more", &["--no-cache"])?;
                add(START, more.saturating_sub(few) / (MORE - FEW));
            }
        }
    }
    Ok(())
}

const FEW: u32 = 5;
const MORE: u32 = 25;

impl Projects {
    fn make(folder: &Path, arguments: &Arguments) -> Result<Projects> {
        let projects = Projects { small: folder.join("small"), many: folder.join("many"), large: folder.join("large") };
        for path in [&projects.small, &projects.many, &projects.large] {
            fs::create_dir_all(path)?;
        }
        let steps: Vec<String> =
            (1..=5).flat_map(|n| [format!("RUN echo {n} > /run-{n}"), format!("COPY file /copy-{n}")]).collect();
        dockerfile(&projects.small, "steps", &steps)?;
        for (name, count) in [("few", FEW), ("more", MORE)] {
            // Each is another one, as the same step twice is one step for some.
            let runs: Vec<String> = (0..count).map(|n| format!("RUN true {name} {n}")).collect();
            dockerfile(&projects.small, name, &runs)?;
        }
        fs::write(projects.small.join("file"), "content\n")?;
        let mut stages = String::new();
        for stage in 0..8 {
            stages.push_str(&format!("FROM {BASE} AS s{stage}\nRUN sleep 0.2; echo {stage} > /f\nRUN cat /f > /g\n"));
        }
        stages.push_str("FROM scratch\n");
        (0..8).for_each(|stage| stages.push_str(&format!("COPY --from=s{stage} /g /g{stage}\n")));
        fs::write(projects.small.join("stages.Dockerfile"), stages)?;
        dockerfile(&projects.many, "many", &["COPY many /many".to_owned()])?;
        dockerfile(&projects.large, "large", &["COPY large /large".to_owned()])?;
        if CHANGE.contains(&arguments.only) {
            for number in 0..20_000 {
                let path = projects.many.join(format!("many/{}", number / 500));
                fs::create_dir_all(&path)?;
                fs::write(path.join(number.to_string()), number.to_string())?;
            }
        }
        if LARGE.contains(&arguments.only) {
            let copy = format!("head -c 1073741824 /dev/urandom > '{}/large'", projects.large.display());
            ensure!(Command::new("sh").args(["-c", &copy]).status()?.success(), "a file of 1 GB could not be made");
        }
        Ok(projects)
    }
}

fn dockerfile(folder: &Path, name: &str, lines: &[String]) -> Result<()> {
    fs::write(folder.join(format!("{name}.Dockerfile")), format!("FROM {BASE}\n{}\n", lines.join("\n")))?;
    Ok(())
}

fn builders(folder: &Path, engines: &Engines, arguments: &Arguments) -> Result<Vec<Builder>> {
    let peers = Peers::fetch(&crate::paths::target())?;
    let plugins = folder.join("client/cli-plugins");
    fs::create_dir_all(&plugins)?;
    std::os::unix::fs::symlink(peers.program("docker-buildx")?, plugins.join("docker-buildx"))?;
    let client = peers.program("docker")?.display().to_string();
    let environment = [
        ("DOCKER_CONFIG", folder.join("client").display().to_string()),
        ("DOCKER_BUILDKIT", "1".to_owned()),
        ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let mut builders = Vec::new();
    for engine in &engines.all {
        let Some(socket) = &engine.socket else { continue };
        engine.run(&["tag", "busybox:latest", BASE].map(str::to_owned))?;
        let host = format!("unix://{}", socket.display());
        let command = vec![client.clone(), "--host".to_owned(), host, "build".to_owned()];
        builders.push(Builder { name: engine.name, command, environment: environment.to_vec() });
        builders.extend(own(engine));
    }
    if !arguments.without.iter().any(|left_out| left_out == "buildah") {
        builders.push(buildah(folder)?);
    }
    Ok(builders)
}

/// skep's own client, if it can build.
fn own(engine: &Engine) -> Option<Builder> {
    let help = engine.run(&["build", "--help"].map(str::to_owned));
    let builds = engine.name == "skep" && help.is_ok();
    let command = [engine.client.clone(), vec!["build".to_owned()]].concat();
    builds.then(|| Builder { name: "skep build", command, environment: Vec::new() })
}

/// Buildah with a store of its own, which gets the same image as the others have.
fn buildah(folder: &Path) -> Result<Builder> {
    let root = folder.join("buildah");
    let context = folder.join("buildah-base");
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&context)?;
    // Buildah's default limits are more than a machine without CAP_SYS_RESOURCE can give.
    let settings = root.join("containers.conf");
    fs::write(&settings, "[containers]\ndefault_ulimits = [\"nofile=512:512\", \"nproc=512:512\"]\n")?;
    let path = |name: &str| root.join(name).display().to_string();
    let (data, run) = (path("data"), path("run"));
    // Debian 12's crun refuses the hybrid cgroup layout.
    let words = ["buildah", "--root", &data, "--runroot", &run, "--storage-driver", "overlay", "build", "--layers"];
    let command = words.into_iter().chain(["--runtime", "runc"]).map(str::to_owned).collect();
    let environment = vec![
        ("CONTAINERS_REGISTRIES_CONF".to_owned(), "/dev/null".to_owned()),
        ("CONTAINERS_CONF".to_owned(), settings.display().to_string()),
    ];
    let builder = Builder { name: "buildah", command, environment };
    fs::copy("/bin/busybox", context.join("busybox")).context("the package busybox-static is needed")?;
    let links = ["sh", "true", "sleep", "cat", "echo"].map(|name| format!("COPY busybox /bin/{name}\n"));
    fs::write(context.join("base.Dockerfile"), format!("FROM scratch\n{}", links.concat()))?;
    builder.build_as(BASE, &context, "base", &[])?;
    Ok(builder)
}

impl Builder {
    fn build(&self, context: &Path, dockerfile: &str, options: &[&str]) -> Result<Duration> {
        self.build_as(NAME, context, dockerfile, options)
    }

    fn build_as(&self, name: &str, context: &Path, dockerfile: &str, options: &[&str]) -> Result<Duration> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(["--quiet", "--tag", name]).args(options);
        command.arg("--file").arg(context.join(format!("{dockerfile}.Dockerfile"))).arg(context);
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let started = Instant::now();
        let output = command.output().with_context(|| format!("{command:?}"))?;
        let took = started.elapsed();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}, {dockerfile}: {}", self.name, complaint.trim());
        Ok(took)
    }
}
