//! `history`.

use chrono::{DateTime, Local, SecondsFormat};
use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::ImageHistoryItem;

use super::load::platform_query;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};
use crate::ui::human;
use crate::ui::listing::{self, Columns};

flags! {
    pub(crate) struct HistoryFlags {
        format: String => "format", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', or 'TEMPLATE'";
        human: bool = true => "human" 'H', "Print sizes and dates in human readable format";
        no_trunc: bool => "no-trunc", "Don't truncate output";
        platform: String => "platform",
            "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")";
        quiet: bool => "quiet" 'q', "Only show image IDs";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["history", "image history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    args: Args::Exactly(1),
    completion: Completion::Images,
    flags: HistoryFlags::specs,
    run: runner!(HistoryFlags, run),
};

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

const CREATED_BY_WIDTH: usize = 45;

async fn run(cli: &Cli, flags: HistoryFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let items: Vec<ImageHistoryItem> = cli
        .client()
        .await?
        .request(Method::GET, reference::image(name, "/history")?)
        .query_opt("platform", platform_query(&flags.platform)?)
        .send()
        .await?
        .json()
        .await?;
    crate::ui::print(&render(&items, &flags)?);
    Ok(())
}

fn render(items: &[ImageHistoryItem], flags: &HistoryFlags) -> Result<String, String> {
    let default_table = match flags.human {
        true => "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        false => "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    let columns = Columns { type_name: "*image.historyContext", titles: TITLES, default_table };
    let format = match flags.format.as_str() {
        "" | "table" if flags.quiet => "{{.ID}}",
        format => format,
    };
    let rows: Vec<Value> = items.iter().map(|item| row(item, flags)).collect();
    listing::render(&columns, format, &rows)
}

fn row(item: &ImageHistoryItem, flags: &HistoryFlags) -> Value {
    let created_at = DateTime::from_timestamp(item.created, 0)
        .map(|time| time.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default();
    let created_since = match (flags.human, item.created) {
        (false, _) => created_at.clone(),
        (true, ..=0) => "N/A".to_owned(),
        (true, created) => human::ago(created),
    };
    let created_by = item.created_by.replace('\t', " ");
    json!({
        "Comment": item.comment,
        "CreatedAt": created_at,
        "CreatedBy": if flags.no_trunc { created_by } else { human::ellipsis(&created_by, CREATED_BY_WIDTH) },
        "CreatedSince": created_since,
        "ID": if flags.no_trunc { item.id.as_str() } else { human::short_id(&item.id) },
        "Size": if flags.human { human::size(item.size) } else { item.size.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<ImageHistoryItem> {
        skep_wire::from_str(&format!(
            r#"[{{"Id":"sha256:{}","Created":1700000000,"Size":0,"Comment":"buildkit",
                 "CreatedBy":"/bin/sh -c #(nop)  CMD [\"sh\"]\tand a very long thing that must be cut"}},
                {{"Id":"<missing>","Created":0,"Size":7801234,"CreatedBy":"x"}}]"#,
            "a".repeat(64)
        ))
        .expect("json")
    }

    #[test]
    fn plain_numbers_where_nobody_reads() {
        let flags = HistoryFlags {
            human: false,
            format: "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}".to_owned(),
            ..HistoryFlags::default()
        };
        insta::assert_snapshot!(render(&items(), &flags).expect("rendered"), @r#"
        aaaaaaaaaaaa|/bin/sh -c #(nop)  CMD ["sh"] and a very lon…|0|buildkit
        <missing>|x|7801234|
        "#);
    }

    #[test]
    fn unknown_times_are_not_1970() {
        let flags = HistoryFlags { format: "{{.CreatedSince}} {{.Size}}".to_owned(), ..HistoryFlags::default() };
        assert_eq!(render(&items()[1..], &flags).expect("rendered"), "N/A 7.8MB\n");
    }

    #[test]
    fn quiet_is_ids_only() {
        let flags = HistoryFlags { quiet: true, no_trunc: true, ..HistoryFlags::default() };
        assert_eq!(render(&items(), &flags).expect("rendered"), format!("sha256:{}\n<missing>\n", "a".repeat(64)));
    }
}
