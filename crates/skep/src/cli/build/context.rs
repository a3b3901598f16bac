//! Where the files of a build come from: `PATH | URL | -`.

use std::io::Read;
use std::path::{Path, PathBuf};

/// The context and the Dockerfile as the command line names them, found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Something that the engine fetches: a git repository or an archive of a web server.
    Remote(String),
    /// An archive on standard input, of which these bytes were read already.
    Archive(Vec<u8>),
    /// A Dockerfile on standard input, without any other files.
    Text(Vec<u8>),
}

/// Bytes that tell an archive from a text: a block of tar.
const HEAD: usize = 512;

/// Finds out what `word` means.
pub(super) fn find(word: &str, stdin: &mut impl Read) -> Result<Found, String> {
    if word == "-" {
        return standard_input(stdin);
    }
    let path = Path::new(word);
    if !is_remote(word) || path.is_dir() {
        return match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Found::Directory(path.to_owned())),
            Ok(_) => Err(format!("unable to prepare context: path {word:?} is not a directory")),
            Err(_) => Err(format!("unable to prepare context: path {word:?} not found")),
        };
    }
    Ok(Found::Remote(word.to_owned()))
}

fn standard_input(stdin: &mut impl Read) -> Result<Found, String> {
    let mut head = Vec::new();
    let read = |error: std::io::Error| format!("failed to peek context header from STDIN: {error}");
    stdin.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(read)?;
    if is_archive(&head) {
        return Ok(Found::Archive(head));
    }
    stdin.read_to_end(&mut head).map_err(read)?;
    Ok(Found::Text(head))
}

/// Whether bytes begin an archive: tar as it is, or compressed by gzip, bzip2, xz or zstd.
pub(super) fn is_archive(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] =
        [&[0x1f, 0x8b, 0x08], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    MAGIC.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

/// Whether this names something elsewhere: a URL, or a git repository in one of the forms that git knows.
pub(super) fn is_remote(word: &str) -> bool {
    const PREFIXES: [&str; 6] = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_context_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = || std::io::Cursor::new(Vec::new());
        let path = folder.path().display().to_string();
        assert_eq!(find(&path, &mut none()), Ok(Found::Directory(folder.path().into())));
        assert_eq!(
            find("https://example.com/x.git#main", &mut none()),
            Ok(Found::Remote("https://example.com/x.git#main".into()))
        );
        assert_eq!(find("git@host:x.git", &mut none()), Ok(Found::Remote("git@host:x.git".into())));
        assert_eq!(find("nope", &mut none()), Err("unable to prepare context: path \"nope\" not found".to_owned()));
    }

    #[test]
    fn standard_input_is_a_dockerfile_or_an_archive() {
        let text = b"FROM scratch\n".to_vec();
        assert_eq!(find("-", &mut std::io::Cursor::new(text.clone())), Ok(Found::Text(text)));
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        archive.append_data(&mut header, "Dockerfile", std::io::empty()).expect("append");
        let archive = archive.into_inner().expect("finish");
        let Ok(Found::Archive(head)) = find("-", &mut std::io::Cursor::new(&archive)) else { panic!("an archive") };
        assert_eq!(head, archive[..HEAD]);
        assert!(is_archive(&[0x1f, 0x8b, 0x08, 0]));
    }
}
