//! Sending a tree: what there is, then the contents that are asked for.

mod select;
mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{Packet, PacketType, SyncError, mode, packet};
pub use select::Patterns;
pub use walk::{All, Choose, Want};

/// Bytes of a file in one packet, as fsutil has it.
const CHUNK: usize = 32 << 10;

/// A tree to be sent.
pub struct Source {
    /// Its root.
    pub root: OwnedFd,
    /// What of it.
    pub choose: Box<dyn Choose>,
    /// Everything belongs to this user and group for the receiver.
    pub owner: Option<(u32, u32)>,
}

/// Files by the numbers that the receiver asks with.
type Files = Arc<Mutex<HashMap<u32, String>>>;

/// Sends a tree. Blocks; returns when the receiver has said that it has all.
pub fn send(source: Source, requests: mpsc::Receiver<Packet>, packets: &mpsc::Sender<Packet>) -> Result<(), SyncError> {
    let Source { root, mut choose, owner } = source;
    let files = Files::default();
    let result = std::thread::scope(|scope| {
        // The receiver may ask before it knows all, and has to be answered before it takes more.
        let answering = scope.spawn(|| answer(&root, &files, requests, packets));
        let walked = walk::walk(&root, choose.as_mut(), owner, |number, stat| {
            if mode::file_type(stat.mode) == Some(FileType::RegularFile) {
                files.lock().insert(number, stat.path.clone());
            }
            put(packets, Packet { stat: Some(stat), ..packet(PacketType::PacketStat) })
        })
        .and_then(|()| put(packets, packet(PacketType::PacketStat)));
        if let Err(error) = &walked {
            say(packets, error);
        }
        let answered = answering.join().unwrap_or(Err(SyncError::CutShort));
        walked.and(answered)
    });
    if let Err(error @ SyncError::File { .. }) = &result {
        say(packets, error);
    }
    result
}

/// Tells the receiver why nothing more comes; if it is gone, nobody is there to be told.
fn say(packets: &mpsc::Sender<Packet>, error: &SyncError) {
    let _ = put(packets, Packet { data: error.to_string().into_bytes(), ..packet(PacketType::PacketErr) });
}

fn put(packets: &mpsc::Sender<Packet>, packet: Packet) -> Result<(), SyncError> {
    packets.blocking_send(packet).map_err(|_| SyncError::CutShort)
}

/// Sends the contents that are asked for.
fn answer(
    root: &OwnedFd,
    files: &Files,
    mut requests: mpsc::Receiver<Packet>,
    packets: &mpsc::Sender<Packet>,
) -> Result<(), SyncError> {
    loop {
        let request = requests.blocking_recv().ok_or(SyncError::CutShort)?;
        match PacketType::try_from(request.r#type) {
            Ok(PacketType::PacketReq) => {
                let path = files.lock().remove(&request.id);
                let path = path.ok_or_else(|| SyncError::protocol(format!("invalid file id {}", request.id)))?;
                send_file(root, &path, request.id, packets)?;
            }
            Ok(PacketType::PacketFin) => return put(packets, packet(PacketType::PacketFin)),
            Ok(PacketType::PacketErr) => {
                return Err(SyncError::Receiver(String::from_utf8_lossy(&request.data).into_owned()));
            }
            Ok(PacketType::PacketStat | PacketType::PacketData) | Err(_) => {
                return Err(SyncError::protocol(format!("unexpected packet of type {}", request.r#type)));
            }
        }
    }
}

fn send_file(root: &OwnedFd, path: &str, number: u32, packets: &mpsc::Sender<Packet>) -> Result<(), SyncError> {
    let mut file = open(root, path).map_err(SyncError::file("open", path))?;
    loop {
        let mut data = vec![0; CHUNK];
        let length =
            file.read(&mut data).map_err(|source| SyncError::File { doing: "read", path: path.to_owned(), source })?;
        data.truncate(length);
        put(packets, Packet { id: number, data, ..packet(PacketType::PacketData) })?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// Opens what was a regular file during the walk. What became a link or a FIFO since is refused, and never waited for.
fn open(root: &OwnedFd, path: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => break other?,
        }
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(Errno::INVAL),
    }
}
