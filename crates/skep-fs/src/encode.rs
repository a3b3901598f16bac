//! Compressing streams: gzip by several threads, zstd, or not at all.
//!
//! The same input gives the same output, however many threads do the work, so that a layer that is pushed twice is the same blob.
//!
//! ```text
//! input ─► blocks of 256 KiB, each with the 32 KiB before it as dictionary ─► threads ─► in order ─► one gzip member
//! ```
//! Each block ends at a byte boundary (an empty stored block), so that they can be joined; this costs five bytes each.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::decode::Compression;

const BLOCK: usize = 256 * 1024;
/// How far back deflate looks.
const WINDOW: usize = 32 * 1024;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// RFC 1952: deflate, no flags, no time, no extra flags, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// More threads than this for one stream only make others wait.
const MAX_THREADS: usize = 4;

/// Copies `input` to `output`, compressed.
pub fn encode(input: impl Read, output: impl Write, compression: Compression) -> io::Result<()> {
    encode_at(input, output, compression, None)
}

/// The same, with a level that the compression knows (gzip 0 to 9, zstd 1 to 22), or its usual one.
pub fn encode_at(input: impl Read, output: impl Write, compression: Compression, level: Option<i32>) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    encode_with(input, output, compression, level, cores.min(MAX_THREADS))
}

fn encode_with(
    mut input: impl Read,
    mut output: impl Write,
    compression: Compression,
    level: Option<i32>,
    threads: usize,
) -> io::Result<()> {
    match compression {
        Compression::Plain => {
            io::copy(&mut input, &mut output)?;
        }
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(GZIP_LEVEL);
            gzip(input, &mut output, level.min(9), threads)?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut output, level.unwrap_or(ZSTD_LEVEL))?;
            encoder.include_checksum(true)?;
            // One thread of its own at the least: what it writes then doesn't depend on the number.
            encoder.multithread(u32::try_from(threads).unwrap_or(1).max(1))?;
            io::copy(&mut input, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Bzip2 | Compression::Xz => {
            let message = format!("nothing is compressed with {compression:?} here");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    }
    output.flush()
}

/// A block to compress, and where the result goes.
struct Job {
    /// What came before, at most a window of it.
    dictionary: Vec<u8>,
    block: Vec<u8>,
    last: bool,
    done: SyncSender<io::Result<Block>>,
}

struct Block {
    bytes: Vec<u8>,
    crc: Crc,
}

fn gzip(mut input: impl Read, output: &mut impl Write, level: u32, threads: usize) -> io::Result<()> {
    output.write_all(&GZIP_HEADER)?;
    let depth = threads + 2;
    let (jobs, queue) = sync_channel::<Job>(depth);
    let queue = Mutex::new(queue);
    let crc = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, level));
        }
        // Dropped at the end of this closure, failed or not: the threads then end.
        let jobs = jobs;
        let mut crc = Crc::new();
        let mut pending: VecDeque<Receiver<io::Result<Block>>> = VecDeque::new();
        let mut take = |pending: &mut VecDeque<Receiver<io::Result<Block>>>, most: usize| -> io::Result<()> {
            while pending.len() > most {
                let Some(next) = pending.pop_front() else { break };
                let block = next.recv().map_err(|_| io::Error::other("a thread that compresses has ended"))??;
                crc.combine(&block.crc);
                output.write_all(&block.bytes)?;
            }
            Ok(())
        };
        let (mut dictionary, mut block) = (Vec::new(), read_block(&mut input)?);
        loop {
            let next = if block.len() == BLOCK { read_block(&mut input)? } else { Vec::new() };
            let last = next.is_empty();
            let after = block[block.len().saturating_sub(WINDOW)..].to_vec();
            let (done, result) = sync_channel(1);
            jobs.send(Job { dictionary, block, last, done }).map_err(|_| io::ErrorKind::BrokenPipe)?;
            pending.push_back(result);
            if last {
                take(&mut pending, 0)?;
                return Ok::<_, io::Error>(crc);
            }
            take(&mut pending, depth - 1)?;
            (dictionary, block) = (after, next);
        }
    })?;
    output.write_all(&crc.sum().to_le_bytes())?;
    output.write_all(&crc.amount().to_le_bytes())
}

