//! The file that says who has which name in a network.
//!
//! One line per name and container, sorted by name, with tabs between
//!
//! ```text
//! name            container   addresses (one, or two with a comma)   ports (with commas; may be empty)
//! ```
//! and for each address a line whose name is a blank and the address. Names are in lower case. It is replaced as a whole, by renaming;
//! whoever looks something up reads a few blocks of it (a binary search), and keeps nothing: in a network of a thousand containers,
//! a thousand readers share the pages that the kernel has of it. Columns may be added at the end.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use skep_types::Port;

/// The longest line. Longer names than a question can hold are not written, and only so many ports.
const LONGEST_LINE: usize = 2048;
const LONGEST_NAME: usize = 253;
const MOST_PORTS: usize = 64;
/// What a lookup reads at a time: a line that begins in its first half is complete.
const BLOCK: usize = 2 * LONGEST_LINE;
/// Containers that may share a name, as far as answers go.
const MOST_MEMBERS: usize = 512;

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which its addresses lead back to.
    pub container: String,
    /// Other names: aliases, the short id.
    pub aliases: Vec<String>,
    /// One of each family at most.
    pub addresses: Vec<IpAddr>,
    /// What it serves.
    pub ports: Vec<Port>,
}

/// A container that has a name that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its own name.
    pub container: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What it serves.
    pub ports: Vec<Port>,
}

/// The text of a network's file.
pub fn text(entries: &[Entry]) -> String {
    let mut lines = BTreeSet::new();
    for entry in entries.iter().filter(|entry| is_name(&entry.container) && !entry.addresses.is_empty()) {
        let mut rest = format!("\t{}\t", entry.container);
        for (number, address) in entry.addresses.iter().enumerate() {
            let _ = write!(rest, "{}{address}", if number > 0 { "," } else { "" });
        }
        for (number, port) in entry.ports.iter().take(MOST_PORTS).enumerate() {
            let _ = write!(rest, "{}{port}", if number > 0 { "," } else { "\t" });
        }
        let names = std::iter::once(&entry.container).chain(&entry.aliases).filter(|name| is_name(name));
        for name in names {
            lines.insert(format!("{}{rest}\n", name.to_ascii_lowercase()));
        }
        for address in &entry.addresses {
            lines.insert(format!(" {address}{rest}\n"));
        }
    }
    lines.into_iter().collect()
}

/// Whether a name can be asked for at all.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.bytes().any(|c| c <= b' ' || c == 0x7f)
}

/// A network's file, open.
#[derive(Debug)]
pub struct Names {
    file: File,
    length: u64,
}

impl Names {
    /// Opens the file as it is now. None if there is none: then the network has no names.
    pub fn open(path: &Path) -> io::Result<Option<Names>> {
        match File::open(path) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some(Names { file, length }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The containers that have a name, which has to be in lower case.
    pub fn find(&self, name: &str) -> io::Result<Vec<Member>> {
        if is_name(name) { self.lines_of(name) } else { Ok(Vec::new()) }
    }

    /// The container that has an address.
    pub fn find_address(&self, address: IpAddr) -> io::Result<Option<Member>> {
        Ok(self.lines_of(&format!(" {address}"))?.pop())
    }

    fn lines_of(&self, key: &str) -> io::Result<Vec<Member>> {
        let mut block = vec![0; BLOCK];
        let mut at = self.start_of(key.as_bytes(), &mut block)?;
        let mut found = Vec::new();
        loop {
            let read = self.read(at, &mut block)?;
            let mut rest = read;
            while let Some(end) = rest.iter().position(|&c| c == b'\n') {
                let (line, after) = rest.split_at(end);
                rest = &after[1..];
                match key_of(line).cmp(key.as_bytes()) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => found.extend(member(line)),
                    std::cmp::Ordering::Greater => return Ok(found),
                }
                if found.len() == MOST_MEMBERS {
                    return Ok(found);
                }
            }
            let done = read.len() - rest.len();
            if done == 0 {
                return Ok(found);
            }
            at += done as u64;
        }
    }

    /// The start of a line with no line of `key` before it, and not far from the first one.
    fn start_of(&self, key: &[u8], block: &mut [u8]) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.length);
        while high - low > BLOCK as u64 {
            let middle = low + (high - low) / 2;
            let read = self.read(middle, block)?;
            let Some(newline) = read.iter().position(|&c| c == b'\n') else { break };
            if key_of(&read[newline + 1..]) < key {
                low = middle + newline as u64 + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn read<'a>(&self, at: u64, block: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read_at(&mut block[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&block[..filled])
    }
}

fn key_of(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|&c| c == b'\t' || c == b'\n').unwrap_or(line.len());
    &line[..end]
}

