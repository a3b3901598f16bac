//! Receiving a tree: the directory becomes what the sender has, and only contents that are new come over.
//!
//! - What is there is kept if type, mode, owner, size, time, link target and attributes are the same. A file whose stat differs in
//!   anything is made anew: the content of an inode is never changed, so a hard link made elsewhere keeps what it had.
//! - A change of a file's time is its last change. A transfer that breaks off leaves files that look different from any that the sender
//!   has, which the next transfer replaces.
//! - Directories are held open on the way down; everything else is made in one of them by a single name, or below the root with
//!   `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`. Nothing that a sender says leads out.

mod files;
mod place;
mod same;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use tokio::sync::mpsc;

use self::files::{Link, Open, Wanted};
use self::place::{Level, Times};
use super::{Packet, PacketType, Stat, SyncError, mode, order, packet};

/// Files that are open for writing at once: asked for and not yet whole. fsutil's sender has room for 128 requests.
const OPEN_MAX: usize = 64;

/// What is taken at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files and directories.
    pub entries: u64,
    /// Bytes of contents that are sent.
    pub bytes: u64,
    /// Directories inside each other.
    pub depth: usize,
    /// Bytes of extended attributes of one file.
    pub xattrs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 5_000_000, bytes: u64::MAX, depth: 256, xattrs: 256 << 10 }
    }
}

/// How a tree is received.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiveOptions {
    /// What is taken at most.
    pub limits: Limits,
    /// Leave what the sender doesn't have, and take all files that it has, also those that look the same.
    pub merge: bool,
    /// Everything belongs to this user and group, whatever the sender says.
    pub owner: Option<(u32, u32)>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of contents that were sent.
    pub bytes: u64,
    /// Files and directories that the sender has.
    pub entries: u64,
}

