//! `--chown`: whom copied files belong to. Names are looked up in the base.

use std::path::Path;

use skep_build::graph::Owner;
use skep_fs::Root;

/// The most that is read of a passwd or group file, in bytes.
const MOST: u64 = 4 << 20;

/// Whom files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owned {
    /// User and group.
    By(u32, u32),
    /// The same as before.
    AsBefore,
}

impl Owned {
    /// User and group of something new.
    pub(super) fn or_root(self) -> (u32, u32) {
        match self {
            Owned::By(uid, gid) => (uid, gid),
            Owned::AsBefore => (0, 0),
        }
    }
}

/// Looks an owner up. A user without a group gets the user's own, or for a number the same number. A name that nobody has is root,
/// as for BuildKit.
pub(super) fn resolve(owner: &Owner, base: &Root) -> Owned {
    let text = match owner {
        Owner::Root => return Owned::By(0, 0),
        Owner::Keep => return Owned::AsBefore,
        Owner::Named(text) => text,
    };
    let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
    let (uid, own_group) = match user {
        "" => (0, 0),
        user => match user.parse::<u32>() {
            Ok(uid) => (uid, uid),
            Err(_) => look_up(base, "/etc/passwd", user).unwrap_or_default(),
        },
    };
    let gid = match group {
        None | Some("") => own_group,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => look_up(base, "/etc/group", group).unwrap_or_default().0,
        },
    };
    Owned::By(uid, gid)
}

/// The third and the fourth field of the entry of that name.
fn look_up(base: &Root, file: &str, name: &str) -> Option<(u32, u32)> {
    let text = base.read_file(Path::new(file), MOST).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let entries = text.lines().map(|line| line.trim().split(':').collect::<Vec<_>>());
    entries.filter(|fields| fields[0] == name).find_map(|fields| {
        let id = fields.get(2)?.parse().ok()?;
        Some((id, fields.get(3).and_then(|field| field.parse().ok()).unwrap_or(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("etc")).expect("a directory");
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n")
            .expect("a file");
        std::fs::write(dir.path().join("etc/group"), "log:x:44:\n").expect("a file");
        let root = Root::open(dir.path()).expect("a root");
        let find = |text: &str| resolve(&Owner::Named(text.to_owned()), &root);
        assert_eq!(find("web"), Owned::By(33, 34));
        assert_eq!(find("web:log"), Owned::By(33, 44));
        assert_eq!(find("1000"), Owned::By(1000, 1000));
        assert_eq!(find("1000:5"), Owned::By(1000, 5));
        assert_eq!(find(":log"), Owned::By(0, 44));
        assert_eq!(find("nobody"), Owned::By(0, 0));
        assert_eq!(find("web:nobody"), Owned::By(33, 0));
    }
}
