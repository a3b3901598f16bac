//! `list`.

use skep_runtime::container::{LaunchError, Result};

use super::args::{Args, Item};
use super::state::Shown;
use super::store::Entry;
use super::{Global, help, print};

/// Runs the command.
pub(crate) fn run(global: &Global, mut args: Args) -> Result<u8> {
    let (mut format, mut quiet) = ("table".to_owned(), false);
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => return Err(LaunchError::invalid(format!("unexpected argument {word:?}: see --help"))),
            Item::Option(name) => match name.as_str() {
                "f" | "format" => format = args.value()?,
                "q" | "quiet" => quiet = args.flag()?,
                other => return Err(help::or_unknown(other, &args)),
            },
        }
    }
    let mut all = Vec::new();
    for entry in Entry::all(&global.root)? {
        // One that is being made, or goes away right now, is not shown.
        if let Ok(Some(record)) = entry.record()
            && let Ok(shown) = Shown::of(&entry, &record)
        {
            all.push(shown);
        }
    }
    match (quiet, format.as_str()) {
        (true, _) => print(&all.iter().map(|shown| format!("{}\n", shown.state.id)).collect::<String>())?,
        (false, "table") => print(&table(&all))?,
        (false, "json") => {
            let text = serde_json::to_string(&all).map_err(|error| LaunchError::system("json", error.to_string()))?;
            print(&text)?;
        }
        (false, other) => return Err(LaunchError::invalid(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

fn table(all: &[Shown]) -> String {
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |shown: &Shown| {
        let status = serde_json::to_value(shown.state.status).ok();
        let status = status.as_ref().and_then(|status| status.as_str()).unwrap_or_default().to_owned();
        let bundle = shown.state.bundle.display().to_string();
        [
            shown.state.id.clone(),
            shown.state.pid.to_string(),
            status,
            bundle,
            shown.created.clone(),
            shown.owner.clone(),
        ]
    };
    columns(&std::iter::once(titles).chain(all.iter().map(row)).collect::<Vec<_>>())
}

/// Rows as columns, three spaces and at least twelve characters apart.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
