//! Which kernel module needs which, read from the modules themselves, and the index files that modprobe reads (as depmod(8)
//! writes them; kmod need not be installed).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The modules of a kernel, by name (with underscores).
pub(super) struct Modules(BTreeMap<String, Module>);

struct Module {
    /// Below the modules directory.
    file: PathBuf,
    depends: Vec<String>,
}

impl Modules {
    /// Reads `modules.dep`.
    pub(super) fn load(dir: &Path) -> Result<Modules> {
        let index = dir.join("modules.dep");
        let text = std::fs::read_to_string(&index).with_context(|| format!("read {}", index.display()))?;
        let mut modules = BTreeMap::new();
        for line in text.lines() {
            let Some((file, depends)) = line.split_once(':') else { continue };
            let depends = depends.split_whitespace().map(|file| name_of(Path::new(file))).collect();
            modules.insert(name_of(Path::new(file)), Module { file: file.into(), depends });
        }
        Ok(Modules(modules))
    }

    /// The files of the modules `wanted` with all that they need, in the order of loading. Names of no module are left out: what
    /// is a module in one kernel is built into another.
    pub(super) fn closure(&self, wanted: &[&str]) -> Vec<&Path> {
        let mut files: Vec<&Path> = Vec::new();
        for module in wanted.iter().filter_map(|name| self.0.get(*name)) {
            // modules.dep has what is needed first at the end.
            let needed = module.depends.iter().rev().filter_map(|name| self.0.get(name));
            for module in needed.chain([module]) {
                if !files.contains(&module.file.as_path()) {
                    files.push(&module.file);
                }
            }
        }
        files
    }

    /// Writes the index files of a modules directory.
    pub(super) fn index(dir: &Path) -> Result<()> {
        let mut infos: BTreeMap<String, (PathBuf, Info)> = BTreeMap::new();
        let mut pending = vec![dir.join("kernel")];
        while let Some(folder) = pending.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    pending.push(path);
                } else if path.extension().is_some_and(|extension| extension == "ko") {
                    let info = Info::of(&std::fs::read(&path)?);
                    infos.insert(name_of(&path), (path.strip_prefix(dir)?.to_owned(), info));
                }
            }
        }
        let (mut dep, mut alias, mut softdep) = (String::new(), String::new(), String::new());
        for (name, (file, info)) in &infos {
            let mut needed = Vec::new();
            collect(&infos, name, &mut needed);
            needed.pop(); // the module itself
            let needed: Vec<String> = needed.iter().rev().map(|name| infos[name].0.display().to_string()).collect();
            writeln!(dep, "{}: {}", file.display(), needed.join(" "))?;
            info.aliases.iter().try_for_each(|text| writeln!(alias, "alias {text} {name}"))?;
            info.soft.iter().try_for_each(|text| writeln!(softdep, "softdep {name} {text}"))?;
        }
        for (file, text) in [("modules.dep", dep), ("modules.alias", alias), ("modules.softdep", softdep)] {
            std::fs::write(dir.join(file), text)?;
        }
        Ok(std::fs::write(dir.join("modules.symbols"), "")?)
    }
}

/// Appends what `name` needs, in the order of loading, and then `name`.
fn collect(infos: &BTreeMap<String, (PathBuf, Info)>, name: &str, found: &mut Vec<String>) {
    let Some((_, info)) = infos.get(name) else { return };
    for needed in &info.depends {
        if !found.contains(needed) {
            collect(infos, needed, found);
        }
    }
    found.push(name.to_owned());
}

/// The strings of a module's `.modinfo` section that matter here.
struct Info {
    depends: Vec<String>,
    aliases: Vec<String>,
    soft: Vec<String>,
}

impl Info {
    fn of(module: &[u8]) -> Info {
        let mut info = Info { depends: Vec::new(), aliases: Vec::new(), soft: Vec::new() };
        for text in module.split(|byte| *byte == 0).filter_map(|bytes| std::str::from_utf8(bytes).ok()) {
            match text.split_once('=') {
                Some(("depends", list)) => {
                    info.depends = list.split(',').filter(|name| !name.is_empty()).map(underscores).collect()
                }
                Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
                Some(("softdep", soft)) => info.soft.push(soft.to_owned()),
                _ => {}
            }
        }
        info
    }
}

fn name_of(file: &Path) -> String {
    underscores(&file.file_stem().unwrap_or_default().to_string_lossy())
}

fn underscores(name: &str) -> String {
    name.replace('-', "_")
}
