//! What no pull can do without, and nothing else: `floor FOLDER LAYER...` decompresses gzip layers, two at a time, hashes them as they
//! come and as they are, writes each into one file, and flushes the disk once.
#![allow(clippy::unwrap_used, reason = "a tool for measuring")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use aws_lc_rs::digest::{Context, SHA256};
use skep_fs::decode::Decoder;

const PIECE: usize = 128 * 1024;
const AT_ONCE: usize = 2;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap();
    let layers: Vec<PathBuf> = arguments.collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(layer, &folder.join(layer.to_string_lossy().replace('/', "-")));
                }
            });
        }
    });
    rustix::fs::syncfs(File::open(&folder).unwrap()).unwrap();
}

fn one(layer: &Path, target: &Path) {
    let (sender, pieces) = sync_channel::<Vec<u8>>(8);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut context = Context::new(&SHA256);
            let mut file = File::create(target).unwrap();
            for piece in pieces {
                context.update(&piece);
                file.write_all(&piece).unwrap();
            }
            std::hint::black_box(context.finish());
        });
        let mut decoder = Decoder::new(Hashing(File::open(layer).unwrap(), Context::new(&SHA256))).unwrap();
        loop {
            let mut piece = vec![0; PIECE];
            let count = decoder.read(&mut piece).unwrap();
            if count == 0 {
                break;
            }
            piece.truncate(count);
            sender.send(piece).unwrap();
        }
        // The end of the pieces, which the other thread waits for.
        drop(sender);
    });
}

struct Hashing(File, Context);

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(out)?;
        self.1.update(&out[..count]);
        Ok(count)
    }
}
