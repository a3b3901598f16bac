//! `COPY` and `ADD`.

use bytes::Bytes;
use skep_dockerfile::instructions::{self, Transfer};
use skep_types::{Digest, ErrorKind};

use crate::attest::without_password;
use crate::error::{BuildError, Result};
use crate::graph::{Copy, Fetched, FileAction, Files, HttpSource, Mode, Op, Owner, Rules, StepId, Unpack};

use super::Converter;
use super::git::git_source;
use super::plan::Base;
use super::stage::{Here, State};
use super::text::{clean, destination, shown};

/// What `ADD` and `COPY` ask for.
struct Wish<'w> {
    keyword: &'static str,
    transfer: &'w Transfer,
    from: Option<&'w str>,
    parents: bool,
    add: Option<&'w instructions::Add>,
}

impl Converter<'_> {
    pub(super) fn copy(&mut self, state: &mut State, copy: &instructions::Copy, here: &Here<'_>) -> Result<()> {
        let (transfer, from) = (&copy.transfer, copy.from.as_deref());
        self.transfer(state, &Wish { keyword: "COPY", transfer, from, parents: copy.parents, add: None }, here)
    }

    pub(super) fn add(&mut self, state: &mut State, add: &instructions::Add, here: &Here<'_>) -> Result<()> {
        let wish = Wish { keyword: "ADD", transfer: &add.transfer, from: None, parents: false, add: Some(add) };
        self.transfer(state, &wish, here)
    }

    fn transfer(&mut self, state: &mut State, wish: &Wish<'_>, here: &Here<'_>) -> Result<()> {
        let (transfer, options) = (wish.transfer, &here.plan.options);
        let text = shown(&here.source.code, here.plan.file.escape(), &state.scope, false);
        let name = state.vertex(&without_password(&text), options);
        let mode = mode(transfer.chmod.as_deref())?;
        let owner = match &transfer.chown {
            Some(chown) => Owner::Named(chown.clone()),
            None if wish.from.is_some() => Owner::Keep,
            // An archive as context says whose its files are; the classic builder does not ask.
            None if self.has_owners() => Owner::Keep,
            None => Owner::Root,
        };
        let dest = destination(&state.dir(), &transfer.destination);
        let plain = Copy {
            from: StepId(0),
            sources: Vec::new(),
            dest: dest.clone(),
            owner: owner.clone(),
            mode: mode.clone(),
            exclude: transfer.exclude.clone(),
            parents: wish.parents,
            unpack: Unpack::No,
            fetched: Fetched::No,
            rules: Rules::default(),
        };
        check_checksum(wish)?;
        let mut actions: Vec<FileAction> = Vec::new();
        let mut local = Vec::new();
        for source in &transfer.sources {
            match self.remote(state, wish, source, &plain, &name)? {
                Some(copy) => {
                    self.flush_local(state, wish, &mut local, &plain, &mut actions, here)?;
                    actions.push(FileAction::Copy(copy));
                }
                None => local.push(source.clone()),
            }
        }
        self.flush_local(state, wish, &mut local, &plain, &mut actions, here)?;
        let document_mode = if mode == Mode::Keep { Mode::Octal(0o644) } else { mode.clone() };
        let document_owner = if owner == Owner::Keep { Owner::Root } else { owner };
        actions.extend(transfer.documents.iter().map(|document| FileAction::Write {
            path: dest.clone(),
            name: document.name.clone(),
            data: Bytes::from(document.content.clone()),
            mode: document_mode.clone(),
            owner: document_owner.clone(),
        }));
        let link = transfer.link && transfer.chmod.is_none();
        let files = Files { base: state.step, actions, link, time: options.epoch };
        state.step = self.layer(state, Op::Files(Box::new(files)), name, here);
        state.history(without_password(&history(wish)), true, options);
        Ok(())
    }

    /// Whether files of the build context have owners of their own.
    fn has_owners(&self) -> bool {
        matches!(self.sources.main, Op::Given(_)) && !self.plan.options.request.classic
    }

    /// Sources of the context or of another stage, as far as they were collected.
    fn flush_local(
        &mut self,
        state: &State,
        wish: &Wish<'_>,
        local: &mut Vec<String>,
        plain: &Copy,
        actions: &mut Vec<FileAction>,
        here: &Here<'_>,
    ) -> Result<()> {
        if local.is_empty() {
            return Ok(());
        }
        let base = match wish.from {
            None => None,
            Some(from) => Some(here.plan.origin(from, here.source.lines)?),
        };
        let mut from = None;
        for source in local.iter() {
            let path = clean(source);
            from = Some(match &base {
                None => self.context(None, &path)?,
                Some(base) => {
                    let platform = match base {
                        Base::Stage(_) => state.platform.clone(),
                        _ => here.plan.options.platform.clone(),
                    };
                    let shown = self.outside_name(base, format!("FROM {}", wish.from.unwrap_or_default()));
                    self.source_step(base, &shown, &path, &platform)?
                }
            });
        }
        let unpack = match wish.add {
            Some(add) if add.unpack.unwrap_or(true) => Unpack::Archives,
            _ => Unpack::No,
        };
        let sources = local.drain(..).map(|source| normal(&source, wish.parents)).collect();
        let from = from.unwrap_or(state.step);
        actions.push(FileAction::Copy(Copy { from, sources, unpack, ..plain.clone() }));
        Ok(())
    }

    /// A source that is a URL or a repository.
    fn remote(
        &mut self,
        state: &State,
        wish: &Wish<'_>,
        source: &str,
        plain: &Copy,
        name: &str,
    ) -> Result<Option<Copy>> {
        let is_url = source.starts_with("http://") || source.starts_with("https://");
        let git = git_source(source)?;
        if git.is_none() && !is_url {
            return Ok(None);
        }
        let Some(add) = wish.add else {
            let text =
                if git.is_some() { "source can't be a git ref for COPY" } else { "source can't be a URL for COPY" };
            return Err(BuildError::invalid(text));
        };
        if let Some(mut git) = git {
            git.keep_git_dir = add.keep_git_dir.unwrap_or(git.keep_git_dir);
            if let (Some(one), Some(other)) = (&add.checksum, &git.checksum)
                && one != other
            {
                return Err(BuildError::invalid(format!("checksum mismatch {one:?} != {other:?}")));
            }
            git.checksum = add.checksum.clone().or(git.checksum);
            let from = self.push(Op::Git(git), name.to_owned(), &state.platform);
            let sources = vec!["/".to_owned()];
            return Ok(Some(Copy { from, sources, fetched: Fetched::Commit, ..plain.clone() }));
        }
        let parse = |text: &String| text.parse::<Digest>().map_err(|error| BuildError::invalid(error.to_string()));
        let checksum = add.checksum.as_ref().map(parse).transpose()?;
        let file = file_name(source);
        let http = HttpSource { url: source.to_owned(), checksum, name: Some(file.clone()) };
        let from = self.push(Op::Http(http), name.to_owned(), &state.platform);
        let unpack = if add.unpack == Some(true) { Unpack::Archives } else { Unpack::No };
        Ok(Some(Copy { from, sources: vec![format!("/{file}")], unpack, fetched: Fetched::File, ..plain.clone() }))
    }

    /// How the vertex of an image is called that only files are taken from.
    pub(super) fn outside_name(&self, base: &Base, other: String) -> String {
        match base {
            Base::Image(source) => {
                if let Some(name) = self.plan.alias(source) {
                    return name;
                }
                let digest =
                    self.images.image(source, &self.plan.options.platform).and_then(|image| image.resolved.digest);
                match digest.filter(|_| source.reference.digest().is_none()) {
                    Some(digest) => format!("FROM {}@{digest}", source.reference),
                    None => format!("FROM {}", source.reference),
                }
            }
            _ => other,
        }
    }
}

