//! File modes on the wire are Go's `os.FileMode`: permission bits as everywhere, the rest in bits of its own.

use rustix::fs::FileType;

const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHAR_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
const TYPES: u32 = DIR | SYMLINK | DEVICE | FIFO | SOCKET | CHAR_DEVICE | IRREGULAR;

const BITS: [(u32, u32); 3] = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];

/// The type of a file on the wire; none for what can't be made here.
pub(crate) fn file_type(wire: u32) -> Option<FileType> {
    match wire & TYPES {
        0 => Some(FileType::RegularFile),
        DIR => Some(FileType::Directory),
        SYMLINK => Some(FileType::Symlink),
        DEVICE => Some(FileType::BlockDevice),
        type_bits if type_bits == DEVICE | CHAR_DEVICE => Some(FileType::CharacterDevice),
        FIFO => Some(FileType::Fifo),
        _ => None,
    }
}

/// Permission bits with set-id and sticky bits, as in `st_mode`.
pub(crate) fn permissions(wire: u32) -> u32 {
    BITS.iter().fold(wire & 0o777, |mode, (go, unix)| if wire & go != 0 { mode | unix } else { mode })
}

/// The mode on the wire of a file with that `st_mode`.
pub fn to_wire(st_mode: u32) -> u32 {
    let type_bits = match FileType::from_raw_mode(st_mode) {
        FileType::Directory => DIR,
        FileType::Symlink => SYMLINK,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHAR_DEVICE,
        FileType::Fifo => FIFO,
        FileType::Socket => SOCKET,
        _ => 0,
    };
    BITS.iter().fold(st_mode & 0o777 | type_bits, |mode, (go, unix)| if st_mode & unix != 0 { mode | go } else { mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_go_there_and_back() {
        for st_mode in [0o100_644, 0o104_755, 0o102_711, 0o041_777, 0o120_777, 0o010_600, 0o020_666, 0o060_660] {
            let wire = to_wire(st_mode);
            let kind = file_type(wire).expect("a type");
            assert_eq!(kind.as_raw_mode() | permissions(wire), st_mode, "{st_mode:o}");
        }
        assert_eq!(to_wire(0o040_755), 0x8000_01ed);
        assert_eq!(file_type(SOCKET), None);
    }
}
