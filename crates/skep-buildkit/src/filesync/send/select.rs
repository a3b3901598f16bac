//! What of a tree is sent, from the patterns that the engine asks with.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use skep_dockerfile::glob::has_wildcards;
use skep_dockerfile::ignore::{Matcher, Matches};

use super::super::{SyncError, order};
use super::{Choose, Want};
use crate::session::Wanted;

/// Links that are followed for one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// Patterns of what is wanted and of what isn't, in the form of `.dockerignore`.
pub struct Patterns {
    include: Option<Matcher>,
    /// The patterns of `include` as exceptions: a directory is open if something below it may be wanted.
    reach: Matcher,
    exclude: Matcher,
    /// What the directories above the next path matched.
    above: Vec<Above>,
}

struct Above {
    path: String,
    include: Matches,
    exclude: Matches,
}

impl Patterns {
    /// For a tree with that root; links on the way to followed paths are wanted, and what they lead to inside the root.
    pub fn new(root: &OwnedFd, wanted: &Wanted) -> Result<Self, SyncError> {
        let mut include: BTreeSet<String> = wanted.include.iter().cloned().collect();
        let mut all = false;
        for path in &wanted.follow {
            for path in follow(root, path) {
                all |= path.is_empty() || path == ".";
                include.insert(path);
            }
        }
        let matcher =
            |patterns: &[String]| Matcher::new(patterns).map_err(|error| SyncError::protocol(error.to_string()));
        let include: Vec<String> = include.into_iter().collect();
        let reach: Vec<String> = include.iter().map(|pattern| format!("!{pattern}")).collect();
        let include = match all || include.is_empty() {
            true => None,
            false => Some(matcher(&include)?),
        };
        Ok(Patterns { include, reach: matcher(&reach)?, exclude: matcher(&wanted.exclude)?, above: Vec::new() })
    }
}

impl Choose for Patterns {
    fn want(&mut self, path: &str, is_directory: bool) -> Want {
        let parent = order::split(path).0;
        while self.above.last().is_some_and(|above| above.path != parent) {
            self.above.pop();
        }
        let above = self.above.last();
        let (out, exclude) = self.exclude.matches_below(path, above.map(|above| &above.exclude));
        let (wanted, include) = match &self.include {
            Some(matcher) => matcher.matches_below(path, above.map(|above| &above.include)),
            None => (true, Matches::default()),
        };
        if !is_directory {
            return if wanted && !out { Want::Yes } else { Want::No };
        }
        let closed = out && self.exclude.is_closed(path) || !wanted && self.reach.is_closed(path);
        if closed {
            return Want::No;
        }
        self.above.push(Above { path: path.to_owned(), include, exclude });
        if wanted && !out { Want::Yes } else { Want::Below }
    }
}

/// A path, the links on the way to it, and what they lead to. Where a name with wildcards comes, the rest stays as it is.
fn follow(root: &OwnedFd, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before: Vec<String> = Vec::new();
    let mut names: VecDeque<String> = parts(path).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            before.pop();
            continue;
        }
        before.push(name);
        if before.last().is_some_and(|name| has_wildcards(name)) {
            break;
        }
        let here = before.join("/");
        let Some(target) = link(root, &here) else { continue };
        found.push(here);
        links += 1;
        if links > LINKS_MAX {
            return found;
        }
        before.pop();
        if target.starts_with('/') {
            before.clear();
        }
        for name in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            names.push_front(name);
        }
    }
    before.extend(names);
    found.push(before.join("/"));
    found
}

fn parts(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned)
}

/// Where a link leads; none if it is no link. No link is followed on the way.
fn link(root: &OwnedFd, path: &str) -> Option<String> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parent, name) = order::split(path);
    let parent = if parent.is_empty() { "." } else { parent };
    let directory = rustix::fs::openat2(root, parent, flags, Mode::empty(), how).ok()?;
    let target = rustix::fs::readlinkat(directory, name, Vec::new()).ok()?;
    target.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(root: &std::path::Path, include: &[&str], exclude: &[&str], follow: &[&str]) -> Patterns {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let wanted =
            Wanted { include: texts(include), exclude: texts(exclude), follow: texts(follow), ..Wanted::default() };
        let root = std::fs::File::open(root).expect("open").into();
        Patterns::new(&root, &wanted).expect("patterns")
    }

    #[test]
    fn what_is_wanted_and_not_left_out_is_sent() {
        let place = tempfile::tempdir().expect("dir");
        let mut all = patterns(place.path(), &[], &["*.o", "!keep.o", "deep"], &[]);
        assert_eq!(all.want("a.o", false), Want::No);
        assert_eq!(all.want("deep", true), Want::No);
        assert_eq!(all.want("keep.o", false), Want::Yes);
        let mut some = patterns(place.path(), &["src/*.c"], &[], &[]);
        assert_eq!(some.want("other", true), Want::No);
        assert_eq!(some.want("src", true), Want::Below);
        assert_eq!(some.want("src/a.c", false), Want::Yes);
        assert_eq!(some.want("src/a.h", false), Want::No);
        let mut whole = patterns(place.path(), &["src"], &["**/x"], &[]);
        assert_eq!(whole.want("src", true), Want::Yes);
        assert_eq!(whole.want("src/a", true), Want::Yes);
        assert_eq!(whole.want("src/a/b", false), Want::Yes);
        assert_eq!(whole.want("src/a/x", false), Want::No);
        assert_eq!(whole.want("src/b", false), Want::Yes);
    }

    #[test]
    fn links_to_wanted_files_come_with_what_they_lead_to() {
        let place = tempfile::tempdir().expect("dir");
        std::fs::create_dir_all(place.path().join("real/deep")).expect("mkdir");
        std::os::unix::fs::symlink("real", place.path().join("link")).expect("symlink");
        std::os::unix::fs::symlink("/real/../../file", place.path().join("real/deep/up")).expect("symlink");
        let root: OwnedFd = std::fs::File::open(place.path()).expect("open").into();
        assert_eq!(follow(&root, "link/deep/x"), ["link", "real/deep/x"]);
        assert_eq!(follow(&root, "/link/deep/up"), ["link", "real/deep/up", "file"]);
        assert_eq!(follow(&root, "a/*/b"), ["a/*/b"]);
        assert_eq!(follow(&root, "."), [""]);
        std::os::unix::fs::symlink("loop", place.path().join("loop")).expect("symlink");
        assert_eq!(follow(&root, "loop").len(), LINKS_MAX + 1);
    }
}
