//! One line of output as one JSON object, byte for byte as Docker's json-file driver writes it:
//! `{"log":"text\n","stream":"stdout","attrs":{...},"time":"2006-01-02T15:04:05.999999999Z"}`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::Stream;

/// Buffers up to this size are kept for the next batch.
const KEEP: usize = 16 << 10;

/// Encoded entries.
#[derive(Debug)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    entries: u64,
    /// `,"attrs":{...}`, or nothing.
    attrs: Vec<u8>,
    clock: Clock,
}

impl Encoder {
    pub(super) fn new(attrs: &BTreeMap<String, String>) -> Self {
        let mut encoded = Vec::new();
        for (name, value) in attrs {
            encoded.extend_from_slice(if encoded.is_empty() { b",\"attrs\":{" } else { b"," });
            push_string(&mut encoded, name.as_bytes());
            encoded.push(b':');
            push_string(&mut encoded, value.as_bytes());
        }
        if !encoded.is_empty() {
            encoded.push(b'}');
        }
        Encoder { bytes: Vec::new(), entries: 0, attrs: encoded, clock: Clock::default() }
    }

    /// Adds the entry of a line, with the present time.
    pub(super) fn add(&mut self, line: &[u8], stream: Stream) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        push_entry(&mut self.bytes, line, stream, &self.attrs, self.clock.text(now));
        self.entries += 1;
    }

    /// The entry of a line, apart from the others.
    pub(super) fn alone(&mut self, line: &[u8], stream: Stream) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = Vec::new();
        push_entry(&mut bytes, line, stream, &self.attrs, self.clock.text(now));
        bytes
    }

    /// How many bytes there are.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len()
    }

    /// How many entries there are.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.entries = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}

fn push_entry(out: &mut Vec<u8>, line: &[u8], stream: Stream, attrs: &[u8], time: &[u8]) {
    out.extend_from_slice(b"{\"log\":");
    push_string(out, line);
    out.extend_from_slice(match stream {
        Stream::Stdout => b",\"stream\":\"stdout\"",
        Stream::Stderr => b",\"stream\":\"stderr\"",
    });
    out.extend_from_slice(attrs);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time);
    out.extend_from_slice(b"\"}\n");
}

/// A JSON string as Go's encoder makes it: with `<`, `>`, `&` and the line separators of Unicode escaped, and a replacement
/// character for every byte that is not UTF-8.
fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_valid(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn push_valid(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| needs_care(b)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let taken = match special {
            [b @ (b'"' | b'\\'), ..] => {
                out.extend_from_slice(&[b'\\', *b]);
                1
            }
            [b'\n', ..] => {
                out.extend_from_slice(b"\\n");
                1
            }
            [b'\r', ..] => {
                out.extend_from_slice(b"\\r");
                1
            }
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(last & 0xf)]);
                3
            }
            [0xe2, ..] => {
                out.push(0xe2);
                1
            }
            [b, ..] => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 0xf)]]);
                1
            }
            [] => break,
        };
        rest = &special[taken..];
    }
    out.extend_from_slice(rest);
}

/// Whether a byte of valid UTF-8 may not be copied as it is, or (0xe2) begins a character for which that could be so.
fn needs_care(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

/// Times as text; the part down to the second is made once per second.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    /// `2006-01-02T15:04:05` of `second`, and whatever the last time added.
    text: Vec<u8>,
}

/// Bytes of a time down to the second.
const TO_THE_SECOND: usize = 19;

impl Clock {
    /// RFC 3339 in UTC with nanoseconds, without trailing zeros.
    fn text(&mut self, since_epoch: Duration) -> &[u8] {
        if self.text.is_empty() || self.second != since_epoch.as_secs() {
            self.second = since_epoch.as_secs();
            self.text.clear();
            push_date_time(&mut self.text, self.second);
        }
        self.text.truncate(TO_THE_SECOND);
        let nanos = since_epoch.subsec_nanos();
        if nanos > 0 {
            let _ = write!(self.text, ".{nanos:09}");
            while self.text.last() == Some(&b'0') {
                self.text.pop();
            }
        }
        self.text.push(b'Z');
        &self.text
    }
}

/// Appends `2006-01-02T15:04:05`. The calendar is counted in eras of 400 years that begin on 1 March of year 0.
fn push_date_time(out: &mut Vec<u8>, seconds: u64) {
    let (days, second_of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn escapes_what_dockers_writer_escapes() {
        assert_eq!(string(b"a\"b\\c\n\r\t\x00\x1f\x7f"), "\"a\\\"b\\\\c\\n\\r\\u0009\\u0000\\u001f\x7f\"");
        assert_eq!(string(b"<a href>&"), "\"\\u003ca href\\u003e\\u0026\"");
        assert_eq!(string("€ \u{2028}\u{2029} â".as_bytes()), "\"€ \\u2028\\u2029 â\"");
    }

    #[test]
    fn every_byte_that_is_not_utf8_is_replaced_on_its_own() {
        assert_eq!(string(b"a\xffb"), "\"a\\ufffdb\"");
        assert_eq!(string(b"\xe2\x82"), "\"\\ufffd\\ufffd\"");
        assert_eq!(string(b"\xed\xa0\x80!"), "\"\\ufffd\\ufffd\\ufffd!\"");
    }

    #[test]
    fn times_have_gos_form() {
        let mut clock = Clock::default();
        let mut text = |s, n| String::from_utf8(clock.text(Duration::new(s, n)).to_vec()).expect("UTF-8");
        assert_eq!(text(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400, 120_000_000), "2000-02-29T00:00:00.12Z");
        assert_eq!(text(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_709_251_199, 999_999_999), "2024-02-29T23:59:59.999999999Z");
        assert_eq!(text(4_102_444_799, 0), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn an_entry_is_dockers_entry() {
        let attrs = BTreeMap::from([("tag".to_owned(), "a<b".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let mut out = Vec::new();
        push_entry(&mut out, b"hi\n", Stream::Stderr, &Encoder::new(&attrs).attrs, b"T");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "{\"log\":\"hi\\n\",\"stream\":\"stderr\",\"attrs\":{\"b\":\"2\",\"tag\":\"a\\u003cb\"},\"time\":\"T\"}\n"
        );
    }
}
