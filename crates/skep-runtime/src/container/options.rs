//! The options of a mount, sorted by who understands them: the mount, its propagation, this runtime, or the file system.

use skep_sys::mount::{Change, Depth, Propagation, attribute};

/// Attribute bits that are set and cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bits {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Bits {
    fn add(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
        // The three ways to keep access times are one field: the kernel wants it cleared as a whole before it is set.
        if (set | clear) & attribute::ATIME_MASK != 0 {
            self.clear |= attribute::ATIME_MASK;
        }
    }

    /// The change of a mount that these bits stand for.
    pub(super) fn change(self) -> Option<Change<'static>> {
        (self != Bits::default()).then(|| Change { set: self.set, clear: self.clear, ..Change::default() })
    }
}

/// All options of one mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// For this mount.
    pub(super) bits: Bits,
    /// For this mount and all below.
    pub(super) tree_bits: Bits,
    /// In the order given.
    pub(super) propagation: Vec<(Propagation, Depth)>,
    /// A bind mount, with what is mounted below the source or without.
    pub(super) bind: Option<Depth>,
    /// A mount whose owners are mapped: this one, or all below as well.
    pub(super) idmap: Option<Depth>,
    /// What was at the mount point is copied into the new tmpfs.
    pub(super) copy_up: bool,
    /// For the file system: names with and without a value.
    pub(super) data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts the options of a mount.
    pub(super) fn parse(options: &[String]) -> Self {
        let mut sorted = Options::default();
        for option in options.iter().map(String::as_str) {
            if let Some((set, clear)) = bits_of(option) {
                sorted.bits.add(set, clear);
            } else if let Some((set, clear)) = option.strip_prefix('r').and_then(bits_of) {
                sorted.tree_bits.add(set, clear);
            } else if let Some(propagation) = propagation_of(option) {
                sorted.propagation.push(propagation);
            } else {
                sorted.other(option);
            }
        }
        sorted
    }

    fn other(&mut self, option: &str) {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(Depth::One)),
            "rbind" => self.bind = Some(Depth::Tree),
            "tmpcopyup" => self.copy_up = true,
            "notmpcopyup" => self.copy_up = false,
            // What mount(8) and other runtimes understand without an effect on a new mount.
            "" | "defaults" | "remount" | "silent" | "loud" | "async" | "nomand" | "nolazytime" | "iversion"
            | "noiversion" | "acl" | "noacl" => {}
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(Depth::One)),
            "ridmap" => self.idmap = Some(Depth::Tree),
            _ => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }
}

/// The attribute bits that an option sets and clears.
fn bits_of(option: &str) -> Option<(u64, u64)> {
    use attribute::{
        ATIME_MASK, NO_ATIME, NO_DEV, NO_DIR_ATIME, NO_EXEC, NO_SUID, NO_SYMLINKS, READ_ONLY, STRICT_ATIME,
    };
    Some(match option {
        "ro" => (READ_ONLY, 0),
        "rw" => (0, READ_ONLY),
        "nosuid" => (NO_SUID, 0),
        "suid" => (0, NO_SUID),
        "nodev" => (NO_DEV, 0),
        "dev" => (0, NO_DEV),
        "noexec" => (NO_EXEC, 0),
        "exec" => (0, NO_EXEC),
        "nodiratime" => (NO_DIR_ATIME, 0),
        "diratime" => (0, NO_DIR_ATIME),
        "nosymfollow" => (NO_SYMLINKS, 0),
        "symfollow" => (0, NO_SYMLINKS),
        "noatime" => (NO_ATIME, ATIME_MASK & !NO_ATIME),
        "strictatime" => (STRICT_ATIME, ATIME_MASK & !STRICT_ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME_MASK),
        _ => return None,
    })
}

/// The propagation that an option names.
pub(super) fn propagation_of(option: &str) -> Option<(Propagation, Depth)> {
    let kind = |option| {
        Some(match option {
            "private" => Propagation::Private,
            "shared" => Propagation::Shared,
            "slave" => Propagation::Slave,
            "unbindable" => Propagation::Unbindable,
            _ => return None,
        })
    };
    kind(option)
        .map(|kind| (kind, Depth::One))
        .or_else(|| option.strip_prefix('r').and_then(kind).map(|kind| (kind, Depth::Tree)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        let options: Vec<String> = text.split(',').map(str::to_owned).collect();
        Options::parse(&options)
    }

    #[test]
    fn sorts_by_who_understands() {
        let options = parse("nosuid,strictatime,mode=755,size=65536k,rprivate,newinstance,ro,rw");
        assert_eq!(options.bits.set, attribute::NO_SUID | attribute::STRICT_ATIME);
        assert_eq!(options.bits.clear, attribute::READ_ONLY | attribute::ATIME_MASK);
        assert_eq!(options.propagation, [(Propagation::Private, Depth::Tree)]);
        assert_eq!(options.data.len(), 3);
        assert_eq!(options.data[2], ("newinstance".to_owned(), None));
    }

    #[test]
    fn recursive_attributes_are_not_propagation() {
        let options = parse("rbind,rro,rslave,bind");
        assert_eq!((options.bind, options.tree_bits.set), (Some(Depth::Tree), attribute::READ_ONLY));
        assert_eq!(options.propagation, [(Propagation::Slave, Depth::Tree)]);
        assert_eq!((options.bits, options.data.len()), (Bits::default(), 0));
    }

    #[test]
    fn maps_of_ids_are_no_attributes() {
        assert_eq!(parse("idmap").idmap, Some(Depth::One));
        assert_eq!(parse("ridmap,idmap,ro").idmap, Some(Depth::Tree));
        assert_eq!(parse("ridmap").bits, Bits::default());
    }

    #[test]
    fn the_last_access_time_option_wins() {
        assert_eq!(parse("noatime,strictatime").bits.set, attribute::STRICT_ATIME);
        assert_eq!(parse("strictatime,relatime").bits.set, 0);
    }
}
