//! `system check`: looks for damage in the data root, and mends it.

use serde_json::{Value, json};
use skep_client::{HeaderName, Method};
use skep_wire::CheckReport;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials};
use crate::ui;
use crate::ui::human;
use crate::ui::listing::{self, Columns};

/// The header with credentials for several registries.
const REGISTRY_CONFIG: HeaderName = HeaderName::from_static("x-registry-config");

flags! {
    pub(crate) struct CheckFlags {
        format: String => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
        no_trunc: bool => "no-trunc", "Don't truncate output";
        repair: bool => "repair", "Mend what can be mended: fetch damaged parts of images again, delete what nothing needs";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["system check"],
    usage: "[OPTIONS]",
    about: "Look for damage in the data root: every part of images by its digest, records against files",
    args: Args::None,
    completion: Completion::Nothing,
    flags: CheckFlags::specs,
    run: runner!(CheckFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*formatter.checkContext",
    titles: &[
        ("Kind", "KIND"),
        ("ID", "ID"),
        ("State", "STATE"),
        ("NeededBy", "NEEDED BY"),
        ("Damage", "DAMAGE"),
        ("Remedy", "REMEDY"),
    ],
    default_table: "{{.Kind}}\t{{.ID}}\t{{.State}}\t{{.NeededBy}}\t{{.Damage}}\t{{.Remedy}}",
};

async fn run(cli: &Cli, flags: CheckFlags, _: Vec<String>) -> Outcome {
    let method = if flags.repair { Method::POST } else { Method::GET };
    let mut request = cli.client().await?.request(method, "/skep/check");
    if flags.repair {
        request = request.header(REGISTRY_CONFIG, credentials::registry_config(cli));
    }
    let report: CheckReport = request.send().await?.json().await?;
    if flags.format == "json" {
        // The whole report: what was looked at belongs to it.
        ui::line(&serde_json::to_string(&report).map_err(|error| Failure::message(error.to_string()))?);
        return if report.clean { Ok(()) } else { Err(Failure::silent(1)) };
    }
    let findings = listing::render(&COLUMNS, &flags.format, &rows(&report, flags.no_trunc))?;
    match flags.format.as_str() {
        "" | "table" if report.findings.is_empty() => ui::print(&headline(&report)),
        "" | "table" => ui::print(&format!("{}\n{findings}", headline(&report))),
        _ => ui::print(&findings),
    }
    match report.clean {
        true => Ok(()),
        false => Err(Failure::silent(1)),
    }
}

fn headline(report: &CheckReport) -> String {
    let count = |kind: &str| report.checked.get(kind).copied().unwrap_or_default();
    let found = match report.findings.len() {
        0 => "no damage".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    format!(
        "Checked {} images, {} blobs, {} layers, {} containers, {} volumes: {found}\n",
        count("Images"),
        count("Blobs"),
        count("Layers"),
        count("Containers"),
        count("Volumes")
    )
}

fn rows(report: &CheckReport, whole: bool) -> Vec<Value> {
    let row = |finding: &skep_wire::CheckFinding| {
        let is_digest = finding.id.starts_with("sha256:");
        json!({
            "Damage": finding.damage,
            "ID": if is_digest && !whole { human::short_id(&finding.id) } else { finding.id.as_str() },
            "Kind": finding.kind,
            "NeededBy": finding.needed_by.join(","),
            "Remedy": finding.remedy,
            "State": finding.state,
        })
    };
    report.findings.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_wire::CheckFinding;

    #[test]
    fn findings_are_a_table_below_the_counts() {
        let finding = CheckFinding {
            kind: "layer".into(),
            id: format!("sha256:{}", "a".repeat(64)),
            damage: "another digest".into(),
            needed_by: vec!["x:1".into(), "container web".into()],
            state: "mended".into(),
            remedy: "fetched again".into(),
        };
        let checked = [("Images", 1), ("Layers", 2)].map(|(kind, count)| (kind.to_owned(), count)).into();
        let report = CheckReport { clean: true, checked, findings: vec![finding] };
        insta::assert_snapshot!(headline(&report), @"Checked 1 images, 0 blobs, 2 layers, 0 containers, 0 volumes: 1 finding");
        insta::assert_snapshot!(listing::render(&COLUMNS, "", &rows(&report, false)).expect("good"), @r"
        KIND      ID             STATE     NEEDED BY           DAMAGE           REMEDY
        layer     aaaaaaaaaaaa   mended    x:1,container web   another digest   fetched again
        ");
    }
}
