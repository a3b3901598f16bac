//! What an engine has on the machine at a moment, as lines of text, so that two moments can be compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Command, Slot};

/// By what the things of one engine are recognised.
#[derive(Debug, Clone)]
pub(crate) struct Belongings {
    pub(crate) dir: PathBuf,
    pub(crate) bridge: String,
    /// The slot's number, by which the addresses of further bridges are told.
    pub(crate) number: u8,
    pub(crate) cgroup_parent: String,
    /// Whether it is to leave nothing at all: dockerd does not promise that for files, and for two mounts.
    pub(crate) strict: bool,
}

/// Processes, mounts, cgroups, links, firewall rules, and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// All that belongs to the engine; its daemon is left out.
    pub(crate) fn take(belongings: &Belongings, daemon: Option<i32>) -> Snapshot {
        let mut lines = BTreeSet::new();
        let processes = belongings.processes().into_iter().filter(|(pid, _)| Some(*pid) != daemon);
        lines.extend(processes.map(|(_, text)| format!("process: {text}")));
        lines.extend(belongings.mounts().into_iter().map(|mount| format!("mount: {mount}")));
        // dockerd's builder keeps the cgroup that it has once made.
        let cgroups = belongings.cgroups().into_iter().filter(|path| belongings.strict || !path.ends_with("buildkit"));
        lines.extend(cgroups.map(|cgroup| format!("cgroup: {}", cgroup.display())));
        lines.extend(belongings.links().into_iter().map(|link| format!("link: {link}")));
        lines.extend(belongings.rules().into_iter().map(|rule| format!("firewall: {rule}")));
        for root in ["data", "exec"].into_iter().filter(|_| belongings.strict) {
            files(&belongings.dir.join(root), Path::new(root), &mut lines);
        }
        Snapshot(lines)
    }

    /// What is here and was not there before.
    pub(crate) fn beyond(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

impl Belongings {
    /// Processes and mounts that are left when the daemon is gone.
    pub(crate) fn processes_and_mounts(&self) -> Vec<String> {
        let processes = self.processes().into_iter().map(|(_, text)| format!("process: {text}"));
        processes.chain(self.mounts().into_iter().map(|mount| format!("mount: {mount}"))).collect()
    }

    /// Processes whose command line names the engine's directory, and those in its cgroups.
    fn processes(&self) -> Vec<(i32, String)> {
        let dir = self.dir.as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let parent = format!(":{}/", self.cgroup_parent);
            let zombie = command.is_empty() && !cgroup.contains(&parent);
            let names_dir = command.windows(dir.len()).any(|window| window == dir);
            if !zombie && (names_dir || cgroup.contains(&parent)) && pid != own_pid() {
                let text = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push((pid, text.trim().to_owned()));
            }
        }
        found
    }

    fn mounts(&self) -> Vec<String> {
        let dir = self.dir.to_string_lossy().into_owned();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = text.lines().filter_map(|line| line.split(' ').nth(4)).filter(|place| place.starts_with(&dir));
        // dockerd keeps its data root mounted on itself if it was killed, and the host's network namespace if it was used.
        let dockers_own = [format!("{dir}/data"), format!("{dir}/exec/netns/default")];
        places.filter(|place| self.strict || !dockers_own.iter().any(|own| own == place)).map(str::to_owned).collect()
    }

    /// The cgroups below the engine's own parent, lowest first, in every hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for parent in self.cgroup_parents() {
            directories(&parent, &mut found);
        }
        found
    }

    fn cgroup_parents(&self) -> Vec<PathBuf> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let parent = self.cgroup_parent.trim_start_matches('/');
        text.lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4))
            .map(|mount| Path::new(mount).join(parent))
            .filter(|parent| parent.is_dir())
            .collect()
    }

    /// The bridges and what is plugged into them.
    fn links(&self) -> Vec<String> {
        let mut bridges = self.addressed_links();
        bridges.insert(self.bridge.clone());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let bridge = std::fs::read_link(entry.path().join("master")).ok();
            let bridge = bridge.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            if bridges.contains(&name) || bridge.is_some_and(|bridge| bridges.contains(&bridge)) {
                found.push(name);
            }
        }
        found
    }

    /// Links with addresses of the slot: bridges of networks that the test made.
    fn addressed_links(&self) -> BTreeSet<String> {
        let text = Command::new("ip", ["-o", "-4", "addr", "show"]).run().stdout;
        let own = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = words.get(3)?.split('/').next()?.parse().ok()?;
            Slot::owns(self.number, address).then(|| words[1].to_owned())
        };
        text.lines().filter_map(own).collect()
    }

    /// All of the table that is the engine's own, and the lines of others that name its bridge.
    fn rules(&self) -> Vec<String> {
        let ruleset = Command::new("nft", ["list", "ruleset"]).run().stdout;
        let mut found = Vec::new();
        for (table, lines) in tables(&ruleset) {
            let own = self.is_own_table(table, &lines);
            let lines = lines.iter().filter(|line| own || self.is_named_in(line));
            found.extend(lines.map(|line| format!("{table}: {}", without_counters(line.trim()))));
        }
        found
    }

    /// Engines name their tables as they like, but know their bridge in it.
    fn is_own_table(&self, table: &str, lines: &[&str]) -> bool {
        let name = table.split(' ').nth(1).unwrap_or_default();
        name.starts_with("skep") && lines.iter().any(|line| self.is_named_in(line))
    }

    fn is_named_in(&self, line: &str) -> bool {
        line.contains(&format!("\"{}\"", self.bridge))
    }

    /// Removes by force what can be recognised, after a failed test or one that was killed.
    pub(crate) fn clean_up(&self) {
        for _ in 0..50 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for pid in processes.iter().filter_map(|(pid, _)| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let all = Belongings { strict: true, ..self.clone() };
        for mount in all.mounts().iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        for cgroup in self.cgroups().into_iter().chain(self.cgroup_parents()) {
            let _ = std::fs::remove_dir(cgroup);
        }
        for link in self.links() {
            let _ = Command::new("ip", ["link", "delete", &link]).run();
        }
        let ruleset = Command::new("nft", ["list", "ruleset"]).run().stdout;
        for (table, lines) in tables(&ruleset) {
            if self.is_own_table(table, &lines) {
                let _ = Command::new("nft", ["delete", "table"].into_iter().chain(table.split(' '))).run();
            }
        }
    }
}

