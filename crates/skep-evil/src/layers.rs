//! Hostile layers, small ones. As plain archives of files (`cp`, `import`) they are as hostile.

use std::io::Write;
use std::path::Path;

use crate::Fate;
use crate::tar::{BLOCK, Header, Tar, base256, header, octal};

/// A layer, with what is below it.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Names the case in failures.
    pub name: &'static str,
    /// Layers below, lowest first; they are harmless alone.
    pub below: Vec<Vec<u8>>,
    /// The archive.
    pub bytes: Vec<u8>,
    /// What becomes of it as a layer.
    pub fate: Fate,
}

fn case(name: &'static str, fate: Fate, bytes: Vec<u8>) -> Layer {
    Layer { name, below: Vec::new(), bytes, fate }
}

/// All of them. `outside` is an absolute path on the host: a [`Canary`](crate::canary::Canary)'s.
pub fn all(outside: &Path) -> Vec<Layer> {
    let outside = outside.to_str().expect("a path in UTF-8");
    let mut cases = names(outside);
    cases.extend(links(outside));
    cases.extend(whiteouts(outside));
    cases.extend(kinds());
    cases.extend(numbers());
    cases.extend(extensions());
    cases.extend(sparse());
    cases.extend(streams());
    cases
}

fn up(outside: &str) -> String {
    format!("{}{}", "../".repeat(30), outside.trim_start_matches('/'))
}

/// Names that lead elsewhere, or are none (CVE-2018-15664, CVE-2021-32760).
fn names(outside: &str) -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let evil = b"evil";
    let file = |name: &str| Tar::new().file(name, evil).end();
    let long = vec![b'n'; 300];
    let deep = "d/".repeat(5000);
    vec![
        case("an absolute name", Harmless, Tar::new().pax([("path", format!("{outside}/file"))]).file("x", evil).end()),
        case(
            "a name that goes up",
            Refused,
            Tar::new().pax([("path", format!("{}/file", up(outside)))]).file("x", evil).end(),
        ),
        case("a name that goes up behind a directory", Refused, file("a/../../file")),
        case("a name that goes up and comes back", Harmless, file("a/../b")),
        case("the directory above", Refused, Tar::new().dir("..").end()),
        case("a link above", Refused, Tar::new().symlink("../link", "file").end()),
        case("a device above", Refused, Tar::new().raw(&Header { device: (1, 3), ..header(b'3', "../null") }).end()),
        case("a name of nothing", Refused, file("")),
        case("a name of a dot", Refused, file(".")),
        case("a name of slashes", Refused, file("///")),
        case("the top as a link", Refused, Tar::new().symlink("./", outside).end()),
        case("the top as a directory, twice", Harmless, Tar::new().dir("./").dir("/").end()),
        case("a name with a newline and an escape", Harmless, file("new\nline\u{1b}[31m")),
        case("an error with a newline and an escape", Refused, Tar::new().hard_link("a", "mis\nsing\u{1b}[31m").end()),
        case("a name that is not UTF-8", Harmless, Tar::new().file([b'a', 0xff, 0xfe, b'b'], evil).end()),
        case("a name with a zero byte", Refused, Tar::new().pax([("path", &b"good\0evil"[..])]).file("x", evil).end()),
        case(
            "a name that is too long for the kernel",
            Refused,
            Tar::new().pax([("path", &long)]).file("x", evil).end(),
        ),
        case("a path that is too deep", Refused, Tar::new().pax([("path", deep.as_bytes())]).dir("x").end()),
        case("a name with slashes behind it", Harmless, file("plain//")),
        case(
            "a directory of the oldest kind with data",
            Harmless,
            Tar::new().data(header(0, "old/"), &[7; 700]).file("after", evil).end(),
        ),
        case("a directory below a file", Refused, Tar::new().file("f", evil).file("f/g", evil).end()),
        case(
            "a file, a directory, a file again",
            Harmless,
            Tar::new()
                .file("x", b"1")
                .dir("x")
                .file("x/y", b"2")
                .file("x", b"3")
                .dir("x")
                .symlink("x", "y")
                .file("x", b"4")
                .end(),
        ),
        case("one name many times", Either, (0..50).fold(Tar::new(), |tar, n| tar.file("same", &[n; 100])).end()),
    ]
}

