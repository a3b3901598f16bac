//! `images`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_types::Reference;
use skep_wire::ImageSummary;

use super::tree::{self, Look};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::human;
use crate::ui::listing::{self, Columns};

flags! {
    pub(crate) struct ListFlags {
        all: bool => "all" 'a', "Show all images (default hides intermediate images)";
        digests: bool => "digests", "Show digests";
        filter: Filter => "filter" 'f', "Filter output based on conditions provided";
        format: String => "format", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', or 'TEMPLATE'";
        no_trunc: bool => "no-trunc", "Don't truncate output";
        quiet: bool => "quiet" 'q', "Only show image IDs";
        tree: bool => "tree", "List multi-platform images as a tree (EXPERIMENTAL)";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["images", "image ls", "image list"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    args: Args::AtMost(1),
    completion: Completion::Images,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

const NONE: &str = "<none>";

/// The first second of the year 1: Go's time that is none.
const NO_TIME: i64 = -62_135_596_800;

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const TABLE: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
// The last line end is written as an escape so that it is no white space at the end of the template.
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\\n";
const RAW_WITH_DIGESTS: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\\n";

async fn run(cli: &Cli, mut flags: ListFlags, words: Vec<String>) -> Outcome {
    if let Some(name) = words.first() {
        flags.filter.0.push(("reference".to_owned(), name.clone()));
    }
    if flags.tree {
        check_tree(&flags)?;
    } else if flags.format.is_empty() && !flags.quiet {
        flags.format = cli.config().images_format.clone().unwrap_or_default();
    }
    let images: Vec<ImageSummary> = cli
        .client()
        .await?
        .request(Method::GET, "/images/json")
        .query_flag("all", flags.all)
        .query_flag("shared-size", wants_shared_size(&flags.format))
        .query_flag("manifests", flags.tree)
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    match flags.tree {
        true => crate::ui::print(&tree::render(&images, flags.all, Look::of_stdout())),
        false => crate::ui::print(&render(&images, &flags)?),
    }
    Ok(())
}

/// What a tree does not show.
fn check_tree(flags: &ListFlags) -> Outcome {
    let refused = [
        ("quiet", flags.quiet),
        ("no-trunc", flags.no_trunc),
        ("show-digest", flags.digests),
        ("format", !flags.format.is_empty()),
    ];
    match refused.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failure::message(format!("--{name} is not yet supported with --tree"))),
        None => Ok(()),
    }
}

/// Shared sizes cost the engine a walk over all layers: asked for only where they are shown.
fn wants_shared_size(format: &str) -> bool {
    format.contains(".SharedSize") || format.contains(".UniqueSize")
}

fn render(images: &[ImageSummary], flags: &ListFlags) -> Result<String, String> {
    let digests = flags.digests || flags.format.contains("{{.Digest}}");
    let mut rows = Vec::new();
    for image in images {
        for name in names(image, digests) {
            rows.push(row(image, &name, flags.no_trunc));
        }
    }
    let default_table = if flags.digests { TABLE_WITH_DIGESTS } else { TABLE };
    let columns = Columns { type_name: "*formatter.imageContext", titles: TITLES, default_table };
    let format = match flags.format.as_str() {
        "" | "table" if flags.quiet => "{{.ID}}",
        "raw" if flags.quiet => "image_id: {{.ID}}",
        "raw" if flags.digests => RAW_WITH_DIGESTS,
        "raw" => RAW,
        custom => custom,
    };
    if flags.digests && format != "table" && format.starts_with("table") && !format.contains("{{.Digest}}") {
        return listing::render(&columns, &format!("{format}\t{{{{.Digest}}}}"), &rows);
    }
    listing::render(&columns, format, &rows)
}

/// One row of the list.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

impl Name {
    fn new(repository: &str, tag: &str, digest: &str) -> Self {
        Name { repository: repository.to_owned(), tag: tag.to_owned(), digest: digest.to_owned() }
    }
}

/// The names of an image: one row per tag, with `digests` one per tag and digest of its repository; a repository with
/// digests alone has a row, too.
fn names(image: &ImageSummary, digests: bool) -> Vec<Name> {
    let known = |texts: &[String]| -> Vec<Reference> { texts.iter().filter_map(|text| text.parse().ok()).collect() };
    let (tagged, pinned) = (known(&image.repo_tags), known(&image.repo_digests));
    let digests_of = |repository: &str| -> Vec<String> {
        let of_it = pinned.iter().filter(|pin| pin.familiar_name() == repository);
        of_it.filter_map(Reference::digest).map(|digest| digest.to_string()).collect()
    };
    let mut names = Vec::new();
    for reference in &tagged {
        let Some(tag) = reference.tag() else { continue };
        let repository = reference.familiar_name();
        let mut of_it = if digests { digests_of(&repository) } else { Vec::new() };
        if of_it.is_empty() {
            of_it.push(NONE.to_owned());
        }
        names.extend(of_it.iter().map(|digest| Name::new(&repository, tag, digest)));
    }
    let mut seen: Vec<String> = tagged.iter().map(Reference::familiar_name).collect();
    for repository in pinned.iter().map(Reference::familiar_name) {
        if seen.contains(&repository) {
            continue;
        }
        if digests {
            names.extend(digests_of(&repository).iter().map(|digest| Name::new(&repository, NONE, digest)));
        } else {
            names.push(Name::new(&repository, NONE, ""));
        }
        seen.push(repository);
    }
    if names.is_empty() {
        names.push(Name::new(NONE, NONE, NONE));
    }
    names
}

fn row(image: &ImageSummary, name: &Name, no_trunc: bool) -> Value {
    let counted = |count: i64, text: String| if count < 0 { "N/A".to_owned() } else { text };
    json!({
        "Containers": counted(image.containers, image.containers.to_string()),
        "CreatedAt": human::local_time(image.created),
        "CreatedSince": if image.created == NO_TIME { String::new() } else { human::ago(image.created) },
        "Digest": name.digest,
        "ID": if no_trunc { image.id.as_str() } else { human::short_id(&image.id) },
        "Repository": name.repository,
        "SharedSize": counted(image.shared_size, human::fine_size(image.shared_size)),
        "Size": human::size(image.size),
        "Tag": name.tag,
        "UniqueSize": counted(image.shared_size, human::fine_size(image.size - image.shared_size)),
        "VirtualSize": human::fine_size(image.size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageSummary> {
        let hex = |letter: &str| letter.repeat(64);
        skep_wire::from_str(&format!(
            r#"[{{"Containers":-1,"Created":-62135596800,"Id":"sha256:{a}","SharedSize":-1,"Size":7801234,
                 "RepoDigests":["alpine@sha256:{b}"],"RepoTags":["alpine:latest","alpine:3","reg:5000/x/y:1"]}},
                {{"Containers":2,"Created":-62135596800,"Id":"sha256:{c}","SharedSize":100,"Size":1234,
                 "RepoDigests":[],"RepoTags":[]}},
                {{"Containers":-1,"Created":-62135596800,"Id":"sha256:{d}","SharedSize":-1,"Size":0,
                 "RepoDigests":["busybox@sha256:{b}"],"RepoTags":null}}]"#,
            a = hex("a"),
            b = hex("b"),
            c = hex("c"),
            d = hex("d"),
        ))
        .expect("json")
    }

    fn shown(flags: &ListFlags) -> String {
        render(&images(), flags).expect("rendered")
    }

    fn format(text: &str) -> ListFlags {
        ListFlags { format: text.to_owned(), ..ListFlags::default() }
    }

    #[test]
    fn the_table_has_a_row_per_tag() {
        insta::assert_snapshot!(shown(&ListFlags::default()), @r"
        REPOSITORY     TAG       IMAGE ID       CREATED   SIZE
        alpine         latest    aaaaaaaaaaaa   N/A       7.8MB
        alpine         3         aaaaaaaaaaaa   N/A       7.8MB
        reg:5000/x/y   1         aaaaaaaaaaaa   N/A       7.8MB
        <none>         <none>    cccccccccccc   N/A       1.23kB
        busybox        <none>    dddddddddddd   N/A       0B
        ");
    }

    #[test]
    fn digests_belong_to_their_repository() {
        let digest = format!("sha256:{}", "b".repeat(64));
        let wanted = [
            Name::new("alpine", "latest", &digest),
            Name::new("alpine", "3", &digest),
            Name::new("reg:5000/x/y", "1", NONE),
        ];
        assert_eq!(names(&images()[0], true), wanted);
        assert_eq!(names(&images()[2], true), [Name::new("busybox", NONE, &digest)]);
        let with_column = ListFlags { digests: true, ..format("table {{.Tag}}") };
        assert!(shown(&with_column).starts_with("TAG       DIGEST\nlatest    sha256:bbb"));
    }

    #[test]
    fn quiet_is_ids_only() {
        let flags = ListFlags { quiet: true, ..ListFlags::default() };
        assert_eq!(shown(&flags), "aaaaaaaaaaaa\naaaaaaaaaaaa\naaaaaaaaaaaa\ncccccccccccc\ndddddddddddd\n");
    }

    #[test]
    fn sizes_that_were_not_counted_are_not_shown() {
        insta::assert_snapshot!(
            shown(&format("{{.ID}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}}")),
            @r"
        aaaaaaaaaaaa N/A N/A N/A 7.801MB
        aaaaaaaaaaaa N/A N/A N/A 7.801MB
        aaaaaaaaaaaa N/A N/A N/A 7.801MB
        cccccccccccc 2 100B 1.134kB 1.234kB
        dddddddddddd N/A N/A N/A 0B
        "
        );
    }

    #[test]
    fn raw_rows_are_blocks() {
        let text = render(&images()[1..2], &format("raw")).expect("rendered");
        assert!(text.starts_with("repository: <none>\ntag: <none>\nimage_id: cccccccccccc\ncreated_at: "), "{text}");
        assert!(text.ends_with("\nvirtual_size: 1.23kB\n\n"), "{text}");
    }
}