/// Family and name of each table in a ruleset, with its lines.
fn tables(ruleset: &str) -> Vec<(&str, Vec<&str>)> {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in ruleset.lines() {
        if let Some(name) = line.strip_prefix("table ") {
            tables.push((name.trim_end_matches([' ', '{']), Vec::new()));
        } else if let Some((_, lines)) = tables.last_mut() {
            lines.push(line);
        }
    }
    tables
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Counters count; that is no change.
fn without_counters(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = line.split(' ').peekable();
    while let Some(word) = rest.next() {
        words.push(word);
        if matches!(word, "packets" | "bytes") {
            rest.next();
        }
    }
    words.join(" ")
}

/// Directories below one, lowest first.
fn directories(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// The paths below a root. Directories at the top are made when they are first needed, and stay.
fn files(dir: &Path, shown: &Path, lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let shown = shown.join(entry.file_name());
        if shown == Path::new("data/build/history") {
            continue; // what was built is remembered until it is old
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // Directories with a fixed name are made once, when they are needed first.
        let fixed = shown.components().count() <= 2
            || shown.ends_with("sha256")
            || shown.parent() == Some(Path::new("data/build"));
        let stays = is_dir && fixed;
        if !stays {
            lines.insert(format!("file: {}", shown.display()));
        }
        if is_dir {
            files(&entry.path(), &shown, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_things_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let belongings = Belongings {
            dir: dir.path().to_owned(),
            bridge: "skeptestnone".to_owned(),
            number: 255,
            cgroup_parent: "/skep-test-none".to_owned(),
            strict: true,
        };
        std::fs::create_dir_all(dir.path().join("data/containers/abc")).unwrap();
        let before = Snapshot::take(&belongings, None);
        assert_eq!(before.0.iter().collect::<Vec<_>>(), ["file: data/containers/abc"]);
        std::fs::write(dir.path().join("data/containers/abc/log"), "").unwrap();
        let mut child = std::process::Command::new("tail")
            .args(["-f"])
            .arg(dir.path().join("data/containers/abc/log"))
            .spawn()
            .unwrap();
        crate::until("the process shows", || belongings.processes().len() == 1);
        let left = Snapshot::take(&belongings, None).beyond(&before);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            left[0].starts_with("file: data/containers/abc/log") && left[1].starts_with("process: tail -f"),
            "{left:?}"
        );
        belongings.clean_up();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn counters_do_not_matter() {
        assert_eq!(without_counters("oif x counter packets 3 bytes 180 accept"), "oif x counter packets bytes accept");
    }

    #[test]
    fn own_tables() {
        let belongings = Belongings {
            dir: "/x".into(),
            bridge: "skeptest1".to_owned(),
            number: 255,
            cgroup_parent: "/y".to_owned(),
            strict: true,
        };
        let ruleset = "table inet skep-ab {\n\tset bridges {\n\t\telements = { \"skeptest1\" }\n\t}\n}\ntable inet skep-cd {\n\
                       \t\telements = { \"skeptest12\" }\n}\ntable ip nat {\n\tiifname \"skeptest1\" drop\n}\n";
        let tables = tables(ruleset);
        let own: Vec<bool> = tables.iter().map(|(table, lines)| belongings.is_own_table(table, lines)).collect();
        assert_eq!((tables[0].0, own), ("inet skep-ab", vec![true, false, false]));
    }
}
