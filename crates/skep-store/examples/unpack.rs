//! Unpacks a layer archive into a fresh data root and reads it back, to measure either: `unpack ARCHIVE ROOT`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for measuring by hand")]

use std::fs::File;
use std::time::Instant;

use skep_store::{Store, UnpackOptions};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let archive = File::open(arguments.next().unwrap()).unwrap();
    let store = Store::open(arguments.next().unwrap().as_ref()).unwrap();
    let start = Instant::now();
    let staged = store.layers().stage().unwrap().unpack(archive, &UnpackOptions::default()).unwrap();
    println!("unpacked {} bytes of files, archive {}: {:?}", staged.size, staged.tar_size, start.elapsed());
    let start = Instant::now();
    let chain = store.layers().commit(None, vec![staged]).unwrap()[0];
    println!("committed {chain}: {:?}", start.elapsed());
    let start = Instant::now();
    let bytes = std::io::copy(&mut store.layers().tar_stream(&chain).unwrap(), &mut std::io::sink()).unwrap();
    println!("read back {bytes} bytes, digest verified: {:?}", start.elapsed());
    println!("{}", store.layers().lower_dirs(&chain).unwrap()[0].display());
}
