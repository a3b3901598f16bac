//! Commands that do the same to each container named: go on after a failure, report all of them at the end.

use std::future::Future;

use crate::cli::{Failure, Outcome};
use crate::ui;

/// Runs `action` for every name; prints the names that went well.
pub(crate) async fn each<F, R>(names: &[String], mut action: F) -> Outcome
where
    F: FnMut(String) -> R,
    R: Future<Output = Outcome>,
{
    let mut failed = Vec::new();
    for name in names {
        match action(name.clone()).await {
            Ok(()) => ui::line(name),
            // What has been said already and does not count.
            Err(failure) if failure.code == 0 => {}
            Err(failure) => failed.push(failure.text),
        }
    }
    Failure::all(failed)
}