/// Links, and what is written through them (CVE-2019-19921, CVE-2021-30465, CVE-2025-47290 by mechanism).
fn links(outside: &str) -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let through = |target: &str| Tar::new().symlink("l", target).file("l/file", b"evil").end();
    let below = |target: &str| vec![Tar::new().symlink("l", target).end()];
    let onto = Tar::new().file("l/file", b"evil").dir("l/sub").file("l/sub/script", b"evil").end();
    let chain = |links: usize| {
        let tar = Tar::new().dir("end");
        let tar = (0..links).fold(tar, |tar, n| tar.symlink(format!("l{n}"), format!("l{}", n + 1)));
        tar.symlink(format!("l{links}"), "end").file("l0/x", b"evil").end()
    };
    vec![
        case("a link to the host, and a file through it", Either, through(outside)),
        case("a link upwards, and a file through it", Either, through(&up(outside))),
        case(
            "a link to a file of the host, overwritten",
            Harmless,
            Tar::new().symlink("l", format!("{outside}/file")).file("l", b"evil").end(),
        ),
        case(
            "a link to the host becomes a directory",
            Harmless,
            Tar::new().symlink("l", outside).dir("l").file("l/file", b"evil").end(),
        ),
        case("a link through itself", Refused, through("l")),
        case("links in a circle", Refused, Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"evil").end()),
        case("a chain of 39 links", Harmless, chain(38)),
        case("a chain of 60 links", Refused, chain(60)),
        case("a link to the working directory of a process", Either, through("/proc/self/cwd")),
        case("a link to a descriptor", Either, through("/proc/self/fd/3")),
        case(
            "a hard link to the host",
            Refused,
            Tar::new().hard_link("h", format!("{outside}/file")).file("h", b"evil").end(),
        ),
        case("a hard link upwards", Refused, Tar::new().hard_link("h", format!("{}/file", up(outside))).end()),
        case(
            "a hard link through a link",
            Refused,
            Tar::new().symlink("l", outside).hard_link("h", "l/file").file("h", b"evil").end(),
        ),
        case(
            "a hard link to a link, and a file through it",
            Harmless,
            Tar::new().symlink("l", format!("{outside}/file")).hard_link("h", "l").file("h", b"evil").end(),
        ),
        case("a hard link to nothing", Refused, Tar::new().hard_link("h", "").end()),
        case("a hard link to a directory", Refused, Tar::new().dir("d").hard_link("h", "d").end()),
        case("a hard link to itself", Refused, Tar::new().hard_link("h", "h").end()),
        case("a hard link onto itself", Harmless, Tar::new().file("h", b"1").hard_link("h", "./h").end()),
        case("a hard link to the top", Refused, Tar::new().hard_link("h", ".").end()),
        case("a link with an empty target", Refused, Tar::new().symlink("l", "").end()),
        case("a link whose target is too long", Refused, Tar::new().symlink("l", "t".repeat(5000)).end()),
        Layer { below: below(outside), ..case("a link to the host in the layer below", Harmless, onto.clone()) },
        Layer { below: below(&up(outside)), ..case("a link upwards in the layer below", Harmless, onto) },
    ]
}

