//! The processes of a container, in the columns of the host's `ps` (`docker top`).

use std::collections::HashSet;
use std::process::Stdio;

use crate::model::request::ProcessTable;
use crate::{Error, Result};

/// Runs `ps ARGS` (`-ef` when empty) on the host and keeps the rows of `pids`.
pub(crate) async fn table(pids: &HashSet<i32>, args: &str) -> Result<ProcessTable> {
    let args: Vec<&str> = if args.trim().is_empty() { vec!["-ef"] } else { args.split_whitespace().collect() };
    let output = tokio::process::Command::new("ps")
        .args(&args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|e| Error::system("running ps on the host", e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Its first line says why; the rest is advice.
        return Err(Error::Invalid(format!("ps: {}", said.lines().next().unwrap_or_default())));
    }
    parse(&String::from_utf8_lossy(&output.stdout), pids)
}

fn parse(text: &str, pids: &HashSet<i32>) -> Result<ProcessTable> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or("").split_whitespace().map(str::to_owned).collect();
    let Some(pid_column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::Invalid("Couldn't find PID field in ps output".to_owned()));
    };
    let processes = lines
        .filter_map(|line| row(line, titles.len()))
        .filter(|row| row[pid_column].parse().is_ok_and(|pid: i32| pids.contains(&pid)))
        .collect();
    Ok(ProcessTable { titles, processes })
}

/// Splits at white space into `columns` cells; the last one keeps its spaces.
fn row(line: &str, columns: usize) -> Option<Vec<String>> {
    let mut rest = line.trim_start();
    let mut cells = Vec::with_capacity(columns);
    while cells.len() + 1 < columns {
        let end = rest.find(char::is_whitespace)?;
        cells.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    cells.push(rest.trim_end().to_owned());
    (!rest.is_empty()).then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_keeps_its_spaces() {
        let text = "UID PID PPID CMD\nroot   12  1 sh -c sleep 9\nroot 13 1 other\n";
        let table = parse(text, &HashSet::from([12])).expect("a table");
        assert_eq!(table.processes, [["root", "12", "1", "sh -c sleep 9"]]);
        assert!(parse("A B\n1 2\n", &HashSet::new()).is_err());
    }
}
