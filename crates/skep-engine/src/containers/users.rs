//! Users and groups, looked up in the container's own files.
//!
//! The rules are those of `docker run --user`: a number is always a number, never a name; a number that is in no file is
//! fine, a name that is in no file is an error. The files belong to the image, so they are read with a bound.

use std::io::Read;

/// The most that is read of a passwd or group file, in bytes.
const MOST: u64 = 4 << 20;

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, the first one the primary group.
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` when no file says.
    pub(crate) home: String,
}

/// Why a user can't be found. The texts are Docker's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

/// Texts of the two files; empty where the image has none.
#[derive(Debug, Default)]
pub(crate) struct UserFiles {
    passwd: String,
    group: String,
}

impl UserFiles {
    /// Reads both files through `open`, which looks a path up inside the container.
    pub(crate) fn read<R: Read>(open: impl Fn(&str) -> Option<R>) -> Self {
        let text = |path| {
            let mut bytes = Vec::new();
            if let Some(file) = open(path) {
                // What can't be read counts as missing, as if the image had no such file.
                let _ = file.take(MOST).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        UserFiles { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    /// Looks up `user[:group]`; empty means root. `extra` are groups by name or number.
    pub(crate) fn identity(&self, spec: &str, extra: &[String]) -> Result<Identity, UserError> {
        let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
        let user = if user.is_empty() { "0" } else { user };
        let number = id(user)?;
        let entry = entries(&self.passwd, 7).find(|entry| match number {
            Some(uid) => entry[2].parse() == Ok(uid),
            None => entry[0] == user,
        });
        let (uid, mut gid, name, home) = match (&entry, number) {
            (Some(entry), _) => {
                let uid = id(entry[2])?.ok_or_else(|| UserError::User(user.to_owned()))?;
                let gid = id(entry[3])?.unwrap_or(0);
                (uid, gid, entry[0], entry[5])
            }
            (None, Some(uid)) => (uid, 0, "", ""),
            (None, None) => return Err(UserError::User(user.to_owned())),
        };
        let mut groups = Vec::new();
        if group.is_empty() {
            let member = |members: &str| !name.is_empty() && members.split(',').any(|member| member == name);
            groups.extend(
                entries(&self.group, 4)
                    .filter(|entry| member(entry[3]))
                    .filter_map(|entry| entry[2].parse::<u32>().ok()),
            );
        } else {
            gid = self.group(group)?;
        }
        for name in extra {
            groups.push(self.group(name)?);
        }
        let mut unique = vec![gid];
        for group in groups {
            if !unique.contains(&group) {
                unique.push(group);
            }
        }
        let home = if home.is_empty() { "/" } else { home }.to_owned();
        Ok(Identity { uid, gid, groups: unique, home })
    }

    fn group(&self, name: &str) -> Result<u32, UserError> {
        if let Some(gid) = id(name)? {
            return Ok(gid);
        }
        let entry = entries(&self.group, 4).find(|entry| entry[0] == name);
        entry.and_then(|entry| entry[2].parse().ok()).ok_or_else(|| UserError::Group(name.to_owned()))
    }
}

/// A text of digits alone as an id; anything else is a name.
fn id(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if i32::try_from(number).is_ok() => Ok(Some(number)),
        _ => Err(UserError::Range),
    }
}

fn entries(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let mut parts: Vec<&str> = line.trim().split(':').collect();
        // A short line is filled up: old files leave the last fields out.
        (parts.len() >= 3).then(|| {
            parts.resize(fields.max(parts.len()), "");
            parts
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> UserFiles {
        UserFiles {
            passwd:
                "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/false\n1000:x:0:0:trap:/root:/bin/sh\n"
                    .to_owned(),
            group: "root:x:0:\nweb:x:33:\nlog:x:44:web,root\naudio:x:29:web\n".to_owned(),
        }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let identity = |spec: &str| files().identity(spec, &[]).map(|i| (i.uid, i.gid, i.groups, i.home));
        assert_eq!(identity(""), Ok((0, 0, vec![0, 44], "/root".to_owned())));
        assert_eq!(identity("web"), Ok((33, 33, vec![33, 44, 29], "/var/www".to_owned())));
        assert_eq!(identity("33"), Ok((33, 33, vec![33, 44, 29], "/var/www".to_owned())));
        assert_eq!(identity("web:log"), Ok((33, 44, vec![44], "/var/www".to_owned())));
        assert_eq!(identity("77:88"), Ok((77, 88, vec![88], "/".to_owned())));
        assert_eq!(files().identity("77", &["audio".to_owned()]).expect("good").groups, [0, 29]);
    }

    #[test]
    fn a_number_is_never_a_name() {
        let identity = files().identity("1000", &[]).expect("good");
        assert_eq!((identity.uid, identity.gid), (1000, 0));
    }

    #[test]
    fn ids_do_not_wrap() {
        for bad in ["2147483648", "4294967296", "-1", "99999999999999999999", "0:4294967295"] {
            assert_eq!(files().identity(bad, &[]), Err(UserError::Range), "{bad}");
        }
    }

    #[test]
    fn unknown_names_get_dockers_words() {
        assert_eq!(
            files().identity("nobody", &[]).expect_err("unknown").to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            files().identity("web:x", &[]).expect_err("unknown").to_string(),
            "unable to find group x: no matching entries in group file"
        );
    }
}