/// Marks of deletion where they make no sense.
fn whiteouts(outside: &str) -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let mark = |name: &str| Tar::new().file(name, b"").end();
    vec![
        case("a whiteout of nothing", Refused, mark(".wh.")),
        case("a whiteout of the directory", Refused, mark("a/.wh..")),
        case("a whiteout of the directory above", Refused, mark("a/.wh...")),
        case("a whiteout above", Refused, mark("../.wh.file")),
        case("a whiteout of a whiteout", Harmless, mark(".wh..wh.file")),
        case("book-keeping of aufs", Harmless, mark(".wh..wh.aufs")),
        case("an opaque top", Harmless, mark(".wh..wh..opq")),
        case(
            "an opaque directory that is a file",
            Refused,
            Tar::new().file("f", b"x").file("f/.wh..wh..opq", b"").end(),
        ),
        case(
            "an opaque mark through a link",
            Either,
            Tar::new().symlink("l", outside).file("l/.wh..wh..opq", b"").end(),
        ),
        case("a whiteout through a link", Either, Tar::new().symlink("l", outside).file("l/.wh.file", b"").end()),
        case("a whiteout with data", Harmless, Tar::new().file(".wh.a", &[9; 3000]).file("b", b"1").end()),
        case("a whiteout that is a link", Harmless, Tar::new().symlink(".wh.a", outside).end()),
        case("a whiteout that is a directory with files", Either, Tar::new().dir(".wh.a").file(".wh.a/b", b"1").end()),
        case("a hard link to a whiteout", Refused, Tar::new().file(".wh.a", b"").hard_link("h", ".wh.a").end()),
        case("a hard link to what was deleted", Either, Tar::new().file(".wh.a", b"").hard_link("h", "a").end()),
        case(
            "deleted, made, deleted",
            Harmless,
            Tar::new().file(".wh.a", b"").dir("a").file("a/b", b"1").file(".wh.a", b"").end(),
        ),
        case("a whiteout made by hand", Harmless, Tar::new().raw(&header(b'3', "w")).file("w/x", b"evil").end()),
    ]
}

/// Things other than files.
fn kinds() -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let device = |flag, name: &str, device| Header { device, ..header(flag, name) };
    vec![
        // Docker allows them, too. They are never opened.
        case(
            "devices",
            Harmless,
            Tar::new()
                .raw(&device(b'3', "mem", (1, 1)))
                .raw(&device(b'4', "sda", (8, 0)))
                .raw(&device(b'3', "odd", (2_000_000, 1)))
                .end(),
        ),
        case("a file over a device", Harmless, Tar::new().raw(&device(b'3', "tty", (5, 0))).file("tty", b"evil").end()),
        case(
            "a file below a device",
            Refused,
            Tar::new().raw(&device(b'3', "tty", (5, 0))).file("tty/x", b"evil").end(),
        ),
        case("a FIFO, and a file over it", Harmless, Tar::new().raw(&header(b'6', "f")).file("f", b"evil").end()),
        case("a FIFO where accounts are", Harmless, Tar::new().raw(&header(b'6', "etc/passwd")).end()),
        case(
            "accounts that are the daemon's environment",
            Harmless,
            Tar::new().symlink("etc/passwd", "/proc/self/environ").end(),
        ),
        case(
            "a program of another user that becomes root's",
            Harmless,
            Tar::new().data(Header { mode: 0o6755, uid: octal(1000, 8), ..header(b'0', "su") }, b"x").end(),
        ),
        case("a contiguous file", Either, Tar::new().data(header(b'7', "c"), b"x").end()),
        case("an unknown type", Refused, Tar::new().data(header(b'?', "x"), b"x").end()),
        case(
            "a directory with a size",
            Either,
            Tar::new().raw(&Header { size: octal(1024, 12), ..header(b'5', "d") }).end(),
        ),
        case(
            "a link with a size",
            Either,
            Tar::new().raw(&Header { size: octal(1 << 30, 12), ..header(b'2', "l").to("x") }).end(),
        ),
        case("nothing", Harmless, Tar::new().end()),
        case(
            "no mode at all",
            Harmless,
            Tar::new().raw(&Header { mode: 0, ..header(b'5', "d") }).file("d/x", b"1").end(),
        ),
    ]
}

