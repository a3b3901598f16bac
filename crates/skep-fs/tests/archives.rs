//! Archives into directories and back, on real file systems.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use skep_fs::Root;
use skep_fs::apply::{ApplyError, ExtractOptions, LayerTarget, Limits, apply_layer, extract};
use skep_fs::changes::{ChangeKind, changes};
use skep_fs::pack::{write_layer, write_tree};
use skep_fs::split::SplitWriter;
use skep_fs::tar::{Entry, Kind, Reader, Writer};

fn apply(bytes: &[u8], into: &Path, limits: Limits) -> Result<(), ApplyError> {
    let fs = into.join("fs");
    std::fs::create_dir_all(&fs).unwrap();
    let split = SplitWriter::new(std::fs::File::create(into.join("split")).unwrap()).unwrap();
    apply_layer(bytes, &Root::open(&fs).unwrap(), LayerTarget::new(split, into.join("kept")), limits).map(drop)
}

fn layer_of(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    write_layer(&Root::open(dir).unwrap(), &|_| true, &mut out).unwrap();
    out
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        link: Vec::new(),
        stored: 0,
        size: 0,
        pieces: None,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1_500_000_000, 0),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        let size = data.len() as u64;
        let sized = Entry { size, stored: size, ..entry.clone() };
        writer.entry(&sized, Some(&mut data.as_slice())).unwrap();
    }
    writer.finish().unwrap()
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let name = prop::sample::select(vec!["a", "b", "a/b", "a/c", "a/c/d", "b/x", ".wh.a", "a/.wh.b", "b/.wh..wh..opq"]);
    let kind = prop::sample::select(vec![Kind::File, Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Char]);
    let long = prop::sample::select(vec![String::new(), "l".repeat(120), "ü".repeat(60)]);
    let numbers = (0u32..0o10000, 0u32..4_000_000_000, 0i64..9_000_000_000, 0u32..1_000_000_000);
    (name, kind, long, numbers, prop::collection::vec(any::<u8>(), 0..2000)).prop_map(|(name, kind, long, n, data)| {
        let (mode, uid, seconds, nanoseconds) = n;
        let mark = name.contains(".wh.");
        let kind = if mark { Kind::File } else { kind };
        let path = if mark { name.to_owned() } else { format!("{name}{long}") };
        let link = if kind == Kind::Symlink { b"../a/c".to_vec() } else { Vec::new() };
        let xattrs = match kind {
            Kind::File if data.len() > 1000 => vec![(b"user.note".to_vec(), data[..9].to_vec())],
            _ => Vec::new(),
        };
        let described =
            Entry { mode, uid, gid: uid / 2, mtime: (seconds, nanoseconds), link, xattrs, ..entry(&path, kind) };
        let described = Entry { device: if kind == Kind::Char { (5, 300) } else { (0, 0) }, ..described };
        (described, if kind == Kind::File && !mark { data } else { Vec::new() })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was applied, packed, applied and packed again is the same. Archives that are refused (a file as a
    /// directory, say) are fine too.
    #[test]
    fn packing_what_was_applied_is_stable(entries in prop::collection::vec(any_entry(), 0..14)) {
        let dir = tempfile::tempdir().unwrap();
        if apply(&archive(&entries), &dir.path().join("one"), Limits::default()).is_ok() {
            let first = layer_of(&dir.path().join("one/fs"));
            apply(&first, &dir.path().join("two"), Limits::default()).unwrap();
            prop_assert!(first == layer_of(&dir.path().join("two/fs")));
        }
    }

    /// No bytes make the reader panic or read for ever.
    #[test]
    fn the_reader_survives_anything(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), flip in any::<bool>()) {
        if flip {
            let whole = archive(&[(entry("x", Kind::File), vec![1; 700]), (entry("ü", Kind::Dir), Vec::new())]);
            let index = bytes.first().map_or(0, |byte| usize::from(*byte) * 37 % whole.len());
            bytes = whole;
            bytes[index] ^= 0x55;
        }
        let mut reader = Reader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next_entry() {
            while matches!(reader.read_data(&mut [0; 512]), Ok(1..)) {}
        }
    }
}

#[test]
fn an_archive_may_end_with_its_last_byte_of_data() {
    let whole = archive(&[(entry("x", Kind::File), vec![1; 700])]);
    let read = |bytes: &[u8]| -> Result<usize, skep_fs::tar::TarError> {
        let (mut reader, mut count) = (Reader::new(bytes), 0);
        while reader.next_entry()?.is_some() {
            while let size @ 1.. = reader.read_data(&mut [0; 512])? {
                count += size;
            }
        }
        Ok(count)
    };
    let end = 512 + 700;
    for length in [whole.len(), end] {
        assert_eq!(read(&whole[..length]).unwrap(), 700, "{length} bytes");
    }
    for cut in [end - 1, end + 5] {
        assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
    }
}

#[test]
fn bits_and_attributes_survive() {
    let dir = tempfile::tempdir().unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let mut file = entry("ping", Kind::File);
    (file.mode, file.uid, file.mtime) = (0o4755, 1000, (-5, 250_000_000));
    file.xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.note".to_vec(), b"a=b\n".to_vec()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
    ];
    let null = Entry { device: (1, 3), mode: 0o666, ..entry("null", Kind::Char) };
    apply(&archive(&[(file, b"x".to_vec()), (null, Vec::new())]), dir.path(), Limits::default()).unwrap();
    let root = Root::open(&dir.path().join("fs")).unwrap();
    let xattr = |name: &str| skep_sys::xattr::get_at(&root, OsStr::new("ping"), OsStr::new(name)).unwrap();
    assert_eq!(xattr("security.capability"), Some(capability));
    assert_eq!(xattr("user.note").as_deref(), Some(&b"a=b\n"[..]));
    assert_eq!(xattr("trusted.overlay.redirect"), None);
    let stat = dir.path().join("fs/ping").metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime(), stat.mtime_nsec()), (0o4755, 1000, -5, 250_000_000));
    let null = dir.path().join("fs/null").metadata().unwrap();
    assert!(null.file_type().is_char_device() && null.mode() & 0o777 == 0o666);
}