/// A line that is not understood counts as none.
fn member(line: &[u8]) -> Option<Member> {
    let mut columns = std::str::from_utf8(line).ok()?.split('\t').skip(1);
    let (container, addresses) = (columns.next()?, columns.next()?);
    let ports = columns.next().unwrap_or_default();
    Some(Member {
        container: container.to_owned(),
        addresses: addresses.split(',').filter_map(|address| address.parse().ok()).collect(),
        ports: ports.split(',').filter_map(|port| port.parse().ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u16) -> Entry {
        let [high, low] = number.to_be_bytes();
        Entry {
            container: format!("Box-{number}"),
            aliases: vec!["all".to_owned(), format!("{number:012x}")],
            addresses: vec![[10, 9, high, low].into(), format!("fd00::{number:x}").parse().unwrap()],
            ports: vec!["80/tcp".parse().unwrap(), "53/udp".parse().unwrap()],
        }
    }

    fn open(entries: &[Entry]) -> Names {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names");
        assert!(Names::open(&path).unwrap().is_none());
        std::fs::write(&path, text(entries)).unwrap();
        Names::open(&path).unwrap().unwrap()
    }

    #[test]
    fn the_text_of_a_container() {
        let mut one = entry(2);
        one.aliases = vec!["DB".to_owned(), "no name".to_owned(), "db".to_owned(), String::new(), "x".repeat(300)];
        let rest = "\tBox-2\t10.9.0.2,fd00::2\t80/tcp,53/udp\n";
        assert_eq!(text(&[one]), [" 10.9.0.2", " fd00::2", "box-2", "db"].map(|name| name.to_owned() + rest).concat());
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn every_name_of_a_big_network_is_found() {
        let entries: Vec<Entry> = (0..1000).map(entry).collect();
        let names = open(&entries);
        for wanted in &entries {
            let member = Member {
                container: wanted.container.clone(),
                addresses: wanted.addresses.clone(),
                ports: wanted.ports.clone(),
            };
            for name in [&wanted.container.to_ascii_lowercase(), &wanted.aliases[1]] {
                assert_eq!(names.find(name).unwrap(), std::slice::from_ref(&member), "{name}");
            }
            assert_eq!(names.find_address(wanted.addresses[1]).unwrap(), Some(member));
        }
        assert_eq!(names.find("all").unwrap().len(), MOST_MEMBERS);
        for missing in ["box", "box-", "box-1000", "al", "alla", "zzz", "0", "", " 10.9.0.2", "a\tb"] {
            assert_eq!(names.find(missing).unwrap(), [], "{missing}");
        }
        assert_eq!(names.find_address("10.8.0.1".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn lines_of_the_longest_names_are_found() {
        let entries: Vec<Entry> = (0..200u16)
            .map(|number| Entry {
                container: format!("{number:03}{}", "x".repeat(250)),
                aliases: vec![],
                addresses: vec![[10, 0, 0, 1].into(), "fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap()],
                ports: (10_000..10_100).map(|number| format!("{number}/sctp").parse().unwrap()).collect(),
            })
            .collect();
        assert!(text(&entries).lines().all(|line| line.len() < LONGEST_LINE));
        let names = open(&entries);
        for wanted in &entries {
            assert_eq!(names.find(&wanted.container).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_broken_file_gives_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names");
        for broken in [&b"web"[..], b"web\n", b"web\tweb\n", b"\xff\t\xff\n", &[b'x'; 20_000], &[b'\n'; 20_000]] {
            std::fs::write(&path, broken).unwrap();
            let names = Names::open(&path).unwrap().unwrap();
            assert_eq!(names.find("web").unwrap(), []);
        }
    }
}
