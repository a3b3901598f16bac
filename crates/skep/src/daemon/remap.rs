//! `userns-remap`: which ids of the host containers run under. As with dockerd, a user is named and the ranges that /etc/subuid and
//! /etc/subgid give that user are taken (subuid(5)); other than dockerd, no user is made, and `default` needs none but the ranges.

use std::path::Path;

use skep_engine::{IdMapping, IdMaps};

use crate::cli::Failure;

/// For whom `default` stands.
const DEFAULT_USER: &str = "dockremap";

/// The files of a machine that say who is who.
#[derive(Debug, Default)]
struct Files {
    passwd: String,
    group: String,
    subuid: String,
    subgid: String,
}

/// Reads the option: `default`, `USER[:GROUP]`, `UID[:GID]`; empty is off.
pub(super) fn maps(option: &str) -> Result<Option<IdMaps>, Failure> {
    if option.is_empty() {
        return Ok(None);
    }
    let read = |path: &str| match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::message(crate::cli::failure::go_path_error("open", Path::new(path), &error))),
    };
    let files = Files {
        passwd: read("/etc/passwd")?,
        group: read("/etc/group")?,
        subuid: read("/etc/subuid")?,
        subgid: read("/etc/subgid")?,
    };
    files.maps(option).map(Some).map_err(Failure::message)
}

impl Files {
    fn maps(&self, option: &str) -> Result<IdMaps, String> {
        let (name, group) = match option.split(':').collect::<Vec<_>>().as_slice() {
            [name] => (*name, None),
            [name, group] => (*name, Some(*group)),
            _ => return Err(format!("invalid user/group specification in userns-remap: \"{option}\"")),
        };
        let (name, uid) = self.user(name)?;
        if uid.as_deref() == Some("0") {
            return Err("userns-remap: root cannot be remapped with itself".to_owned());
        }
        if let Some(group) = group {
            self.check_group(group)?;
        }
        let ranges = |text, what, file| ranges(text, &name, uid.as_deref()).ok_or_else(|| missing(&name, what, file));
        Ok(IdMaps {
            uids: ranges(&self.subuid, "user", "/etc/subuid")?,
            gids: ranges(&self.subgid, "group", "/etc/subgid")?,
        })
    }

    /// Name and id of a user given by either.
    fn user(&self, wanted: &str) -> Result<(String, Option<String>), String> {
        if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
            let found = entry(&self.passwd, 2, wanted);
            return match found {
                Some(name) => Ok((name.0.to_owned(), Some(wanted.to_owned()))),
                None => Err(format!("userns-remap: uid {wanted} has no entry in /etc/passwd")),
            };
        }
        let name = if wanted == "default" { DEFAULT_USER } else { wanted };
        match entry(&self.passwd, 0, name) {
            Some((name, uid)) => Ok((name.to_owned(), Some(uid.to_owned()))),
            None if wanted == "default" => Ok((name.to_owned(), None)),
            None => Err(format!("userns-remap: user \"{wanted}\" has no entry in /etc/passwd")),
        }
    }

    fn check_group(&self, wanted: &str) -> Result<(), String> {
        let wanted = if wanted == "default" { DEFAULT_USER } else { wanted };
        let field = if wanted.bytes().all(|byte| byte.is_ascii_digit()) { 2 } else { 0 };
        let found = entry(&self.group, field, wanted);
        found.map(drop).ok_or_else(|| format!("userns-remap: group \"{wanted}\" has no entry in /etc/group"))
    }
}

/// Name and id of the line of passwd(5) or group(5) with a field of that value.
fn entry<'a>(text: &'a str, field: usize, value: &str) -> Option<(&'a str, &'a str)> {
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut fitting = fields.filter(|fields| !value.is_empty() && fields.get(field) == Some(&value));
    fitting.next().and_then(|fields| Some((*fields.first()?, *fields.get(2)?)))
}

/// The ranges of a user, one after the other from 0 on; none if there is not a single id.
fn ranges(text: &str, name: &str, uid: Option<&str>) -> Option<Vec<IdMapping>> {
    let mut maps: Vec<IdMapping> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, first, count] = fields.as_slice() else { continue };
        if *owner != name && Some(*owner) != uid {
            continue;
        }
        let (Ok(host_id), Ok(size)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        let container_id = maps.last().map_or(Some(0), |last| last.container_id.checked_add(last.size));
        // The last id of all stands for nobody.
        match (container_id, host_id.checked_add(size)) {
            (Some(container_id), Some(_)) if size > 0 && container_id.checked_add(size).is_some() => {
                maps.push(IdMapping { container_id, host_id, size });
            }
            _ => {}
        }
    }
    (!maps.is_empty()).then_some(maps)
}

fn missing(name: &str, what: &str, file: &str) -> String {
    format!(
        "userns-remap: no range of subordinate {what} ids for user \"{name}\": add a line such as {name}:165536:65536 to {file}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0::/root:/bin/sh\nbuild:x:1000:1001::/:/bin/false\n".to_owned(),
            group: "root:x:0:\nbuild:x:1001:\n".to_owned(),
            subuid: "# ranges\ndockremap:100000:65536\nbuild:200000:1000\n1000:300000:5\nbuild:x:5\nbroken\n"
                .to_owned(),
            subgid: "dockremap:100000:65536\nbuild:400000:65536\n".to_owned(),
        }
    }

    #[test]
    fn ranges_follow_each_other() {
        let maps = files().maps("build").expect("maps");
        let told: Vec<_> = maps.uids.iter().map(|map| (map.container_id, map.host_id, map.size)).collect();
        assert_eq!(told, [(0, 200_000, 1000), (1000, 300_000, 5)], "by name and by number");
        assert_eq!(maps.gids.len(), 1);
        for same in ["1000", "build:build", "1000:1001", "build:1001"] {
            assert_eq!(files().maps(same).expect(same), maps, "{same}");
        }
    }

    #[test]
    fn default_needs_no_user() {
        let maps = files().maps("default").expect("maps");
        assert_eq!(maps.uids, [IdMapping { container_id: 0, host_id: 100_000, size: 65536 }]);
        assert!(files().maps("default:default").is_err(), "but a group that is named has to be there");
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = |option: &str| files().maps(option).expect_err(option);
        assert_eq!(text("a:b:c"), "invalid user/group specification in userns-remap: \"a:b:c\"");
        assert_eq!(text("nobody"), "userns-remap: user \"nobody\" has no entry in /etc/passwd");
        assert_eq!(text("77"), "userns-remap: uid 77 has no entry in /etc/passwd");
        assert_eq!(text("build:77"), "userns-remap: group \"77\" has no entry in /etc/group");
        assert_eq!(text("root"), "userns-remap: root cannot be remapped with itself");
        let none = Files { subgid: String::new(), ..files() };
        assert_eq!(
            none.maps("default").expect_err("no range"),
            "userns-remap: no range of subordinate group ids for user \"dockremap\": add a line such as dockremap:165536:65536 to /etc/subgid"
        );
    }
}
