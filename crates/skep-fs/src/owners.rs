//! Owners of files as a user namespace sees them (user_namespaces(7)): what is read from inside a container's file system, and what is
//! written there, has the ids that the container's programs know.

use std::io;

/// The revision of file capabilities that names the root of a namespace (`VFS_CAP_REVISION_3`), and the one that does not.
const WITH_ROOT: u8 = 3;
const WITHOUT_ROOT: u8 = 2;
/// Their lengths: the magic number and two pairs of sets, and with the id of the root.
const SETS: usize = 20;
/// Whoever is nobody there.
const OVERFLOW: u32 = 65534;

/// The id maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

/// One line of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Owners {
    /// Those of a process; none if it sees the caller's ids.
    pub fn of_process(pid: i32) -> io::Result<Option<Self>> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).map(|text| ranges(&text));
        let owners = Owners { uids: read("uid_map")?, gids: read("gid_map")? };
        let same = |ranges: &[Range]| ranges.iter().all(|range| range.inside == range.outside);
        Ok((!same(&owners.uids) || !same(&owners.gids)).then_some(owners))
    }

    /// Owner and group as they are called inside.
    pub fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let of = |ranges: &[Range], id| convert(ranges, id, |range| (range.outside, range.inside)).unwrap_or(OVERFLOW);
        (of(&self.uids, uid), of(&self.gids, gid))
    }

    /// Owner and group as the caller calls those of these ids inside; none if there is no such id.
    pub fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        let of = |ranges: &[Range], id| convert(ranges, id, |range| (range.inside, range.outside));
        Some((of(&self.uids, uid)?, of(&self.gids, gid)?))
    }

    /// Capabilities of a file (`security.capability`) as they are written down inside.
    pub(crate) fn capability_inside(&self, value: &mut Vec<u8>) {
        let root = value.get(SETS..SETS + 4).and_then(|id| id.try_into().ok()).map(u32::from_le_bytes);
        if value.get(3) == Some(&WITH_ROOT) && root.is_some_and(|root| self.inside((root, 0)).0 == 0) {
            value.truncate(SETS);
            value[3] = WITHOUT_ROOT;
        }
    }

    /// Capabilities of a file that count inside.
    pub(crate) fn capability_outside(&self, value: &mut Vec<u8>) {
        if let Some((root, _)) = self.outside((0, 0))
            && value.len() == SETS
            && value[3] == WITHOUT_ROOT
        {
            value[3] = WITH_ROOT;
            value.extend_from_slice(&root.to_le_bytes());
        }
    }
}

fn ranges(text: &str) -> Vec<Range> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some(Range { inside: number(words.next())?, outside: number(words.next())?, count: number(words.next())? })
    };
    text.lines().filter_map(line).collect()
}

fn convert(ranges: &[Range], id: u32, ends: impl Fn(&Range) -> (u32, u32)) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.count)?;
        to.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> Owners {
        let uids = ranges("         0     100000       1000\n      1000       5000         10\n");
        Owners { gids: ranges("0 200000 65536\n"), uids }
    }

    #[test]
    fn ids_go_both_ways() {
        let owners = owners();
        assert_eq!(owners.inside((100_007, 200_008)), (7, 8));
        assert_eq!(owners.inside((5009, 5)), (1009, OVERFLOW));
        assert_eq!(owners.outside((1009, 65535)), Some((5009, 265_535)));
        assert_eq!(owners.outside((1010, 0)), None);
    }

    #[test]
    fn the_host_has_no_map() {
        assert_eq!(Owners::of_process(std::process::id().cast_signed()).expect("our own"), None);
    }

    #[test]
    fn capabilities_name_the_root_outside_only() {
        let mut value = vec![0; SETS];
        (value[0], value[3], value[5]) = (1, WITHOUT_ROOT, 0x20);
        let plain = value.clone();
        owners().capability_outside(&mut value);
        assert_eq!((value.len(), value[3], &value[SETS..]), (SETS + 4, WITH_ROOT, &100_000_u32.to_le_bytes()[..]));
        owners().capability_inside(&mut value);
        assert_eq!(value, plain);
        let mut foreign = [plain.as_slice(), &[9, 0, 0, 0]].concat();
        foreign[3] = WITH_ROOT;
        let before = foreign.clone();
        owners().capability_inside(&mut foreign);
        assert_eq!(foreign, before, "of another namespace");
    }
}
