//! The classic builder: instructions one after the other, each an image.
//!
//! The graph is the same as ever, but it is walked mark by mark. A step that changed nothing makes no layer here, so what stands on
//! it stands on what was below. An instruction counts as cached if its layer is known and the engine has the image.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use skep_dockerfile::scope::is_predefined;
use skep_dockerfile::{Dockerfile, Instruction};
use skep_types::{Digest, ErrorKind};

use crate::builder::{Built, BuiltImage, Intermediate};
use crate::convert::{Converted, Mark, MarkKind, Plan};
use crate::error::{BuildError, Result};
use crate::event::{BuildEvent, Classic};
use crate::graph::{Fetched, FileAction, Files, Names};
use crate::image::complete_history;
use crate::request::NoCache;
use crate::solve::{LayerMade, Solve, Value, sha256};
use crate::worker::{EMPTY_LAYER, Selection, Worker};

use super::Frontend;
use super::finish::Finished;

/// How far the build is.
struct Progress<'p> {
    converted: &'p Converted,
    solve: &'p Solve<'p>,
    total: usize,
    number: usize,
    /// The image after the last instruction of each stage.
    last: BTreeMap<usize, Digest>,
    /// All before was known.
    cached: bool,
    made: Vec<Intermediate>,
    /// Hashes of what was copied, by step.
    hashes: Mutex<BTreeMap<usize, String>>,
}

