//! Projects built by the real `docker` client against an engine, and the results compared with what Docker's builder makes of
//! them: files, configuration, history, layers, names of steps, errors. Docker's part is recorded (`tests/corpus/build`), so
//! that no Docker is needed but its client.
//!
//! | variable | effect |
//! |---|---|
//! | `SKEP_BUILD_ONLY=copy/link` | only projects whose names contain this |
//! | `SKEP_TEST_ENGINE=docker` | Docker is compared with its record |
//! | `SKEP_BUILD_WRITE=1` | what is seen is written to the record |
//! | `SKEP_BUILD_RECORD=FILE` | another record than that of the corpus |
#![allow(clippy::unwrap_used, reason = "tests may fail by panicking")]

mod facts;
mod output;
mod project;
mod record;
mod serve;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use facts::Facts;
use project::Project;
use record::Record;
use serve::Server;
use skep_testkit::{Command, Engine, EngineKind, Image, ImageBuilder};

/// Clients that build at the same time, for each group.
const CLIENTS: usize = 3;

macro_rules! groups {
    ($($group:ident)*) => {
        $(#[test]
        fn $group() {
            match compare_group(stringify!($group)) {
                Ok(()) => {}
                Err(why) => println!("SKIPPED builds of {}: {why}", stringify!($group)),
            }
        })*

        #[test]
        fn every_group_is_a_test() {
            assert_eq!(project::groups(), [$(stringify!($group)),*]);
        }
    };
}

groups! {
    add args cache checks classic copy copy_flags directives dockerignore env from git heredocs layers metadata mounts names
    onbuild options run special web wrong
}

#[test]
fn every_project_is_recorded() {
    let all = all_projects();
    assert!(all.len() >= 150, "{} projects", all.len());
    let names: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(names.len(), all.len(), "two projects have the same name");
    let record = record::read();
    let missing: Vec<&String> = all.iter().filter(|name| !record.contains_key(*name)).collect();
    assert!(missing.is_empty() || is_recording(), "not recorded: {missing:?}");
    for (project, key) in record::explained() {
        assert!(all.contains(&project), "differences.txt: there is no {project} ({key})");
    }
}

fn all_projects() -> Vec<String> {
    project::groups().iter().flat_map(|group| project::of_group(group)).map(|project| project.name).collect()
}

fn is_recording() -> bool {
    std::env::var_os("SKEP_BUILD_WRITE").is_some()
}

/// Builds the projects of a group, and compares; or why that is not possible.
fn compare_group(group: &str) -> Result<(), &'static str> {
    let client = client().ok_or("`cargo xtask peers` has not fetched Docker's client")?;
    let only = std::env::var("SKEP_BUILD_ONLY").unwrap_or_default();
    let projects: Vec<Project> =
        project::of_group(group).into_iter().filter(|project| project.name.contains(&only)).collect();
    if projects.is_empty() {
        return Ok(());
    }
    let built = Yard::new(client).build(&projects);
    if is_recording() {
        record::write(built, &all_projects());
        return Ok(());
    }
    let text = record::compare(&built, &record::read(), &record::explained());
    assert!(text.is_empty(), "different from Docker's builder:\n{text}");
    Ok(())
}

/// The folder with Docker's client and its plugins, as `cargo xtask peers` has fetched them.
fn client() -> Option<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = top.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let peers = target.join("peers");
    peers.join(".complete").exists().then(|| peers.join("tree/usr"))
}

/// An engine with base images, and what is built in it.
struct Yard {
    engine: Engine,
    server: Server,
    client: PathBuf,
    folder: PathBuf,
}

impl Yard {
    fn new(client: PathBuf) -> Yard {
        let engine = Engine::start();
        for image in base_images() {
            engine.load(&image);
        }
        let folder = engine.scratch();
        let plugins = folder.join("client/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(
            client.join("libexec/docker/cli-plugins/docker-buildx"),
            plugins.join("docker-buildx"),
        )
        .unwrap();
        Yard { server: Server::start(folder.clone()), engine, client, folder }
    }

    fn build(&self, projects: &[Project]) -> Record {
        // BuildKit names a step that two builds share by one of them, and what is in the cache depends on who came first.
        let in_order = |project: &Project| project.again.is_some() || project.classic;
        let one_by_one = self.engine.kind() == EngineKind::Docker || projects.iter().any(in_order);
        self.build_by(if one_by_one { 1 } else { CLIENTS }, projects)
    }

