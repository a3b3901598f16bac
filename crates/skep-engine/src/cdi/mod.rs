//! Devices as their vendors describe them: the Container Device Interface. A specification is a file, JSON or YAML, that says what a
//! container needs for a device: nodes, mounts, variables, groups, hooks. Files of a later directory go before those of an earlier one.
//!
//! The files are read when somebody wants a device: they are few, and may change at any time.

mod edit;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_runtime::spec::Spec;

use crate::{Error, Result};
use file::Specification;

/// Where specifications are if nobody says otherwise (as dockerd has it).
pub(crate) const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The annotation by which devices of a kind are grouped (BuildKit's).
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// All devices of the machine.
pub(crate) struct Registry {
    /// By full name: `vendor/class=name`.
    devices: BTreeMap<String, Entry>,
    /// Files that can't be used, with the reasons.
    broken: Vec<String>,
}

struct Entry {
    specification: Arc<Specification>,
    /// Which of its devices.
    index: usize,
    /// The directory's place in the order.
    priority: usize,
    /// Another file of the same directory describes it, too.
    is_contested: bool,
}

impl Registry {
    /// Reads what is there. A directory that is missing is empty.
    pub(crate) fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Registry { devices: BTreeMap::new(), broken: Vec::new() };
        for (priority, directory) in directories.iter().enumerate() {
            for path in files(directory) {
                match Specification::read(&path) {
                    Ok(specification) => registry.add(specification, priority),
                    Err(why) => registry.broken.push(format!("{}: {why}", path.display())),
                }
            }
        }
        registry
    }

    fn add(&mut self, specification: Specification, priority: usize) {
        let specification = Arc::new(specification);
        for (index, device) in specification.devices.iter().enumerate() {
            let name = format!("{}={}", specification.kind, device.name);
            let is_contested = self.devices.get(&name).is_some_and(|other| other.priority == priority);
            let entry = Entry { specification: Arc::clone(&specification), index, priority, is_contested };
            self.devices.insert(name, entry);
        }
    }

    /// The full names of the devices that a text means: `vendor/class=name`, `vendor/class` for the first of a kind,
    /// `vendor/class=*` for all, and otherwise those of the kind that are annotated so. None if there is none.
    pub(crate) fn find(&self, wanted: &str) -> Result<Vec<String>> {
        let (kind, name) = wanted.split_once('=').unwrap_or((wanted, ""));
        if !file::is_kind(kind) {
            return Err(Error::Invalid(format!("invalid device {wanted:?}")));
        }
        let mut of_kind = self.devices.iter().filter(|(_, entry)| entry.specification.kind == kind);
        Ok(match name {
            "" => of_kind.next().map(|(name, _)| name.clone()).into_iter().collect(),
            "*" => of_kind.map(|(name, _)| name.clone()).collect(),
            _ if self.devices.contains_key(wanted) => vec![wanted.to_owned()],
            class => of_kind.filter(|(_, entry)| entry.class() == Some(class)).map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Why a device may not have been found: files that can't be read.
    pub(crate) fn excuse(&self) -> String {
        match self.broken.as_slice() {
            [] => String::new(),
            broken => format!(" (specifications that can't be used: {})", broken.join("; ")),
        }
    }

    /// Changes a container's specification so that it has the devices of these full names.
    pub(crate) fn inject(&self, names: &[String], spec: &mut Spec) -> Result<()> {
        let mut done: Vec<&Arc<Specification>> = Vec::new();
        for name in names {
            let unknown = || Error::Invalid(format!("CDI device injection failed: unresolvable CDI devices {name}"));
            let entry = self.devices.get(name).ok_or_else(unknown)?;
            if entry.is_contested {
                let text =
                    format!("CDI device injection failed: {name} is described by two files of the same directory");
                return Err(Error::Invalid(text));
            }
            if !done.iter().any(|other| Arc::ptr_eq(other, &entry.specification)) {
                edit::apply(&entry.specification.container_edits, spec)?;
                done.push(&entry.specification);
            }
            edit::apply(&entry.specification.devices[entry.index].container_edits, spec)?;
        }
        Ok(())
    }
}

impl Entry {
    fn class(&self) -> Option<&str> {
        let own = self.specification.devices[self.index].annotations.get(CLASS);
        own.or_else(|| self.specification.annotations.get(CLASS)).map(String::as_str)
    }
}

/// The specifications in a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_one = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("json" | "yaml" | "yml")) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.filter(is_one).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOO: &str = r#"
cdiVersion: "0.6.0"
kind: "vendor1.com/device"
annotations:
  org.mobyproject.buildkit.device.class: all
containerEdits:
  env: ["COMMON=yes"]
devices:
- name: foo
  containerEdits:
    env:
    - FOO=injected
    deviceNodes:
    - path: /dev/cdi-null
      hostPath: /dev/null
      permissions: rw
    mounts:
    - hostPath: /etc/hostname
      containerPath: /etc/of-the-host
      options: [ro, bind]
    hooks:
    - hookName: createContainer
      path: /bin/true
- name: bar
  annotations:
    org.mobyproject.buildkit.device.class: special
  containerEdits:
    env: ["BAR=1"]
    additionalGids: [44, 0, 44]
"#;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("write");
        }
        let registry = Registry::read(&[dir.path().join("etc"), dir.path().join("run"), dir.path().join("missing")]);
        (dir, registry)
    }

    #[test]
    fn devices_are_found_by_name_kind_and_class() {
        let (_dir, registry) = registry(&[("etc/foo.yaml", FOO), ("etc/other.txt", "no")]);
        for (wanted, found) in [
            ("vendor1.com/device=foo", &["vendor1.com/device=foo"][..]),
            ("vendor1.com/device", &["vendor1.com/device=bar"]),
            ("vendor1.com/device=*", &["vendor1.com/device=bar", "vendor1.com/device=foo"]),
            ("vendor1.com/device=special", &["vendor1.com/device=bar"]),
            ("vendor1.com/device=all", &["vendor1.com/device=foo"]),
            ("vendor1.com/device=none", &[]),
            ("vendor2.com/device", &[]),
        ] {
            assert_eq!(registry.find(wanted).expect(wanted), found, "{wanted}");
        }
        for bad in ["", "device", "/x", "vendor/", "1/x=a"] {
            assert_eq!(registry.find(bad).expect_err(bad).to_string(), format!("invalid device {bad:?}"));
        }
        assert_eq!(registry.excuse(), "");
    }

    #[test]
    fn a_container_gets_what_is_described() {
        let (_dir, registry) = registry(&[("etc/foo.yaml", FOO)]);
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        spec.process.as_mut().expect("a process").env = vec!["FOO=before".to_owned(), "PATH=/bin".to_owned()];
        let all = registry.find("vendor1.com/device=*").expect("devices");
        registry.inject(&all, &mut spec).expect("inject");
        let process = spec.process.expect("a process");
        assert_eq!(process.env, ["PATH=/bin", "COMMON=yes", "BAR=1", "FOO=injected"]);
        assert_eq!(process.user.additional_gids, [44]);
        let linux = spec.linux.expect("linux");
        let node = &linux.devices[0];
        assert_eq!(
            (node.path.to_str(), node.kind.as_str(), node.major, node.minor),
            (Some("/dev/cdi-null"), "c", 1, 3)
        );
        let rule = &linux.resources.expect("resources").devices[0];
        assert_eq!((rule.allow, rule.major, rule.access.as_deref()), (true, Some(1), Some("rw")));
        assert_eq!(spec.mounts[0].destination, Path::new("/etc/of-the-host"));
        assert_eq!(spec.hooks.expect("hooks").create_container[0].args, ["/bin/true"]);
    }

    #[test]
    fn later_directories_win_and_two_files_of_one_do_not() {
        let other = FOO.replace("FOO=injected", "FOO=later");
        let (_dir, found) = registry(&[("etc/foo.yaml", FOO), ("run/foo.yaml", &other)]);
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        found.inject(&["vendor1.com/device=foo".to_owned()], &mut spec).expect("inject");
        assert!(spec.process.expect("a process").env.contains(&"FOO=later".to_owned()));
        let (_dir, contested) = registry(&[("etc/foo.yaml", FOO), ("etc/too.yaml", &other)]);
        let text = contested.inject(&["vendor1.com/device=foo".to_owned()], &mut Spec::default()).expect_err("two");
        assert!(text.to_string().contains("described by two files"), "{text}");
    }

    #[test]
    fn what_is_broken_is_told() {
        for (text, why) in [
            ("kind: a", "missing field"),
            ("{\"cdiVersion\": \"9.0.0\", \"kind\": \"a.b/c\", \"devices\": []}", "9.0.0"),
            ("{\"cdiVersion\": \"0.6.0\", \"kind\": \"abc\", \"devices\": []}", "no kind of device"),
            (
                "{\"cdiVersion\": \"0.6.0\", \"kind\": \"a/b\", \"devices\": [{\"name\": \"-\", \"containerEdits\": {}}]}",
                "no name",
            ),
            ("{\"cdiVersion\": \"0.6.0\", \"kind\": \"a/b\", \"devices\": [], \"colour\": 1}", "colour"),
            (
                "{\"cdiVersion\": \"0.6.0\", \"kind\": \"a/b\", \"devices\": [], \"containerEdits\": {\"intelRdt\": {}}}",
                "not supported by skep",
            ),
        ] {
            let (_dir, found) = registry(&[("etc/a.yaml", text)]);
            assert!(found.excuse().contains(why), "{text}: {}", found.excuse());
        }
    }
}
