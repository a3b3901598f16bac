//! From a stream to an unpacked layer, on four threads:
//!
//! ```text
//! caller: read, sha256 ──▶ decompress ──┬──▶ sha256 (diff id)
//!                                       └──▶ unpack, record headers
//! ```
//! The queues between them are short, so memory is bounded. When one ends early, the queue towards it closes and those
//! before it end too.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use parking_lot::Mutex;
use skep_fs::Root;
use skep_fs::apply::{Applied, ApplyError, LayerTarget, Limits, apply_layer};
use skep_fs::atomic::random_name;
use skep_fs::decode::Bounded;
use skep_fs::split::SplitWriter;
use skep_types::Digest;

use super::{Layers, StagedDir, StagedLayer, Staging, UnpackOptions};
use crate::chain::{digest_context, finished};
use crate::error::StoreError;
use crate::make_dir;

/// Bytes handed from thread to thread at a time, and how many such pieces wait.
const PIECE: usize = 128 * 1024;
const QUEUE: usize = 8;

type Piece = io::Result<Arc<Buffer>>;

/// Bytes on their way between threads. Their memory goes back to the pool that it is from: pieces of this size would each be mapped and
/// zeroed by the system otherwise.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A piece with the next bytes of `input`; an empty one at its end.
    fn fill(self: &Arc<Self>, mut input: impl Read) -> io::Result<Buffer> {
        let bytes = self.0.lock().pop().unwrap_or_else(|| vec![0; PIECE]);
        let mut buffer = Buffer { bytes, length: 0, pool: Arc::clone(self) };
        while buffer.length < PIECE {
            match input.read(&mut buffer.bytes[buffer.length..]) {
                Ok(0) => break,
                Ok(count) => buffer.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.0.lock().push(std::mem::take(&mut self.bytes));
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Layers {
    /// Starts a layer; several can be unpacked at a time, in any order.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let path = self.staging.join(random_name());
        make_dir(&path, 0o700)?;
        let dir = StagedDir { path, trash: self.trash.clone() };
        make_dir(&dir.path.join("fs"), 0o755)?;
        Ok(Staging { dir })
    }
}

/// What was unpacked; digest and size of the compressed bytes, as far as they could be read; diff id and size of the tar.
type Piped = (Applied, io::Result<(Digest, u64)>, (Digest, u64));

impl Staging {
    /// Unpacks a layer: `input` is its archive, plain, gzip or zstd. Hashing, decompressing and writing overlap on threads
    /// of their own. On any failure nothing stays.
    pub fn unpack(self, input: impl Read + Send, options: &UnpackOptions) -> Result<StagedLayer, StoreError> {
        let (applied, read, (diff_id, tar_size)) = self.pipeline(input, options)?;
        let (digest, compressed_size) = read.map_err(StoreError::Stream)?;
        check(options, &digest, compressed_size)?;
        if let Some(wanted) = options.diff_id.filter(|wanted| *wanted != diff_id) {
            return Err(StoreError::DiffIdMismatch { wanted, got: diff_id });
        }
        Ok(StagedLayer { digest, compressed_size, diff_id, tar_size, size: applied.bytes, dir: self.dir, applied })
    }

    fn pipeline(&self, input: impl Read + Send, options: &UnpackOptions) -> Result<Piped, StoreError> {
        let io_error = |source| StoreError::io("create", &self.dir.path, source);
        let root = Root::open(&self.dir.path.join("fs")).map_err(io_error)?;
        let split = File::create_new(self.dir.path.join("split")).and_then(SplitWriter::new).map_err(io_error)?;
        let target = LayerTarget::new(split, self.dir.path.join("kept"));
        let (compressed, to_decompress) = sync_channel::<Piece>(QUEUE);
        let (plain, to_unpack) = sync_channel::<Piece>(QUEUE);
        let (copy, to_hash) = sync_channel::<Piece>(QUEUE);
        let garbled = AtomicBool::new(false);
        thread::scope(|scope| {
            let decompressing = scope.spawn(|| decompress(to_decompress, [copy, plain], options.limits, &garbled));
            let hashing = scope.spawn(move || hash_all(&to_hash));
            let unpacking = scope.spawn(|| {
                let mut pieces = Pieces::new(to_unpack);
                let result = apply_layer(&mut pieces, &root, target, options.limits);
                // Before the queue closes, so that the reader knows why it did.
                garbled.fetch_or(matches!(result, Err(ApplyError::Archive(_))), Ordering::Relaxed);
                result
            });
            let read = read_and_hash(input, compressed, &garbled);
            let applied: Result<Applied, ApplyError> = joined(unpacking);
            let () = joined(decompressing);
            let hashed = joined(hashing);
            // A failed download shows up as a failure to read the archive as well: the first cause is told.
            match (applied, read) {
                (Ok(applied), read) => Ok((applied, read, hashed)),
                (Err(_), Err(read)) if read.kind() != io::ErrorKind::BrokenPipe => Err(StoreError::Stream(read)),
                (Err(error), Ok((digest, size))) => check(options, &digest, size).and(Err(error.into())),
                (Err(error), _) => Err(error.into()),
            }
        })
    }
}

/// Whether a stream is the one that was announced.
fn check(options: &UnpackOptions, digest: &Digest, size: u64) -> Result<(), StoreError> {
    if let Some(wanted) = options.digest.filter(|wanted| wanted != digest) {
        return Err(StoreError::DigestMismatch { wanted, got: *digest });
    }
    match options.size.filter(|wanted| *wanted != size) {
        Some(wanted) => Err(StoreError::SizeMismatch { wanted, got: size }),
        None => Ok(()),
    }
}

/// The thread's result; its panic goes on in this thread.
fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Reads all of `input` and passes it on; digest and length of it. When nobody takes it because it is garbled, the rest is read all the
/// same: the digest tells whether it came like that or was made like that.
fn read_and_hash(mut input: impl Read, out: SyncSender<Piece>, garbled: &AtomicBool) -> io::Result<(Digest, u64)> {
    let (mut context, mut size) = (digest_context(), 0);
    let pool = Arc::<Pool>::default();
    loop {
        let piece = match pool.fill(&mut input) {
            Ok(piece) => piece,
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                // Nobody listening means that the reader's failure came second.
                let _ = out.send(Err(copy));
                return Err(error);
            }
        };
        if piece.is_empty() {
            return Ok((finished(context), size));
        }
        context.update(&piece);
        size += piece.len() as u64;
        if out.send(Ok(Arc::new(piece))).is_err() && !garbled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

fn decompress(input: Receiver<Piece>, outs: [SyncSender<Piece>; 2], limits: Limits, garbled: &AtomicBool) {
    let mut pieces = Pieces::new(input);
    let pass_on = |piece: Piece| {
        let piece = piece.map_err(|error| (error.kind(), error.to_string()));
        let copy = || piece.clone().map_err(|(kind, text)| io::Error::new(kind, text));
        outs.iter().all(|out| out.send(copy()).is_ok())
    };
    let mut run = || -> io::Result<()> {
        let mut decoder = Bounded::new(&mut pieces, limits)?;
        let pool = Arc::<Pool>::default();
        loop {
            let piece = pool.fill(&mut decoder)?;
            if piece.is_empty() || !pass_on(Ok(Arc::new(piece))) {
                return Ok(());
            }
        }
    };
    match run() {
        // What follows the compressed data still counts for its digest.
        Ok(()) => while pieces.input.recv().is_ok() {},
        Err(error) => {
            garbled.store(true, Ordering::Relaxed);
            pass_on(Err(error));
        }
    }
}

fn hash_all(input: &Receiver<Piece>) -> (Digest, u64) {
    let (mut context, mut size) = (digest_context(), 0);
    while let Ok(Ok(piece)) = input.recv() {
        context.update(&piece);
        size += piece.len() as u64;
    }
    (finished(context), size)
}

/// The receiving end of a queue as a stream.
struct Pieces {
    input: Receiver<Piece>,
    current: Option<Arc<Buffer>>,
    at: usize,
}

impl Pieces {
    fn new(input: Receiver<Piece>) -> Self {
        Pieces { input, current: None, at: 0 }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|piece| piece.len() == self.at) {
            self.current = None;
            match self.input.recv() {
                Ok(piece) => (self.current, self.at) = (Some(piece?), 0),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(self.current.as_ref().map_or(&[], |piece| &piece[self.at..]))
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = out.len().min(piece.len());
        out[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}