    fn build_by(&self, clients: usize, projects: &[Project]) -> Record {
        let (next, built) = (Mutex::new(projects.iter()), Mutex::new(Record::new()));
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    loop {
                        let Some(project) = next.lock().unwrap().next() else { return };
                        let facts = self.build_one(project);
                        built.lock().unwrap().insert(project.name.clone(), facts);
                    }
                });
            }
        });
        built.into_inner().unwrap()
    }

    fn build_one(&self, project: &Project) -> Facts {
        let folder = self.folder.join(&project.name);
        let fill = |text: &str| self.fill(project, text);
        project.write(&folder, fill);
        let mut args: Vec<String> = project.args.iter().map(|word| fill(word)).collect();
        let mut outcome = self.client(project, &folder, &args);
        if let Some(more) = &project.again {
            let context = project.context_folder(&folder);
            assert_eq!(outcome.code, 0, "{}: the first build\n{outcome}", project.name);
            project.between.iter().for_each(|line| project::shell(&context, &fill(line)));
            args.extend(more.iter().map(|word| fill(word)));
            outcome = self.client(project, &folder, &args);
        }
        let same = |text: &str| self.same(project, text);
        let mut facts = facts::of_client(project, &outcome, same);
        if outcome.code == 0 && project.tar {
            facts.extend(facts::of_archive(project, &std::fs::read(folder.join("result.tar")).unwrap()));
        } else if outcome.code == 0 && !args.iter().any(|arg| arg.starts_with("--check") || arg.starts_with("--call")) {
            facts.extend(facts::of_image(project, &self.engine.api(), &image_name(project)));
        }
        // What names the server or a folder stays the same in each run.
        let text = serde_json::to_string(&facts).unwrap();
        serde_json::from_str(&text.replace(self.server.address(), "HOST:PORT")).unwrap()
    }

    fn client(&self, project: &Project, folder: &Path, args: &[String]) -> skep_testkit::Outcome {
        let context = project.context_folder(folder);
        let mut words = vec!["build".to_owned()];
        if !project.classic {
            words.push("--progress=plain".to_owned());
        }
        match project.tar {
            true => words.push(format!("--output=type=tar,dest={}", folder.join("result.tar").display())),
            false => words.extend(["--tag".to_owned(), image_name(project)]),
        }
        words.extend(args.iter().cloned());
        words.push(project.context.as_deref().map_or_else(|| ".".to_owned(), |context| self.fill(project, context)));
        let mut command = Command::new(self.client.join("bin/docker"), words).current_dir(&context);
        command = command.env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()));
        command = command.env("DOCKER_CONFIG", self.folder.join("client")).env("HOME", &self.folder);
        command = command.env("DOCKER_BUILDKIT", if project.classic { "0" } else { "1" });
        command = command.env("DOCKER_CLI_HINTS", "false").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        for (name, value) in &project.env {
            command = command.env(name, self.fill(project, value));
        }
        if let Some(file) = &project.stdin {
            command = command.stdin(std::fs::read(context.join(file)).unwrap());
        }
        command.run()
    }

    fn fill(&self, project: &Project, text: &str) -> String {
        let docker = self.engine.kind() == EngineKind::Docker;
        let syntax = if docker { "#" } else { "# syntax=docker/dockerfile:1" };
        let http = format!("http://{}/{}/http", self.server.address(), project.name);
        text.replace("{{http}}", &http).replace("{{syntax}}", syntax)
    }

    fn same(&self, project: &Project, text: &str) -> String {
        let text = text.replace(&self.folder.join(&project.name).display().to_string(), "FOLDER");
        // Docker shows where it has the files of a step.
        let text = match (text.find(&self.engine.data_root().display().to_string()), text.find("/merged/")) {
            (Some(start), Some(end)) => format!("{}{}", &text[..start], &text[end + "/merged".len()..]),
            _ => text,
        };
        output::normal(&text.replace(self.server.address(), "HOST:PORT"))
    }
}

fn image_name(project: &Project) -> String {
    format!("corpus/{}:1", project.name.to_lowercase())
}

/// What projects are built from: busybox, and images with settings.
fn base_images() -> Vec<Image> {
    use serde_json::json;
    let set = ImageBuilder::new("set:1").settings(json!({
        "Env": ["PATH=/bin", "FROM_BASE=yes"], "Cmd": ["base", "cmd"], "Entrypoint": ["base-entry"], "User": "1000:2000",
        "WorkingDir": "/work", "Labels": {"base": "label", "both": "base"}, "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/base-volume": {}}, "StopSignal": "SIGUSR1", "Shell": ["/bin/sh", "-xc"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_u64, "Retries": 7},
    }));
    let onbuild = ImageBuilder::new("onbuild:1").settings(json!({
        "OnBuild": ["ENV FROM_ONBUILD=yes", "COPY . /onbuild/", "RUN echo $FROM_ONBUILD > /onbuild-ran"],
    }));
    let tree = ImageBuilder::new("tree:1").layer(&[
        ("data/file", 0o644, b"file\n"),
        ("data/sub/one", 0o600, b"one\n"),
        ("data/sub/two", 0o4755, b"two\n"),
        ("data/.hidden", 0o644, b"hidden\n"),
        ("other/gone", 0o644, b"gone\n"),
    ]);
    vec![Image::busybox().clone(), set.build(), onbuild.build(), tree.build()]
}