/// Numbers at their edges (CVE-2024-40635: a large owner that becomes root).
fn numbers() -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let owned = |uid: Vec<u8>| Tar::new().raw(&Header { uid, ..header(b'0', "f") }).end();
    let sized = |size: Vec<u8>| Tar::new().raw(&Header { size, ..header(b'0', "f") }).end();
    let timed = |mtime: Vec<u8>| Tar::new().raw(&Header { mtime, ..header(b'0', "f") }).end();
    let pax = |key: &'static str, value: &str| Tar::new().pax([(key, value)]).file("f", b"x").end();
    vec![
        case("an owner above 2^31", Harmless, owned(base256(3_000_000_000, 8))),
        case("the largest owner", Harmless, owned(base256(4_294_967_294, 8))),
        case("the owner -1, unsigned", Refused, owned(base256(4_294_967_295, 8))),
        case("the owner -1, as a record", Refused, pax("uid", "4294967295")),
        case("the group -1, as a record", Refused, pax("gid", "4294967295")),
        case("the owner -1", Refused, owned(base256(-1, 8))),
        case("the owner 2^32", Refused, owned(base256(1 << 32, 8))),
        case("the owner 2^32, as a record", Refused, pax("uid", "4294967296")),
        case("an owner that is no number", Refused, owned(b"root\0".to_vec())),
        case("a negative size", Refused, sized(base256(-1, 12))),
        case("the size -2^63", Refused, sized(base256(i128::from(i64::MIN), 12))),
        case("the size 2^63", Refused, sized(base256(1 << 63, 12))),
        case("the size 2^63 - 1", Refused, sized(base256(i128::from(i64::MAX), 12))),
        case("the largest base 256 size", Refused, sized(vec![0xbf; 12])),
        case("a size with a nine in it", Refused, sized(b"00000000009\0".to_vec())),
        case("a size that is not there", Harmless, sized(vec![0; 12])),
        case("a negative size, as a record", Refused, pax("size", "-1")),
        case("a large size, as a record", Refused, pax("size", "99999999999999999999")),
        case("a size as a record, larger than the archive", Refused, pax("size", "1000000")),
        case("a time before all time", Either, timed(base256(i128::from(i64::MIN), 12))),
        case("a time after all time", Either, timed(base256(i128::from(i64::MAX), 12))),
        case("a time that is no number", Refused, pax("mtime", "yesterday")),
        case("a time of many digits", Refused, pax("mtime", "9999999999999999999999.5")),
    ]
}

/// Extension headers and attributes.
fn extensions() -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let xattr =
        |name: &str, value: &[u8]| Tar::new().pax([(format!("SCHILY.xattr.{name}"), value)]).file("f", b"x").end();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let broken = |record: &[u8]| Tar::new().data(header(b'x', "pax"), record).file("f", b"x").end();
    let huge = |flag| Tar::new().raw(&Header { size: octal(1 << 32, 12), ..header(flag, "pax") }).end();
    let global = Tar::new().data(header(b'g', "pax"), &crate::tar::records([("path", "../file")]));
    vec![
        case("a capability", Harmless, xattr("security.capability", capability)),
        case("an attribute that redirects the overlay", Harmless, xattr("trusted.overlay.redirect", b"/etc")),
        case("an attribute that makes opaque", Harmless, xattr("trusted.overlay.opaque", b"y")),
        case("an attribute of an unprivileged overlay", Harmless, xattr("user.overlay.redirect", b"/etc")),
        case("an attribute that is too large", Refused, xattr("user.big", &vec![1; 70_000])),
        case("an attribute without a name", Either, xattr("", b"x")),
        case("an attribute with a zero in its name", Refused, xattr("user.a\0b", b"x")),
        case(
            "a thousand attributes",
            Either,
            (0..1000)
                .fold(Tar::new(), |tar, n| tar.pax([(format!("SCHILY.xattr.user.n{n}"), "v")]))
                .file("f", b"x")
                .end(),
        ),
        case("a global header that goes up", Either, global.file("f", b"x").end()),
        case("a record without a length", Refused, broken(b"path=x\n")),
        case("a record that is longer than all", Refused, broken(b"99999 path=x\n")),
        case("a record of no length", Refused, broken(b"0 path=x\n")),
        case("a record of a negative length", Refused, broken(b"-9 path=x\n")),
        case("a record without an end", Refused, broken(b"9 path=xx")),
        case("records of 4 GiB", Refused, huge(b'x')),
        case("global records of 4 GiB", Refused, huge(b'g')),
        case("a name of 4 GiB", Refused, huge(b'L')),
        case("a target of 4 GiB", Refused, huge(b'K')),
        case("headers without an entry", Either, Tar::new().pax([("path", "x")]).end()),
        case(
            "headers without end",
            Refused,
            (0..9000).fold(Tar::new(), |tar, _| tar.raw(&header(b'g', "pax"))).file("f", b"x").end(),
        ),
        case(
            "a GNU name that goes up",
            Refused,
            Tar::new().data(header(b'L', "././@LongLink"), b"../file\0").file("f", b"x").end(),
        ),
        case(
            "a GNU target that goes up",
            Refused,
            Tar::new().data(header(b'K', "././@LongLink"), b"../file\0").hard_link("f", "x").end(),
        ),
    ]
}

