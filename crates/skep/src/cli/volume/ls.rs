//! `volume ls`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::{Volume, VolumeList};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui;
use crate::ui::listing::{self, Columns};

flags! {
    pub(crate) struct ListFlags {
        filter: Filter => "filter" 'f', "Provide filter values (e.g. \"dangling=true\")";
        format: Option<String> => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
        quiet: bool => "quiet" 'q', "Only display volume names";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["volume ls", "volume list"],
    usage: "[OPTIONS]",
    about: "List volumes",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*formatter.volumeContext",
    titles: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    default_table: "{{.Driver}}\t{{.Name}}",
};

async fn run(cli: &Cli, flags: ListFlags, _: Vec<String>) -> Outcome {
    let list: VolumeList = cli
        .client()
        .await?
        .request(Method::GET, "/volumes")
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    let mut volumes = list.volumes;
    volumes.sort_by(|a, b| listing::natural_order(&a.name, &b.name));
    let given = flags.format.filter(|format| !format.is_empty());
    if flags.quiet && given.is_none() {
        let names: String = volumes.iter().map(|volume| format!("{}\n", volume.name)).collect();
        ui::print(&names);
        return Ok(());
    }
    let format = given.or_else(|| cli.config().volumes_format.clone()).unwrap_or_default();
    let rows: Vec<Value> = volumes.iter().map(row).collect();
    ui::print(&listing::render(&COLUMNS, &format, &rows)?);
    Ok(())
}

/// A volume as templates see it.
pub(crate) fn row(volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (links, size) = match &volume.usage_data {
        Some(usage) => (
            usage.ref_count.to_string(),
            if usage.size < 0 { "N/A".to_owned() } else { ui::human::fine_size(usage.size) },
        ),
        None => ("N/A".to_owned(), "N/A".to_owned()),
    };
    json!({
        "Availability": "N/A",
        "Driver": volume.driver,
        "Group": "N/A",
        "LabelMap": volume.labels,
        "Labels": labels.join(","),
        "Links": links,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": volume.scope,
        "Size": size,
        "Status": "N/A",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_listed_as_docker_does() {
        let volume = Volume {
            name: "data".into(),
            driver: "local".into(),
            scope: "local".into(),
            mountpoint: "/m".into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Volume::default()
        };
        let rows = [row(&volume)];
        let show = |format: &str| listing::render(&COLUMNS, format, &rows).expect("good");
        assert_eq!(show(""), "DRIVER    VOLUME NAME\nlocal     data\n");
        assert_eq!(show("{{.Name}} {{.Label \"a\"}}"), "data b\n");
        assert_eq!(
            show("json"),
            "{\"Availability\":\"N/A\",\"Driver\":\"local\",\"Group\":\"N/A\",\"Labels\":\"a=b\",\"Links\":\"N/A\",\
             \"Mountpoint\":\"/m\",\"Name\":\"data\",\"Scope\":\"local\",\"Size\":\"N/A\",\"Status\":\"N/A\"}\n"
        );
    }
}
