//! `search`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::SearchResult;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::image::pull::REGISTRY_AUTH;
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome, credentials};
use crate::ui::human;
use crate::ui::listing::{self, Columns};

flags! {
    struct SearchFlags {
        filter: Filter => "filter" 'f', "Filter output based on conditions provided";
        format: String => "format", "Pretty-print search using a Go template";
        limit: Option<i64> => "limit", "Max number of search results";
        no_trunc: bool => "no-trunc", "Don't truncate output";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["search"],
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    args: Args::Exactly(1),
    completion: Completion::Nothing,
    flags: SearchFlags::specs,
    run: runner!(SearchFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*formatter.searchContext",
    titles: &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
    default_table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
};

const DESCRIPTION_WIDTH: usize = 45;

async fn run(cli: &Cli, flags: SearchFlags, words: Vec<String>) -> Outcome {
    let term = words.first().map(String::as_str).unwrap_or_default();
    let found: Vec<SearchResult> = cli
        .client()
        .await?
        .request(Method::GET, "/images/search")
        .query("term", term)
        .query_opt("limit", flags.limit.map(|limit| limit.to_string()))
        .query_opt("filters", flags.filter.to_query())
        .header(REGISTRY_AUTH, credentials::registry_auth(cli, registry_of(term)))
        .send()
        .await?
        .json()
        .await?;
    crate::ui::print(&render(&found, &flags)?);
    Ok(())
}

/// The registry that a term begins with.
fn registry_of(term: &str) -> &str {
    match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn render(found: &[SearchResult], flags: &SearchFlags) -> Result<String, String> {
    let is_table = flags.format.is_empty() || flags.format.starts_with("table");
    let rows: Vec<Value> = found.iter().map(|result| row(result, flags.no_trunc, is_table)).collect();
    listing::render(&COLUMNS, &flags.format, &rows)
}

fn row(result: &SearchResult, no_trunc: bool, is_table: bool) -> Value {
    let description = result.description.replace(['\n', '\r'], " ");
    let official = match (is_table, result.is_official) {
        (true, true) => "[OK]",
        (true, false) => "",
        (false, true) => "true",
        (false, false) => "false",
    };
    json!({
        "Description": if no_trunc { description } else { human::ellipsis(&description, DESCRIPTION_WIDTH) },
        "IsOfficial": official,
        "Name": result.name,
        "StarCount": result.star_count.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<SearchResult> {
        vec![
            SearchResult {
                name: "foo".to_owned(),
                description: "a very long description that is longer than forty five characters in all".to_owned(),
                star_count: 3,
                is_official: true,
                is_automated: false,
            },
            SearchResult { name: "bar".to_owned(), star_count: 30, ..SearchResult::default() },
        ]
    }

    /// As Docker's client shows the same answer.
    #[test]
    fn a_table_is_dockers() {
        let table = render(&found(), &SearchFlags::default()).expect("rendered");
        let wanted = [
            "NAME      DESCRIPTION                                     STARS     OFFICIAL\n",
            "foo       a very long description that is longer than …   3         [OK]\n",
            "bar                                                       30        \n",
        ];
        assert_eq!(table, wanted.concat());
    }

    #[test]
    fn json_is_dockers() {
        let flags = SearchFlags { format: "{{json .}}".to_owned(), no_trunc: true, ..SearchFlags::default() };
        let lines = render(&found(), &flags).expect("rendered");
        assert_eq!(
            lines.lines().last(),
            Some(r#"{"Description":"","IsOfficial":"false","Name":"bar","StarCount":"30"}"#)
        );
    }
}
