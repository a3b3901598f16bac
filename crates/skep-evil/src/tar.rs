//! Tar archives, header by header, with anything in them.

/// Bytes of a header.
pub const BLOCK: usize = 512;

/// An archive that is being made.
#[derive(Debug, Default, Clone)]
pub struct Tar(Vec<u8>);

/// A header; its fields are written as they are.
#[derive(Debug, Clone)]
pub struct Header {
    /// At most 100 bytes; use [`Tar::long`] for more.
    pub name: Vec<u8>,
    /// Octal.
    pub mode: u32,
    /// As in the field: octal digits or base 256.
    pub uid: Vec<u8>,
    /// As in the field.
    pub gid: Vec<u8>,
    /// As in the field.
    pub size: Vec<u8>,
    /// As in the field.
    pub mtime: Vec<u8>,
    /// The type.
    pub flag: u8,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Other magic than ustar's.
    pub gnu: bool,
    /// Bytes put somewhere at last, before the sum is taken.
    pub patch: Vec<(usize, Vec<u8>)>,
}

/// An entry of this type and name, of no size.
pub fn header(flag: u8, name: impl AsRef<[u8]>) -> Header {
    Header {
        name: name.as_ref().to_vec(),
        mode: if flag == b'5' { 0o755 } else { 0o644 },
        uid: octal(0, 8),
        gid: octal(0, 8),
        size: octal(0, 12),
        mtime: octal(1_500_000_000, 12),
        flag,
        link: Vec::new(),
        device: (0, 0),
        gnu: false,
        patch: Vec::new(),
    }
}

/// A number as octal digits, for a field of so many bytes.
pub fn octal(value: u64, field: usize) -> Vec<u8> {
    format!("{value:0width$o}\0", width = field - 1).into_bytes()
}

/// A number in base 256, for a field of so many bytes.
pub fn base256(value: i128, field: usize) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let mut out = vec![if value < 0 { 0xff } else { 0 }; field.saturating_sub(bytes.len())];
    out.extend_from_slice(&bytes[bytes.len().saturating_sub(field)..]);
    out[0] |= 0x80;
    out
}

/// PAX records.
pub fn records<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        let body = [b" ", key.as_ref(), b"=", value.as_ref(), b"\n"].concat();
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        out.extend_from_slice(length.to_string().as_bytes());
        out.extend_from_slice(&body);
    }
    out
}

impl Header {
    /// With this target.
    pub fn to(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    /// The block, with the right sum.
    pub fn block(&self) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, room: usize, bytes: &[u8]| {
            let length = bytes.len().min(room);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, &self.name);
        put(100, 8, &octal(u64::from(self.mode), 8));
        put(108, 8, &self.uid);
        put(116, 8, &self.gid);
        put(124, 12, &self.size);
        put(136, 12, &self.mtime);
        put(156, 1, &[self.flag]);
        put(157, 100, &self.link);
        put(257, 8, if self.gnu { b"ustar  \0" } else { b"ustar\x0000" });
        put(329, 8, &octal(u64::from(self.device.0), 8));
        put(337, 8, &octal(u64::from(self.device.1), 8));
        for (at, bytes) in &self.patch {
            put(*at, BLOCK - at, bytes);
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    /// An empty archive.
    pub fn new() -> Self {
        Tar::default()
    }

    /// A header as it is, whatever its size field says.
    pub fn raw(mut self, header: &Header) -> Self {
        self.0.extend_from_slice(&header.block());
        self
    }

    /// Any bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A header with data behind it, padded.
    pub fn data(self, header: Header, data: &[u8]) -> Self {
        let sized = Header { size: octal(data.len() as u64, 12), ..header };
        let padding = data.len().next_multiple_of(BLOCK) - data.len();
        self.raw(&sized).bytes(data).bytes(&vec![0; padding])
    }

    /// A file.
    pub fn file(self, name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        self.data(header(b'0', name), data)
    }

    /// A directory.
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(&header(b'5', name))
    }

    /// A symbolic link.
    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.linked(b'2', name.as_ref(), target.as_ref())
    }

    /// A hard link.
    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.linked(b'1', name.as_ref(), target.as_ref())
    }

    fn linked(self, flag: u8, name: &[u8], target: &[u8]) -> Self {
        let tar = if target.len() > 100 { self.pax([("linkpath", target)]) } else { self };
        tar.long(header(flag, name).to(target))
    }

    /// An entry without data whose name may be long.
    pub fn long(self, header: Header) -> Self {
        if header.name.len() > 100 { self.pax([("path", header.name.clone())]).raw(&header) } else { self.raw(&header) }
    }

    /// PAX records for the next entry.
    pub fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let records = records(pairs);
        self.data(header(b'x', "pax"), &records)
    }

    /// The archive with its end.
    pub fn end(self) -> Vec<u8> {
        self.bytes(&[0; 2 * BLOCK]).0
    }

    /// The archive without its end.
    pub fn cut(self) -> Vec<u8> {
        self.0
    }
}