impl<W: Worker> Frontend<'_, W> {
    pub(super) async fn build_classic(&self, plan: &Plan<'_>, converted: Converted) -> Result<Built> {
        let platform = plan.options.platform.clone();
        let solve = Solve::new(&converted.graph, self.job, &self.memo);
        let total = converted.marks.iter().filter(|mark| !mark.is_trigger).count();
        let mut progress = Progress {
            converted: &converted,
            solve: &solve,
            total,
            number: 0,
            last: BTreeMap::new(),
            cached: self.request.no_cache != NoCache::All,
            made: Vec::new(),
            hashes: Mutex::default(),
        };
        for (index, mark) in converted.marks.iter().enumerate() {
            self.mark(&mut progress, mark).await?;
            // Triggers are one with the FROM that fires them: only the last of them shows its image.
            let more = converted.marks.get(index + 1).is_some_and(|next| next.is_trigger);
            if let Some(Intermediate { id, .. }) = progress.made.last().filter(|_| mark.has_image() && !more) {
                self.tell(Classic::Image { id: Some(*id) }).await;
            }
        }
        let names = unconsumed(&plan.file, plan.target, &self.request.args);
        if !names.is_empty() {
            self.tell(Classic::Unconsumed { names }).await;
        }
        let made = std::mem::take(&mut progress.made);
        let values = self.solver.solve(&solve, &[converted.target, converted.below]).await?;
        let [value, below] = values.as_slice() else { return Err(BuildError::invalid("there is nothing to build")) };
        self.solver.ensure(&solve, converted.target, value).await?;
        let image = match converted.marks.last() {
            Some(mark) => self.history(&progress, mark).await?,
            None => converted.image.clone(),
        };
        let base = converted.base.clone();
        let finished = self.finish(Finished { platform, image, base, value, below }).await?;
        let images = vec![BuiltImage { intermediate: made, ..finished }];
        Ok(Built { images, epoch: self.request.epoch()?, ..Built::default() })
    }

    async fn tell(&self, what: Classic) {
        // Nobody has to listen.
        let _ = self.job.events.send(BuildEvent::Classic(what)).await;
    }

    async fn mark(&self, progress: &mut Progress<'_>, mark: &Mark) -> Result<()> {
        if !mark.is_trigger {
            progress.number += 1;
            let (number, total) = (progress.number, progress.total);
            self.tell(Classic::Step { number, total, text: mark.text.clone() }).await;
        }
        match mark.kind {
            MarkKind::Global => Ok(()),
            MarkKind::From { triggers, base } => self.from(progress, mark, triggers, base).await,
            MarkKind::Run(_) | MarkKind::Transfer { .. } | MarkKind::Plain => self.instruction(progress, mark).await,
        }
    }

    async fn from(&self, progress: &mut Progress<'_>, mark: &Mark, triggers: usize, base: Option<usize>) -> Result<()> {
        let id = match base {
            Some(stage) => progress.last.get(&stage).copied(),
            None => {
                self.solver.solve(progress.solve, &[mark.step]).await?;
                progress.solve.value(mark.step).and_then(|value| value.image_id())
            }
        };
        if let Some(id) = id {
            progress.last.insert(mark.stage, id);
        }
        match triggers {
            0 => self.tell(Classic::Image { id }).await,
            triggers => self.tell(Classic::Triggers { count: triggers }).await,
        }
        Ok(())
    }

    async fn instruction(&self, progress: &mut Progress<'_>, mark: &Mark) -> Result<()> {
        if let MarkKind::Transfer { before, outside: Some(path), .. } = &mark.kind {
            let text = format!("{} failed: forbidden path outside the build context: {path} ()", keyword(before));
            return Err(BuildError::invalid(text));
        }
        let has_container = !matches!(mark.kind, MarkKind::Transfer { .. });
        let container = sha256(format!("{:?} {} {}", progress.last, mark.text, progress.number).as_bytes()).short();
        let makes_layer = mark.step != mark.below;
        let known = !makes_layer || self.solver.is_known(progress.solve, mark.step).await?;
        let guess = if progress.cached && known { self.guess(progress, mark).await? } else { None };
        let cached = match guess {
            Some(id) => self.solver.worker.is_stored(&id).await?,
            None => false,
        };
        progress.cached &= cached;
        match cached {
            true => self.tell(Classic::Cached).await,
            false if has_container => self.tell(Classic::Running { container: container.clone() }).await,
            false => {}
        }
        let solved = self.solver.solve(progress.solve, &[mark.step]).await;
        solved.map_err(|error| classic_error(mark, error))?;
        self.drop_empty(progress, mark);
        if !cached && has_container {
            self.tell(Classic::Removed { container }).await;
        }
        let image = self.history(progress, mark).await?;
        let (stack, layers) = tree(progress, mark)?;
        let config = self.configuration(image, &layers).await?;
        let id = sha256(&config);
        let parent = progress.last.insert(mark.stage, id);
        progress.made.push(Intermediate { id, parent, stack, config });
        Ok(())
    }

    /// The image that the instruction would make if all of it is known.
    async fn guess(&self, progress: &Progress<'_>, mark: &Mark) -> Result<Option<Digest>> {
        if self.solver.solve(progress.solve, &[mark.step]).await.is_err() {
            return Ok(None);
        }
        self.drop_empty(progress, mark);
        let image = self.history(progress, mark).await?;
        let (_, layers) = tree(progress, mark)?;
        let config = self.configuration(image, &layers).await?;
        Ok(Some(sha256(&config)))
    }

    /// A step that changed nothing stands for what is below it.
    fn drop_empty(&self, progress: &Progress<'_>, mark: &Mark) {
        let value = progress.solve.value(mark.step);
        let is_empty = value.is_some_and(|value| {
            mark.step != mark.below && value.layers.last().is_some_and(|layer| layer.diff_id == EMPTY_LAYER)
        });
        if is_empty && let Some(below) = progress.solve.value(mark.below) {
            progress.solve.put(mark.step, below);
        }
    }

    async fn configuration(&self, mut image: crate::image::ImageConfig, layers: &[LayerMade]) -> Result<Vec<u8>> {
        image.rootfs.kind = "layers".to_owned();
        image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let made: Vec<_> = layers.iter().map(|layer| layer.created).collect();
        complete_history(&mut image, &made);
        image.created = image.history.iter().rev().find_map(|step| step.created);
        image.to_bytes()
    }

    /// The configuration with the history of what really happened: which instructions made layers, and of what.
    async fn history(&self, progress: &Progress<'_>, mark: &Mark) -> Result<crate::image::ImageConfig> {
        let mut image = mark.image.clone();
        let marks = progress.converted.marks.iter();
        // The marks of a stage and of those below it, in the order of their entries in the history.
        let mut own = own_marks(marks.collect(), mark);
        let skip = image.history.len().saturating_sub(own.len());
        for (step, of) in image.history.iter_mut().skip(skip).zip(own.drain(..)) {
            let changed = progress.solve.value(of.step).map(|value| value.layers.len());
            let below = progress.solve.value(of.below).map(|value| value.layers.len());
            step.empty_layer = of.step == of.below || changed == below;
            if let (MarkKind::Transfer { before, after, .. }, Some(files)) =
                (&of.kind, of.files(&progress.converted.graph.steps[of.step.0].op))
            {
                let known = progress.hashes.lock().get(&of.step.0).cloned();
                let hash = match known {
                    Some(hash) => hash,
                    None => self.hash(progress, files).await?,
                };
                progress.hashes.lock().insert(of.step.0, hash.clone());
                step.created_by = format!("{before}{hash}{after}");
            }
        }
        Ok(image)
    }

    /// `file:…`, `dir:…` or `multi:…`: what was copied.
    async fn hash(&self, progress: &Progress<'_>, files: &Files) -> Result<String> {
        let mut parts = Vec::new();
        for action in &files.actions {
            match action {
                FileAction::Copy(copy) => {
                    let Some(Value { tree, .. }) = progress.solve.value(copy.from) else { continue };
                    let wildcards = copy.sources.iter().any(|source| source.contains(['*', '?', '[']));
                    let selection = Selection {
                        paths: copy.sources.clone(),
                        exclude: copy.exclude.clone(),
                        follow: true,
                        wildcards: copy.fetched == Fetched::No,
                    };
                    let digest = self.solver.worker.digest(&tree, &selection).await?;
                    let is_file = match copy.sources.as_slice() {
                        [one] if !wildcards => {
                            self.solver.worker.read_start(&tree, one, 1).await.is_ok_and(|file| file.is_some())
                        }
                        _ => false,
                    };
                    let kind = match (copy.sources.len(), wildcards, is_file) {
                        (1, false, true) => "file",
                        (1, false, false) => "dir",
                        _ => "multi",
                    };
                    // What came from the web has no kind.
                    let kind = if copy.fetched == Fetched::File { "" } else { kind };
                    parts.push((kind, digest));
                }
                FileAction::Write { data, .. } => parts.push(("file", sha256(data))),
                FileAction::MakeDir { .. }
                | FileAction::MakeFile { .. }
                | FileAction::MakeLink { .. }
                | FileAction::Remove { .. } => {}
            }
        }
        Ok(match parts.as_slice() {
            [("", digest)] => digest.hex(),
            [(kind, digest)] => format!("{kind}:{}", digest.hex()),
            several => {
                let all: String = several.iter().map(|(_, digest)| digest.hex()).collect();
                format!("multi:{}", sha256(all.as_bytes()).hex())
            }
        })
    }
}