/// Files with holes, in each of the four forms.
fn sparse() -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let exabyte = (1u64 << 60).to_string();
    let pax = |pairs: &[(&str, &str)], data: &[u8]| Tar::new().pax(pairs.iter().copied()).file("f", data).end();
    let zero = |size: &str, map: &str| {
        pax(&[("GNU.sparse.size", size), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", map)], b"data")
    };
    let one = |size: &str, map: &[u8]| {
        let mut data = map.to_vec();
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        data.extend_from_slice(b"data");
        pax(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "f"),
                ("GNU.sparse.realsize", size),
            ],
            &data,
        )
    };
    let old = |pieces: &[(u64, u64)], size: u64, more: u8| {
        let mut patch = Vec::new();
        for (at, (offset, length)) in pieces.iter().enumerate() {
            patch.push((386 + 24 * at, [octal(*offset, 12), octal(*length, 12)].concat()));
        }
        patch.push((482, vec![more]));
        patch.push((483, octal(size, 12)));
        Tar::new().data(Header { gnu: true, patch, ..header(b'S', "f") }, b"data")
    };
    vec![
        case("holes, PAX 0.1", Harmless, zero("1000000", "500000,4")),
        case("an exabyte of holes, PAX 0.1", Refused, zero(&exabyte, "0,4")),
        case("a map that goes back, PAX 0.1", Refused, zero("100", "50,2,10,2")),
        case("a map beyond the end, PAX 0.1", Refused, zero("100", "99,4")),
        case("a map of other data, PAX 0.1", Refused, zero("1000000", "0,9")),
        case("a map that overflows, PAX 0.1", Refused, zero("100", "18446744073709551615,4")),
        case("a map that is none, PAX 0.1", Refused, zero("100", "a,b")),
        case(
            "holes, PAX 0.0",
            Harmless,
            pax(&[("GNU.sparse.size", "100"), ("GNU.sparse.offset", "10"), ("GNU.sparse.numbytes", "4")], b"data"),
        ),
        case(
            "a length before its offset, PAX 0.0",
            Refused,
            pax(&[("GNU.sparse.numbytes", "4"), ("GNU.sparse.offset", "10")], b"data"),
        ),
        case("holes, PAX 1.0", Harmless, one("1000000", b"1\n500000\n4\n")),
        case("an exabyte of holes, PAX 1.0", Refused, one(&exabyte, b"1\n0\n4\n")),
        case("a map of a billion pieces, PAX 1.0", Refused, one("100", b"1000000000\n0\n4\n")),
        case("a map without an end, PAX 1.0", Refused, one("100", b"1")),
        case("a map of garbage, PAX 1.0", Refused, one("100", &[0xff; 512])),
        case("a name that goes up, PAX 1.0", Refused, {
            let mut data = b"1\n0\n4\n".to_vec();
            data.resize(BLOCK, 0);
            data.extend_from_slice(b"data");
            pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.name", "../file"), ("GNU.sparse.realsize", "4")], &data)
        }),
        case("holes, old GNU", Harmless, old(&[(500_000, 4)], 1_000_000, 0).end()),
        case("8 GiB of holes, old GNU", Either, old(&[(0, 4)], 0o77_777_777_777, 0).end()),
        case("a map that goes back, old GNU", Refused, old(&[(50, 2), (10, 2)], 100, 0).end()),
        case("maps without end, old GNU", Refused, {
            let start = old(&[(0, 4)], 4, 1).cut();
            let mut block = [0u8; BLOCK];
            block[504] = 1;
            (0..9000).fold(Tar::new().bytes(&start[..BLOCK]), |tar, _| tar.bytes(&block)).end()
        }),
        case(
            "a link with holes",
            Either,
            Tar::new().pax([("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,0")]).symlink("l", "x").end(),
        ),
    ]
}

