//! Cuts a stream of bytes into lines.

/// The longest line kept whole; a longer one becomes several entries, of which only the last ends with a line feed.
pub(super) const MAX_LINE: usize = 1 << 20;

/// Buffers up to this size are kept for the next line.
const KEEP: usize = 4 << 10;

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes bytes, hands out lines, each with its line feed.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (line, rest) = bytes.split_at(end + 1);
            if self.pending.is_empty() {
                emit(line);
            } else {
                self.push(line, &mut emit);
                emit(&self.pending);
                self.clear();
            }
            bytes = rest;
        }
        self.push(bytes, &mut emit);
    }

    /// The stream is over: hands out what has no line feed.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            emit(&self.pending);
            self.clear();
        }
    }

    /// Adds to the pending line; hands out its beginning if it gets too long.
    fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8])) {
        while self.pending.len() + bytes.len() > MAX_LINE {
            let (now, later) = bytes.split_at(MAX_LINE - self.pending.len());
            self.pending.extend_from_slice(now);
            let cut = character_boundary(&self.pending);
            emit(&self.pending[..cut]);
            self.pending.drain(..cut);
            bytes = later;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn clear(&mut self) {
        self.pending.clear();
        if self.pending.capacity() > KEEP {
            self.pending = Vec::new();
        }
    }
}

/// Where to cut so that no character of UTF-8 is cut in two; the end if there is none that would be.
fn character_boundary(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let length = match bytes[at] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back && at > 0 { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |l| out.push(l.to_vec()));
        }
        lines.finish(|l| out.push(l.to_vec()));
        out
    }

    #[test]
    fn lines_are_found_across_reads() {
        assert_eq!(cut(&[b"a\n\nb", b"", b"c\nd"]), [&b"a\n"[..], b"\n", b"bc\n", b"d"]);
        assert!(cut(&[b""]).is_empty());
    }

    #[test]
    fn long_lines_stay_whole_up_to_the_limit() {
        let long = vec![b'x'; MAX_LINE - 1];
        let whole = cut(&[&long[..5000], &long[5000..], b"\n"]);
        assert_eq!((whole.len(), whole[0].len()), (1, MAX_LINE));

        let pieces = cut(&[&long, b"xyz\n"]);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 3]);
    }

    #[test]
    fn characters_are_not_cut() {
        let mut long = vec![b'x'; MAX_LINE - 1];
        long.extend("€\n".as_bytes());
        let pieces = cut(&[&long[..MAX_LINE], &long[MAX_LINE..]]);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], "€\n".as_bytes());
    }

    #[test]
    fn memory_goes_back_after_a_long_line() {
        let mut lines = Lines::default();
        lines.feed(&vec![b'x'; 100_000], |_| ());
        lines.feed(b"\n", |_| ());
        assert_eq!(lines.pending.capacity(), 0);
    }
}
