//! An archive whose files are no younger than a moment: what `rewrite-timestamp` makes of layers.
//!
//! Works on the archive's blocks (POSIX.1-2024, `pax`), so that all else in it stays as it is: times in headers, and the records
//! `mtime`, `atime` and `ctime` of extended headers.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Extended headers that are larger are not ours.
const MAX_EXTENDED: u64 = 1 << 20;
const MTIME: std::ops::Range<usize> = 136..148;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;

/// Copies an archive; times after `latest` (seconds since 1970) become `latest`.
///
/// # Errors
/// Reading or writing fails; it is no archive.
pub fn retime(mut input: impl Read, mut output: impl Write, latest: u64) -> io::Result<()> {
    let mut header = [0; BLOCK];
    loop {
        match read_block(&mut input, &mut header)? {
            true => {}
            false => return output.flush(),
        }
        if header.iter().all(|byte| *byte == 0) {
            output.write_all(&header)?;
            io::copy(&mut input, &mut output)?;
            return output.flush();
        }
        let size = number(&header[SIZE]).ok_or_else(|| invalid("a size that is no number"))?;
        match header[TYPE] {
            b'x' | b'g' => {
                if size > MAX_EXTENDED {
                    return Err(invalid("an extended header that is too large"));
                }
                let mut body = vec![0; usize::try_from(padded(size)).map_err(io::Error::other)?];
                input.read_exact(&mut body)?;
                body.truncate(usize::try_from(size).map_err(io::Error::other)?);
                let mut body = records(&body, latest)?;
                let length = body.len() as u64;
                octal(&mut header[SIZE], length);
                write_header(&mut output, &mut header, latest)?;
                body.resize(usize::try_from(padded(length)).map_err(io::Error::other)?, 0);
                output.write_all(&body)?;
            }
            _ => {
                write_header(&mut output, &mut header, latest)?;
                let body = padded(size);
                if io::copy(&mut (&mut input).take(body), &mut output)? != body {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// Fills a block; false at the end of the input.
fn read_block(input: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn write_header(output: &mut impl Write, header: &mut [u8; BLOCK], latest: u64) -> io::Result<()> {
    // A time that is no number here is in an extended header, or before 1970.
    if number(&header[MTIME]).is_some_and(|time| time > latest) {
        octal(&mut header[MTIME], latest);
    }
    header[CHECKSUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    output.write_all(header)
}

/// The records of an extended header, with earlier times.
fn records(mut body: &[u8], latest: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    while !body.is_empty() && body[0] != 0 {
        let bad = || invalid("an extended header with a record that is none");
        let space = body.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = std::str::from_utf8(&body[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|length| *length > space + 1 && *length <= body.len()).ok_or_else(bad)?;
        let (record, rest) = body.split_at(length);
        let said = &record[space + 1..length - 1];
        let equals = said.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let (key, value) = (&said[..equals], &said[equals + 1..]);
        if matches!(key, b"mtime" | b"atime" | b"ctime") && is_after(value, latest) {
            out.extend(record_of(key, latest));
        } else {
            out.extend_from_slice(record);
        }
        body = rest;
    }
    Ok(out)
}

fn is_after(value: &[u8], latest: u64) -> bool {
    let text = String::from_utf8_lossy(value);
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let later = seconds.parse::<i128>().is_ok_and(|seconds| seconds > i128::from(latest));
    let within = seconds.parse::<u64>() == Ok(latest) && fraction.bytes().any(|digit| digit != b'0');
    later || within
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record_of(key: &[u8], value: u64) -> Vec<u8> {
    let rest = [b" ", key, b"=", value.to_string().as_bytes(), b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().into_bytes(), rest].concat()
}

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64) * BLOCK as u64
}

/// A number in octal digits, or GNU's binary form.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        if field[0] != 0x80 || field[1..field.len() - 8].iter().any(|byte| *byte != 0) {
            return None; // negative, or more than any file has
        }
        return field[field.len() - 8..].try_into().ok().map(u64::from_be_bytes);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c: char| c == '\0' || c == ' ');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}\0", width = field.len() - 1);
    if digits.len() == field.len() {
        field.copy_from_slice(digits.as_bytes());
        return;
    }
    field.fill(0);
    field[0] = 0x80;
    let start = field.len() - 8;
    field[start..].copy_from_slice(&value.to_be_bytes());
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an archive with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(times: &[u64]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (number, time) in times.iter().enumerate() {
            let text = format!("{time}.5");
            tar.append_pax_extensions([("mtime", text.as_bytes()), ("SCHILY.xattr.user.a", b"b=c")]).expect("records");
            let mut header = tar::Header::new_ustar();
            header.set_size(600);
            header.set_mtime(*time);
            tar.append_data(&mut header, format!("file{number}"), &[7; 600][..]).expect("a file");
        }
        tar.into_inner().expect("an archive")
    }

    fn retimed(bytes: &[u8], latest: u64) -> Vec<u8> {
        let mut out = Vec::new();
        retime(bytes, &mut out, latest).expect("an archive");
        out
    }

    #[test]
    fn later_times_become_the_latest_and_nothing_else_changes() {
        let out = retimed(&archive(&[100, 1_700_000_000, 50]), 100);
        let mut tar = tar::Archive::new(&out[..]);
        for (entry, wanted) in tar.entries().expect("entries").zip([100, 100, 50]) {
            let mut entry = entry.expect("an entry");
            assert_eq!(entry.header().mtime().expect("a time"), wanted);
            let records = entry.pax_extensions().expect("records").expect("some");
            let records: Vec<(String, String)> = records
                .map(|record| record.expect("a record"))
                .map(|record| (record.key().expect("text").to_owned(), record.value().expect("text").to_owned()))
                .collect();
            let time = if wanted == 50 { "50.5".to_owned() } else { "100".to_owned() };
            assert_eq!(records[0], ("mtime".to_owned(), time));
            assert_eq!(records[1].1, "b=c");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            assert_eq!(content, [7; 600]);
        }
        assert_eq!(retimed(&archive(&[7, 9]), 3), retimed(&archive(&[8, 20_000]), 3));
    }

    #[test]
    fn what_is_no_archive_fails() {
        assert!(retime(&[1; 700][..], io::sink(), 1).is_err());
        let mut cut = archive(&[5]);
        cut.truncate(1600);
        assert!(retime(&cut[..], io::sink(), 1).is_err());
        assert_eq!(retimed(&[], 1), Vec::<u8>::new());
    }
}