#[test]
fn limits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<_> = (0..20).map(|n| (entry(&format!("f{n}"), Kind::File), vec![0; 100])).collect();
    let bytes = archive(&many);
    let few = Limits { entries: 10, ..Limits::default() };
    assert!(matches!(apply(&bytes, &dir.path().join("1"), few), Err(ApplyError::TooManyEntries(10))));
    let small = Limits { bytes: 500, ..Limits::default() };
    assert!(matches!(apply(&bytes, &dir.path().join("2"), small), Err(ApplyError::TooLarge(500))));
}

#[test]
fn copying_into_a_tree_stays_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root_path, outside) = (dir.path().join("root"), dir.path().join("outside"));
    std::fs::create_dir_all(root_path.join("data/sub")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    symlink(&outside, root_path.join("data/out")).unwrap();
    symlink("../../../../../../outside", root_path.join("data/up")).unwrap();
    let root = Root::open(&root_path).unwrap();
    let put = |entries: &[(Entry, Vec<u8>)], options: &ExtractOptions| {
        extract(archive(entries).as_slice(), &root, Path::new("/data"), options)
    };
    let file = |name: &str| (entry(name, Kind::File), b"x".to_vec());
    let options = ExtractOptions::default();
    for name in ["out/f", "up/f", "../../f"] {
        assert!(put(&[file(name)], &options).is_err(), "{name}");
    }
    put(&[file("out"), file("/abs/f"), file(".wh.kept")], &options).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(root_path.join("data/out").symlink_metadata().unwrap().is_file());
    assert!(root_path.join("data/abs/f").is_file() && root_path.join("data/.wh.kept").is_file());
    let keep = ExtractOptions { keep_directories: true, owner: Some((7, 8)), ..options };
    assert!(matches!(put(&[file("sub")], &keep), Err(ApplyError::DirectoryByOther(..))));
    let directory = (entry("out", Kind::Dir), Vec::new());
    assert!(matches!(put(&[directory], &keep), Err(ApplyError::OtherByDirectory(..))));
    put(&[file("sub/f")], &keep).unwrap();
    let owned = root_path.join("data/sub/f").metadata().unwrap();
    assert_eq!((owned.uid(), owned.gid()), (7, 8));
}

#[test]
fn trees_are_packed_under_the_name_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("etc/d")).unwrap();
    std::fs::write(dir.path().join("etc/d/f"), b"hello").unwrap();
    symlink("/etc/d", dir.path().join("link")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let names = |path: &str, base: &str| {
        let mut out = Vec::new();
        write_tree(&root, Path::new(path), OsStr::new(base), &mut out).unwrap();
        let mut reader = Reader::new(out.as_slice());
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            while reader.read_data(&mut [0; 512]).unwrap() > 0 {}
            names.push(String::from_utf8(entry.path).unwrap());
        }
        names
    };
    assert_eq!(names("/etc/d", "x"), ["x/", "x/f"]);
    assert_eq!(names("/etc/d/f", "g"), ["g"]);
    assert_eq!(names("/link", "link"), ["link"]);
    assert_eq!(names("/link/", "d"), ["d/", "d/f"]);
    assert_eq!(names("/", ""), ["etc/", "etc/d/", "etc/d/f", "link"]);
}

#[test]
fn changes_are_listed_as_docker_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
    for path in
        ["lower/etc/apt", "lower/var/lib", "lower/usr", "upper/etc/apt", "upper/var", "upper/usr", "upper/new/sub"]
    {
        std::fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for (path, data) in
        [("lower/etc/hosts", "1"), ("lower/var/old", "1"), ("upper/etc/hosts", "2"), ("upper/new/sub/f", "3")]
    {
        std::fs::write(dir.path().join(path), data).unwrap();
    }
    let upper_root = Root::open(&upper).unwrap();
    rustix::fs::mknodat(
        upper_root.open_at(Path::new("var"), rustix::fs::OFlags::RDONLY, 0).unwrap(),
        "old",
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    for same in ["etc/apt", "usr", "var", "etc"] {
        let from = Root::open(&lower.join(same)).unwrap();
        skep_fs::apply::copy_metadata(&from, &Root::open(&upper.join(same)).unwrap()).unwrap();
    }
    std::fs::set_permissions(upper.join("etc/apt"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let found = changes(&upper_root, &[Root::open(&lower).unwrap()]).unwrap();
    let listed: Vec<String> = found
        .iter()
        .map(|change| {
            let letter = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", change.path.display())
        })
        .collect();
    let wanted =
        ["C /etc", "C /etc/apt", "C /etc/hosts", "A /new", "A /new/sub", "A /new/sub/f", "C /var", "D /var/old"];
    assert_eq!(listed, wanted);
}
