//! Where the last N lines of a file begin, read from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// The offset of the last `wanted` lines within the first `end` bytes of `file`, and how many there are (fewer if the file has
/// fewer). A last line without a line end counts.
pub(super) fn start_of_last(file: &File, end: u64, wanted: usize) -> io::Result<(u64, usize)> {
    if wanted == 0 || end == 0 {
        return Ok((end, 0));
    }
    let mut found = 0;
    let mut position = end;
    let mut block = vec![0u8; usize::try_from(BLOCK).unwrap_or(0)];
    while position > 0 {
        let length = position.min(BLOCK);
        position -= length;
        let block = &mut block[..usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(block, position)?;
        for (index, _) in block.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n') {
            let after = position + index as u64 + 1;
            if after == end {
                continue;
            }
            found += 1;
            if found == wanted {
                return Ok((after, found));
            }
        }
    }
    Ok((0, found + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn finds_the_last_lines() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one\ntwo\nthree\n").expect("written");
        for (wanted, offset, found) in [(0, 14, 0), (1, 8, 1), (2, 4, 2), (3, 0, 3), (9, 0, 3)] {
            assert_eq!(start_of_last(&file, 14, wanted).expect("read"), (offset, found), "{wanted}");
        }
        assert_eq!(start_of_last(&file, 11, 1).expect("read"), (8, 1), "a line without its end");
        assert_eq!(start_of_last(&file, 0, 5).expect("read"), (0, 0));
    }
}