fn read_block(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    input.take(BLOCK as u64).read_to_end(&mut block)?;
    Ok(block)
}

fn work(queue: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { dictionary, block, last, done }) = job else { return };
        let result = deflate_block(level, &dictionary, &block, last);
        // Nobody waits for it any more when another block has failed.
        let _ = done.send(result);
    }
}

fn deflate_block(level: u32, dictionary: &[u8], block: &[u8], last: bool) -> io::Result<Block> {
    // A new one each time: one that was reset can find other matches than a new one, so the output would depend on what it had before.
    let mut deflate = Compress::new(flate2::Compression::new(level), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let mut crc = Crc::new();
    crc.update(block);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut bytes = Vec::with_capacity(block.len() / 2 + 64);
    loop {
        bytes.reserve(block.len() / 4 + 64);
        let used = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status = deflate.compress_vec(&block[used..], &mut bytes, flush).map_err(io::Error::other)?;
        let finished = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // Room that is left over says that everything is out.
            _ => deflate.total_in() == block.len() as u64 && bytes.len() < bytes.capacity(),
        };
        if finished {
            return Ok(Block { bytes, crc });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Decoder;

    /// Words that repeat, numbers that don't.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(b"the same words again, and ");
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn encoded(input: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
        let mut output = Vec::new();
        encode_with(input, &mut output, compression, None, threads).expect("encoded");
        output
    }

    #[test]
    fn what_is_encoded_can_be_decoded() {
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            for length in [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 77] {
                let input = sample(length);
                let output = encoded(&input, compression, 3);
                let mut back = Vec::new();
                Decoder::new(&output[..]).expect("a stream").read_to_end(&mut back).expect("decoded");
                assert!(back == input, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let input = sample(9 * BLOCK + 5);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let one = encoded(&input, compression, 1);
            assert!(one.len() < input.len());
            for threads in [2, 5] {
                assert!(one == encoded(&input, compression, threads), "{compression:?} {threads}");
            }
        }
    }

    #[test]
    fn what_was_compressed_before_does_not_show() {
        // Programs have all sorts of data, and blocks that compress differently.
        let mut input = std::fs::read("/proc/self/exe").expect("this program");
        input.truncate(40 * BLOCK);
        let first = encoded(&input, Compression::Gzip, 1);
        for _ in 0..3 {
            for threads in [2, 3, 4] {
                assert!(first == encoded(&input, Compression::Gzip, threads), "{threads}");
            }
        }
    }

    #[test]
    fn a_higher_level_takes_less_room() {
        let input = sample(3 * BLOCK);
        let size = |compression, level| {
            let mut output = Vec::new();
            encode_with(&input[..], &mut output, compression, level, 2).expect("encoded");
            output.len()
        };
        assert!(size(Compression::Gzip, Some(9)) < size(Compression::Gzip, Some(1)));
        assert!(size(Compression::Gzip, Some(1)) < size(Compression::Gzip, Some(0)));
        assert_eq!(size(Compression::Gzip, None), size(Compression::Gzip, Some(6)));
        assert_eq!(size(Compression::Zstd, None), size(Compression::Zstd, Some(3)));
    }

    #[test]
    fn failures_end_it() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let count = self.0.min(out.len());
                self.0 -= count;
                out[..count].fill(1);
                if count == 0 { Err(io::Error::other("broken")) } else { Ok(count) }
            }
        }
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            assert!(encode_with(Broken(3 * BLOCK), Vec::new(), compression, None, 2).is_err());
            assert!(encode_with(&sample(20 * BLOCK)[..], Full, compression, None, 2).is_err());
        }
    }
}
