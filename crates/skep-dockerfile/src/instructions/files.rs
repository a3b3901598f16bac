//! ADD and COPY.

use crate::expand::{ExpandError, Expander};
use crate::syntax::Heredoc;

use super::InstructionError;
use super::flags::{Flag, Flags};
use super::read::Arguments;

/// What ADD and COPY have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Paths in the source, with wildcards; URLs and git references for ADD. Without the documents.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub documents: Vec<Document>,
    /// Where to.
    pub destination: String,
    /// `--chown=USER[:GROUP]`.
    pub chown: Option<String>,
    /// `--chmod`: octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`: a layer of its own, whatever is below.
    pub link: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
}

/// A file written in the Dockerfile (`COPY <<NAME /target`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The delimiter, which is the name of the file where the target is a directory.
    pub name: String,
    /// The content; without leading tabs if `<<-` is written.
    pub content: String,
    /// Whether variables in it are replaced: the delimiter was not quoted.
    pub expands: bool,
}

/// `COPY [--FLAG ...] SOURCE ... DESTINATION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Sources, destination, flags.
    pub transfer: Transfer,
    /// `--from`: a stage by name or number, a named context, or an image; `None` is the build context. Never has variables.
    pub from: Option<String>,
    /// `--parents`: keep the directories of the sources.
    pub parents: bool,
}

/// `ADD [--FLAG ...] SOURCE ... DESTINATION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination, flags.
    pub transfer: Transfer,
    /// `--keep-git-dir`; `None` if not said.
    pub keep_git_dir: Option<bool>,
    /// `--checksum=ALGORITHM:HEX`, or a commit.
    pub checksum: Option<String>,
    /// `--unpack`: whether archives are unpacked; `None` unpacks local ones only.
    pub unpack: Option<bool>,
}

const COMMON: [Flag; 4] = [Flag::text("chown"), Flag::text("chmod"), Flag::bool("link"), Flag::many("exclude")];

impl Transfer {
    fn expand_owner(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        let texts = [&mut self.chown, &mut self.chmod];
        texts.into_iter().flatten().try_for_each(|text| expander.in_place(text))
    }

    fn expand_paths(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        expander.each_in_place(&mut self.sources)?;
        expander.in_place(&mut self.destination)?;
        for document in self.documents.iter_mut().filter(|document| document.expands) {
            document.content = expander.document(&document.content)?;
        }
        Ok(())
    }
}

impl Copy {
    pub(super) fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        self.transfer.expand_owner(expander)?;
        self.transfer.expand_paths(expander)
    }
}

impl Add {
    pub(super) fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        self.transfer.expand_owner(expander)?;
        self.checksum.as_mut().map_or(Ok(()), |checksum| expander.in_place(checksum))?;
        self.transfer.expand_paths(expander)
    }
}

pub(super) fn read_copy(arguments: &Arguments<'_>) -> Result<Copy, InstructionError> {
    let (destination, sources) = split("COPY", arguments)?;
    let known: Vec<Flag> = COMMON.into_iter().chain([Flag::text("from"), Flag::bool("parents")]).collect();
    let mut flags = Flags::read(arguments.flags, &known)?;
    let transfer = transfer("COPY", sources, destination, arguments.heredocs, &mut flags)?;
    let from = flags.text("from").filter(|from| !from.is_empty());
    Ok(Copy { transfer, from, parents: flags.bool("parents").unwrap_or_default() })
}

pub(super) fn read_add(arguments: &Arguments<'_>) -> Result<Add, InstructionError> {
    let (destination, sources) = split("ADD", arguments)?;
    let own = [Flag::bool("keep-git-dir"), Flag::text("checksum"), Flag::bool("unpack")];
    let known: Vec<Flag> = COMMON.into_iter().chain(own).collect();
    let mut flags = Flags::read(arguments.flags, &known)?;
    let transfer = transfer("ADD", sources, destination, arguments.heredocs, &mut flags)?;
    Ok(Add {
        transfer,
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.text("checksum").filter(|checksum| !checksum.is_empty()),
        unpack: flags.bool("unpack"),
    })
}

fn split<'a>(name: &'static str, arguments: &'a Arguments<'_>) -> Result<(&'a String, &'a [String]), InstructionError> {
    match arguments.words.split_last() {
        Some((destination, sources)) if !sources.is_empty() => Ok((destination, sources)),
        _ => Err(InstructionError::NoDestination(name)),
    }
}

fn transfer(
    name: &'static str,
    words: &[String],
    destination: &str,
    heredocs: &[Heredoc],
    flags: &mut Flags,
) -> Result<Transfer, InstructionError> {
    if Heredoc::mark(destination).is_some() {
        return Err(InstructionError::Heredoc(name, "a destination"));
    }
    let (mut sources, mut documents) = (Vec::new(), Vec::new());
    for word in words {
        let Some(mark) = Heredoc::mark(word) else {
            sources.push(word.clone());
            continue;
        };
        let heredoc = heredocs.iter().rev().find(|heredoc| heredoc.name == mark.name);
        let content = heredoc.map(|heredoc| heredoc.text()).unwrap_or_default();
        documents.push(Document { name: mark.name, content, expands: mark.expands });
    }
    Ok(Transfer {
        sources,
        documents,
        destination: destination.to_owned(),
        chown: flags.text("chown").filter(|text| !text.is_empty()),
        chmod: flags.text("chmod").filter(|text| !text.is_empty()),
        link: flags.bool("link").unwrap_or_default(),
        exclude: flags.many("exclude"),
    })
}
