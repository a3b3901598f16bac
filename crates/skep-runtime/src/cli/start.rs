//! `start`.

use skep_runtime::container::{LaunchError, Result, State, Status, open_gate, run_hooks};

use super::args::{Args, only};
use super::store::Entry;
use super::{Global, words};

/// Runs the command.
pub(crate) fn run(global: &Global, args: Args) -> Result<u8> {
    let id = only(words(args)?, "the container's id")?;
    let entry = Entry::open(&global.root, &id)?;
    let record = entry.made()?;
    match entry.status(Some(&record)) {
        Status::Created => {}
        Status::Stopped => return Err(LaunchError::wrong_state("cannot start a container that has stopped")),
        Status::Running | Status::Paused | Status::Creating => {
            return Err(LaunchError::wrong_state("cannot start an already running container"));
        }
    }
    open_gate(entry.knock()?)?;
    let spec = entry.spec()?;
    if let Some(hooks) = &spec.hooks {
        let state = State::new(&id, &spec, &record.bundle, Status::Running, record.pid);
        if let Err(error) = run_hooks("poststart", &hooks.poststart, &state) {
            global.log.warn(&error.to_string());
        }
    }
    Ok(0)
}
