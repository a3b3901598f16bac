//! Cgroups of the running kernel, whichever versions it has. Needs root. `cargo xtask vm` runs the same on pure cgroup v2.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may fail by panicking, and say what they skip")]

mod helper;
mod in_force;
mod life;
mod readback;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skep_runtime::cgroup::{Cgroup, CgroupPath, Controllers, Error, Kind, Layout};
use skep_runtime::spec::Resources;

/// A cgroup with a name of its own that goes away with what is in it.
struct Scratch {
    cgroup: Option<Cgroup>,
    path: CgroupPath,
    parent: CgroupPath,
    text: String,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        let parent = format!("/skep-test-{}-{name}", std::process::id());
        let text = format!("{parent}/c");
        let path = CgroupPath::new(Some(&text), "").unwrap();
        let parent = CgroupPath::new(Some(&parent), "").unwrap();
        Scratch { cgroup: Some(Cgroup::create(&path).unwrap()), path, parent, text }
    }

    fn with(name: &str, resources: &Resources) -> Scratch {
        let scratch = Scratch::new(name);
        let warnings = scratch.apply(resources).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        scratch
    }

    /// The directory that has `controller`.
    fn dir(&self, controller: Controllers) -> PathBuf {
        let v1 = self.paths().find(|(have, _)| have.contains(controller)).map(|(_, path)| path.to_owned());
        v1.unwrap_or_else(|| self.paths().last().unwrap().1.to_owned())
    }

    fn read(&self, controller: Controllers, file: &str) -> String {
        let file = self.dir(controller).join(file);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
    }

    /// Starts a part of [`helper`] in the cgroup.
    fn helper(&self, role: &str) -> Child {
        let mut command = helper::command(role);
        command.env(helper::CGROUP, &self.text).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl std::ops::Deref for Scratch {
    type Target = Cgroup;
    fn deref(&self) -> &Cgroup {
        self.cgroup.as_ref().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for cgroup in self.cgroup.take().into_iter().chain(Cgroup::open(&self.parent)) {
            if cgroup.kill_all().and_then(|()| cgroup.remove()).is_err() && !std::thread::panicking() {
                panic!("the cgroup {} could not be removed", self.text);
            }
        }
    }
}

/// A process that does nothing for a while, and ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kind() -> Kind {
    Layout::of_this_machine().unwrap().kind()
}

/// Whether the machine has a controller; says so if a test is left out for that.
fn has(controller: Controllers, test: &str) -> bool {
    let has = Layout::of_this_machine().unwrap().controllers().contains(controller);
    if !has {
        eprintln!("SKIPPED {test}: no {controller} controller");
    }
    has
}