/// Streams that are damaged, or more than one.
fn streams() -> Vec<Layer> {
    use Fate::{Either, Harmless, Refused};
    let good = || Tar::new().file("f", &[1; 3000]).file("g", b"2").end();
    let (first, second) = (good()[..1000].to_vec(), good()[1000..].to_vec());
    let zipped = gzip(&good());
    let mut wrong_sum = zipped.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    let mut flipped = good();
    flipped[700] ^= 1;
    let lone = [Tar::new().file("f", b"1").cut(), vec![0; BLOCK], Tar::new().file("../file", b"evil").end()].concat();
    vec![
        case("a wrong sum", Refused, [vec![b'x'; BLOCK], vec![0; 2 * BLOCK]].concat()),
        case("a changed byte of data", Harmless, flipped),
        case("an archive that is cut in a header", Refused, good()[..BLOCK * 8 + 100].to_vec()),
        case("an archive that is cut in data", Refused, good()[..2000].to_vec()),
        case("an archive without an end", Harmless, Tar::new().file("f", b"1").cut()),
        case("an archive behind the end", Harmless, [good(), Tar::new().file("../file", b"evil").end()].concat()),
        case("an archive behind one block of zeros", Refused, lone),
        case("garbage behind the end", Harmless, [good(), vec![0xaa; 50_000]].concat()),
        case("gzip in two members", Harmless, [gzip(&first), gzip(&second)].concat()),
        case("gzip with empty members", Harmless, [(0..500).flat_map(|_| gzip(b"")).collect(), gzip(&good())].concat()),
        case("gzip that is cut", Refused, zipped[..zipped.len() / 2].to_vec()),
        case("gzip without its sum", Refused, zipped[..zipped.len() - 8].to_vec()),
        case("gzip with a wrong sum", Refused, wrong_sum),
        case("gzip with garbage behind it", Either, [gzip(&good()), vec![0xaa; 1000]].concat()),
        case(
            "gzip with a name without an end",
            Refused,
            [b"\x1f\x8b\x08\x08\0\0\0\0\0\x03".to_vec(), vec![b'n'; 200_000]].concat(),
        ),
        case("gzip in gzip", Refused, gzip(&gzip(&good()))),
        case("zstd in two frames", Harmless, [zstd_of(&first), zstd_of(&second)].concat()),
        case(
            "zstd behind a skippable frame",
            Harmless,
            [vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], zstd_of(&good())].concat(),
        ),
        case("zstd that is cut", Refused, zstd_of(&good())[..20].to_vec()),
        // A frame that asks for a window of 2 GiB: 0xA8 is an exponent of 21 above 10.
        case(
            "zstd that wants 2 GiB for itself",
            Refused,
            [vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8], vec![0; 100]].concat(),
        ),
        case("bzip2 that is cut", Refused, b"BZh91AY&SY\0\0\0\0".to_vec()),
        case("xz that is cut", Refused, vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4]),
        case("a text", Refused, b"no archive at all".to_vec()),
    ]
}

/// Compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}