/// Makes the directory `root` the same as what comes. Blocks; returns when the sender has confirmed the end. `replies` never holds more than a
/// few packets.
pub fn receive(
    root: OwnedFd,
    mut packets: mpsc::Receiver<Packet>,
    replies: &mpsc::UnboundedSender<Packet>,
    options: ReceiveOptions,
) -> Result<Received, SyncError> {
    let mut receiver = Receiver::new(root, replies, options)?;
    loop {
        let packet = packets.blocking_recv().ok_or(SyncError::CutShort)?;
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) => match packet.stat {
                Some(stat) => receiver.stat(stat)?,
                None => receiver.last_stat()?,
            },
            Ok(PacketType::PacketData) => receiver.data(packet.id, &packet.data)?,
            Ok(PacketType::PacketFin) if receiver.finished => return Ok(receiver.received),
            Ok(PacketType::PacketErr) => {
                return Err(SyncError::Sender(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            Ok(PacketType::PacketFin | PacketType::PacketReq) | Err(_) => {
                return Err(SyncError::protocol(format!("unexpected packet of type {}", packet.r#type)));
            }
        }
        receiver.go_on()?;
    }
}

struct Receiver<'a> {
    root: OwnedFd,
    replies: &'a mpsc::UnboundedSender<Packet>,
    options: ReceiveOptions,
    received: Received,
    /// The directories above the next entry, the root first.
    levels: Vec<Level>,
    /// The path of the entry before.
    before: String,
    /// The number of the next entry.
    next: u32,
    /// Files to ask for when others are whole.
    wanted: VecDeque<Wanted>,
    /// Files that were asked for.
    open: HashMap<u32, Open>,
    /// Hard links, made when all files are there.
    links: Vec<Link>,
    /// Directories that changed, whose times are set at the end.
    times: Vec<Times>,
    /// Files that were kept and have several names.
    kept: HashSet<(u64, u64)>,
    /// All entries are known.
    complete: bool,
    /// The sender was told that all is here.
    finished: bool,
}

impl<'a> Receiver<'a> {
    fn new(
        root: OwnedFd,
        replies: &'a mpsc::UnboundedSender<Packet>,
        options: ReceiveOptions,
    ) -> Result<Self, SyncError> {
        let top = Level::open_root(&root)?;
        Ok(Receiver {
            root,
            replies,
            options,
            received: Received::default(),
            levels: vec![top],
            before: String::new(),
            next: 0,
            wanted: VecDeque::new(),
            open: HashMap::new(),
            links: Vec::new(),
            times: Vec::new(),
            kept: HashSet::new(),
            complete: false,
            finished: false,
        })
    }

    /// One entry of the sender's tree.
    fn stat(&mut self, mut stat: Stat) -> Result<(), SyncError> {
        let number = self.next;
        self.check(&stat)?;
        self.next = number.checked_add(1).ok_or_else(|| SyncError::TooMuch("too many files".to_owned()))?;
        self.received.entries += 1;
        same::clean(&mut stat);
        if let Some((uid, gid)) = self.options.owner {
            (stat.uid, stat.gid) = (uid, gid);
        }
        let (parent, name) = order::split(&stat.path);
        while self.levels.last().is_some_and(|level| level.path != parent) {
            self.leave()?;
        }
        let Some(level) = self.levels.last_mut() else {
            return Err(SyncError::protocol(format!("{:?} comes without its directory", stat.path)));
        };
        let existing = level.advance(name, self.options.merge)?;
        self.before.clone_from(&stat.path);
        match mode::file_type(stat.mode) {
            Some(FileType::Directory) => self.directory(stat, existing),
            Some(FileType::RegularFile) if !stat.linkname.is_empty() => self.link(stat),
            Some(FileType::RegularFile) => self.file(number, stat, existing),
            Some(_) => self.special(&stat, existing),
            None => Err(SyncError::protocol(format!("{:?} has the unknown mode {:#x}", stat.path, stat.mode))),
        }
    }

    /// Refuses what breaks the rules or goes too far.
    fn check(&self, stat: &Stat) -> Result<(), SyncError> {
        let limits = &self.options.limits;
        if self.complete {
            return Err(SyncError::protocol("entries after the last"));
        }
        if !order::is_clean(&stat.path) {
            return Err(SyncError::protocol(format!("invalid path {:?}", stat.path)));
        }
        if order::compare(&self.before, &stat.path).is_ge() {
            return Err(SyncError::protocol(format!("changes out of order: {:?} {:?}", self.before, stat.path)));
        }
        if self.received.entries >= limits.entries {
            return Err(SyncError::TooMuch(format!("more than {} files", limits.entries)));
        }
        if stat.path.split('/').count() > limits.depth {
            return Err(SyncError::TooMuch(format!("{:?} is too deep", stat.path)));
        }
        let xattrs: usize = stat.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if xattrs > limits.xattrs {
            return Err(SyncError::TooMuch(format!("{:?} has too many extended attributes", stat.path)));
        }
        Ok(())
    }

    /// There are no more entries.
    fn last_stat(&mut self) -> Result<(), SyncError> {
        if self.complete {
            return Err(SyncError::protocol("a second end of the entries"));
        }
        while !self.levels.is_empty() {
            self.leave()?;
        }
        self.complete = true;
        Ok(())
    }

    /// Asks for files while there is room, and ends when nothing is missing.
    fn go_on(&mut self) -> Result<(), SyncError> {
        while self.open.len() < OPEN_MAX {
            let Some(wanted) = self.wanted.pop_front() else { break };
            self.ask(wanted)?;
        }
        if !self.complete || self.finished || !self.open.is_empty() || !self.wanted.is_empty() {
            return Ok(());
        }
        for link in std::mem::take(&mut self.links) {
            self.make_link(&link)?;
        }
        for times in std::mem::take(&mut self.times) {
            self.set_times(&times)?;
        }
        self.finished = true;
        self.reply(packet(PacketType::PacketFin))
    }

    fn reply(&self, packet: Packet) -> Result<(), SyncError> {
        self.replies.send(packet).map_err(|_| SyncError::CutShort)
    }
}