fn check_checksum(wish: &Wish<'_>) -> Result<()> {
    let Some(add) = wish.add.filter(|add| add.checksum.is_some()) else { return Ok(()) };
    match add.transfer.sources.as_slice() {
        [source] if source.starts_with("http://") || source.starts_with("https://") => Ok(()),
        [source] if git_source(source)?.is_some() => Ok(()),
        [_] => Err(BuildError::invalid("checksum requires HTTP(S) or Git sources")),
        _ => Err(BuildError::invalid("checksum can't be specified for multiple sources")),
    }
}

/// `--parents` has a pivot: only what comes after `/./` is kept.
fn normal(source: &str, parents: bool) -> String {
    match source.split_once("/./").filter(|_| parents) {
        Some((above, below)) => {
            format!("{}/./{}", clean(above).trim_end_matches('/'), clean(below).trim_start_matches('/'))
        }
        None => clean(source),
    }
}

fn mode(text: Option<&str>) -> Result<Mode> {
    let Some(text) = text else { return Ok(Mode::Keep) };
    let wrong = || {
        let text = format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        BuildError::new(ErrorKind::InvalidParameter, text)
    };
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => Ok(Mode::Octal(bits)),
        Ok(_) => Err(wrong()),
        Err(_) if is_symbolic(text) => Ok(Mode::Symbolic(text.to_owned())),
        Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => Err(wrong()),
        Err(_) => Err(BuildError::invalid("invalid syntax")),
    }
}

/// `u=rwX,go-w`.
fn is_symbolic(text: &str) -> bool {
    text.split(',').all(|clause| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut letters = rest.chars();
        matches!(letters.next(), Some('+' | '-' | '='))
            && letters
                .all(|letter| matches!(letter, 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o' | '+' | '-' | '='))
    })
}

fn file_name(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map(|(_, path)| unescaped(path)).unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(last, "" | "." | "..") || last.contains('\0') { "__unnamed__".to_owned() } else { last.to_owned() }
}

/// `a%20b` is `a b`; what is no such sequence stays as it is.
fn unescaped(path: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut out, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| *byte == b'%');
        match pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn history(wish: &Wish<'_>) -> String {
    let transfer = wish.transfer;
    let mut text = wish.keyword.to_owned();
    if wish.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        if let Some(value) = value {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &transfer.sources {
        text.push_str(&format!(" {source}"));
    }
    for document in &transfer.documents {
        text.push_str(&format!(" <<{}", document.name));
    }
    format!("{text} {} # buildkit", transfer.destination)
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_of_files_on_the_web() {
        for (url, name) in [
            ("http://h/a/b.txt?x=/y", "b.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/%2e%2e", "__unnamed__"),
            ("http://h/a/..%2f..%2fpasswd", "passwd"),
            ("http://h/100%", "100%"),
            ("http://h", "__unnamed__"),
            ("http://h/%00", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
