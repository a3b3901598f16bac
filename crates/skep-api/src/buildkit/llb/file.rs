//! Files made, copied and removed. Actions that follow one another become one layer; one whose result is used twice ends it.

use chrono::DateTime;
use skep_build::BuildError;
use skep_build::graph::{Copy, Fetched, FileAction, Files, Mode, Op, Owner, Rules, StepId, Unpack};
use skep_buildkit::proto::pb;
use skep_buildkit::proto::pb::file_action::Action;

use super::{Common, Loader, Output, Result, refused};

/// The results of actions so far.
struct Chains<'o> {
    actions: &'o [pb::FileAction],
    inputs: &'o [pb::Input],
    common: &'o Common,
    /// Layers that are being put together, and the action that is the last of each.
    open: Vec<Option<(Files, usize)>>,
    /// Which of them an action is part of, or what it has become.
    results: Vec<Made>,
}

#[derive(Clone, Copy)]
enum Made {
    Open(usize),
    Step(StepId),
}

impl Loader<'_> {
    pub(super) fn file(&mut self, file: &pb::FileOp, inputs: &[pb::Input], common: &Common) -> Result<Vec<Output>> {
        let (open, results) = (Vec::new(), Vec::new());
        let mut chains = Chains { actions: &file.actions, inputs, common, open, results };
        for number in 0..file.actions.len() {
            chains.act(self, number)?;
        }
        let mut outputs = Vec::new();
        for (number, action) in file.actions.iter().enumerate() {
            let Ok(output) = usize::try_from(action.output) else { continue };
            if output >= file.actions.len() {
                return Err(BuildError::invalid(format!("invalid output {output} of a file op")));
            }
            let step = chains.step(self, number)?;
            if outputs.len() <= output {
                outputs.resize(output + 1, Output::Refused("a result that nothing makes".to_owned()));
            }
            outputs[output] = Output::Step(step);
        }
        Ok(outputs)
    }
}

impl Chains<'_> {
    /// The action that a number stands for: those of the inputs come first.
    fn action(&self, number: i64) -> Option<usize> {
        usize::try_from(number).ok()?.checked_sub(self.inputs.len())
    }

    /// How often the result of an action is used.
    fn uses(&self, action: usize) -> usize {
        let names = |number: i64| usize::from(self.action(number) == Some(action));
        let one = |other: &pb::FileAction| names(other.input) + names(other.secondary_input);
        self.actions.iter().map(one).sum::<usize>() + usize::from(self.actions[action].output >= 0)
    }

    /// What a number stands for, as a step.
    fn numbered(&mut self, loader: &mut Loader<'_>, number: i64) -> Result<StepId> {
        match self.action(number) {
            Some(action) if action < self.results.len() => self.step(loader, action),
            Some(_) => Err(BuildError::invalid(format!("invalid input {number} of a file op"))),
            None => loader.numbered_or_scratch(self.inputs, number, self.common),
        }
    }

    /// What an action has made, as a step.
    fn step(&mut self, loader: &mut Loader<'_>, action: usize) -> Result<StepId> {
        let chain = match self.results[action] {
            Made::Step(step) => return Ok(step),
            Made::Open(chain) => chain,
        };
        let closed = self.open[chain].take().filter(|(_, last)| *last == action);
        let (files, last) = closed.ok_or_else(|| BuildError::invalid("a file op that uses what is changed since"))?;
        let step = loader.push(Op::Files(Box::new(files)), self.common);
        self.results[last] = Made::Step(step);
        Ok(step)
    }

    fn act(&mut self, loader: &mut Loader<'_>, number: usize) -> Result<()> {
        let wanted = &self.actions[number];
        let from = match &wanted.action {
            Some(Action::Copy(_)) => Some(self.source(loader, wanted.secondary_input)?),
            _ => None,
        };
        let (action, time) = convert(wanted, from)?;
        let time = (time >= 0).then(|| DateTime::from_timestamp_nanos(time));
        let before = self.action(wanted.input).filter(|before| *before < number && self.uses(*before) == 1);
        if let Some(Made::Open(chain)) = before.map(|before| self.results[before])
            && let Some((files, last)) = &mut self.open[chain]
            && files.time == time
        {
            files.actions.push(action);
            *last = number;
            self.results.push(Made::Open(chain));
            return Ok(());
        }
        let base = self.numbered(loader, wanted.input)?;
        let files = Files { base, actions: vec![action], link: false, time };
        self.results.push(Made::Open(self.open.len()));
        self.open.push(Some((files, number)));
        Ok(())
    }

    /// Where a copy comes from: a directory needs no layer for that.
    fn source(&mut self, loader: &mut Loader<'_>, number: i64) -> Result<StepId> {
        let input = usize::try_from(number).ok().and_then(|number| self.inputs.get(number));
        match input {
            Some(input) => loader.tree(input),
            None => self.numbered(loader, number),
        }
    }
}