fn tree(progress: &Progress<'_>, mark: &Mark) -> Result<(crate::worker::Stack, Vec<LayerMade>)> {
    let value = progress.solve.value(mark.step);
    let value = value.ok_or_else(|| BuildError::new(ErrorKind::System, "a step has no result"))?;
    Ok((value.stack()?, value.layers.to_vec()))
}

/// The marks that the history of `last` has entries of, the first first.
fn own_marks<'m>(all: Vec<&'m Mark>, last: &Mark) -> Vec<&'m Mark> {
    let mut own = Vec::new();
    let mut stage = last.stage;
    let mut end = all.iter().position(|mark| std::ptr::eq(*mark, last)).map_or(all.len(), |at| at + 1);
    loop {
        let mut base = None;
        let mut of_stage = Vec::new();
        for mark in all[..end].iter().filter(|mark| mark.stage == stage) {
            match mark.kind {
                MarkKind::From { base: from, .. } => base = from,
                MarkKind::Global => {}
                _ => of_stage.push(*mark),
            }
        }
        of_stage.append(&mut own);
        own = of_stage;
        match base {
            Some(below) => stage = below,
            None => return own,
        }
        end = all.len();
    }
}

/// The instruction that a text of the history begins with.
fn keyword(before: &str) -> &'static str {
    if before.contains("#(nop) ADD") { "ADD" } else { "COPY" }
}

/// The build arguments that no instruction up to the last one that is built declares.
fn unconsumed(file: &Dockerfile, last: usize, given: &Names) -> Vec<String> {
    let stages = file.stages.iter().take(last + 1).flat_map(|stage| &stage.steps);
    let of_stages = stages.filter_map(|step| match &step.instruction {
        Instruction::Arg(arg) => Some(arg),
        _ => None,
    });
    let all = file.global_arguments.iter().map(|(arg, _)| arg).chain(of_stages).flat_map(|arg| &arg.arguments);
    let declared: BTreeSet<&str> = all.map(|argument| argument.name.as_str()).collect();
    let is_left = |name: &&String| !declared.contains(name.as_str()) && !is_predefined(name);
    given.keys().filter(is_left).cloned().collect()
}

/// The classic builder's texts.
fn classic_error(mark: &Mark, error: BuildError) -> BuildError {
    let message = match (&mark.kind, error.exit_code) {
        (MarkKind::Run(argv), Some(code)) => {
            format!("The command '{}' returned a non-zero code: {code}", argv.join(" "))
        }
        (MarkKind::Transfer { before, .. }, _) if error.kind == ErrorKind::NotFound => {
            let keyword = keyword(before);
            let path = error.message.rsplit_once("\": not found").and_then(|(rest, _)| rest.rsplit_once('"'));
            let path = path.map_or("", |(_, path)| path).trim_start_matches('/');
            format!(
                "{keyword} failed: file not found in build context or excluded by .dockerignore: stat {path}: file does not exist"
            )
        }
        _ => return error,
    };
    BuildError { message, ..error }
}