/// The action, and the time that it gives.
fn convert(wanted: &pb::FileAction, from: Option<StepId>) -> Result<(FileAction, i64)> {
    let path = |text: &str| std::path::Path::new("/").join(text);
    let missing = || BuildError::invalid("a file action without a kind");
    Ok(match wanted.action.as_ref().ok_or_else(missing)? {
        Action::Mkdir(make) => {
            let owner = owner(make.owner.as_ref(), Owner::Root, wanted)?;
            let (path, parents, mode) = (path(&make.path), make.make_parents, bits(make.mode)?);
            (FileAction::MakeDir { path, parents, mode, owner }, make.timestamp)
        }
        Action::Mkfile(make) => {
            let owner = owner(make.owner.as_ref(), Owner::Root, wanted)?;
            let (path, data, mode) = (path(&make.path), make.data.clone().into(), bits(make.mode)?);
            (FileAction::MakeFile { path, data, mode, owner }, make.timestamp)
        }
        Action::Symlink(make) => {
            let owner = owner(make.owner.as_ref(), Owner::Root, wanted)?;
            let (path, target) = (path(&make.newpath), make.oldpath.clone());
            (FileAction::MakeLink { path, target, owner }, make.timestamp)
        }
        Action::Rm(remove) => {
            let path = path(&remove.path).to_string_lossy().into_owned();
            let (wildcards, required) = (remove.allow_wildcard, !remove.allow_not_found);
            (FileAction::Remove { path, wildcards, required }, -1)
        }
        Action::Copy(copy) => {
            let from = from.ok_or_else(missing)?;
            (FileAction::Copy(copied(copy, from, wanted)?), copy.timestamp)
        }
    })
}

fn copied(copy: &pb::FileActionCopy, from: StepId, wanted: &pb::FileAction) -> Result<Copy> {
    for (asked, what) in [
        (!copy.include_patterns.is_empty(), "a copy of included patterns only"),
        (!copy.required_paths.is_empty(), "a copy of required paths"),
        (copy.always_replace_existing_dest_paths, "a copy that replaces what is in its place"),
        (!copy.allow_wildcard && copy.src.contains(['*', '?', '[', '\\']), "a copy of a name with wildcards in it"),
    ] {
        if asked {
            return Err(refused(what));
        }
    }
    let absolute = |text: &str| {
        let slash = if text.ends_with('/') && text.len() > 1 { "/" } else { "" };
        let path = std::path::Path::new("/").join(text.trim_end_matches('/'));
        format!("{}{slash}", path.display())
    };
    let mode = match (copy.mode, copy.mode_str.as_str()) {
        (_, text) if !text.is_empty() => Mode::Symbolic(text.to_owned()),
        (mode, _) if mode < 0 => Mode::Keep,
        (mode, _) => Mode::Octal(bits(mode)?),
    };
    Ok(Copy {
        from,
        sources: vec![absolute(&copy.src)],
        dest: absolute(&copy.dest),
        owner: owner(copy.owner.as_ref(), Owner::Keep, wanted)?,
        mode,
        exclude: copy.exclude_patterns.clone(),
        parents: false,
        unpack: if copy.attempt_unpack_docker_compatibility { Unpack::Archives } else { Unpack::No },
        fetched: Fetched::No,
        rules: Rules {
            whole: !copy.dir_copy_contents,
            links: !copy.follow_symlink,
            some: copy.allow_wildcard && !copy.allow_empty_wildcard,
        },
    })
}

fn bits(mode: i32) -> Result<u32> {
    let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| BuildError::invalid(format!("invalid mode {mode:o}")))
}

/// Names are looked up in what is changed; BuildKit can do so elsewhere, too.
fn owner(wanted: Option<&pb::ChownOpt>, default: Owner, action: &pb::FileAction) -> Result<Owner> {
    let Some(wanted) = wanted else { return Ok(default) };
    let one = |user: Option<&pb::UserOpt>| match user.and_then(|user| user.user.as_ref()) {
        None => Ok(String::new()),
        Some(pb::user_opt::User::ById(id)) => Ok(id.to_string()),
        Some(pb::user_opt::User::ByName(named)) if named.input == action.input => Ok(named.name.clone()),
        Some(pb::user_opt::User::ByName(named)) => {
            Err(refused(format_args!("an owner that another input knows ({})", named.name)))
        }
    };
    let (user, group) = (one(wanted.user.as_ref())?, one(wanted.group.as_ref())?);
    Ok(match group.is_empty() {
        true => Owner::Named(user),
        false => Owner::Named(format!("{user}:{group}")),
    })
}
