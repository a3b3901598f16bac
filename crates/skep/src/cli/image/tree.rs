//! `images --tree`: names with the platforms behind them.

use std::fmt::Write as _;

use skep_wire::{ImageSummary, ManifestSummary};

use crate::ui::{human, tty};

/// How the tree is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns to fit into.
    width: usize,
    /// With the terminal's colours.
    colours: bool,
}

impl Look {
    pub(super) fn of_stdout() -> Self {
        Look { width: tty::columns(), colours: tty::is_terminal(std::io::stdout()) }
    }

    fn paint(self, codes: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const GAP: usize = 3;
const LEAST_NAME: usize = 12;
const NAMELESS: &str = "<untagged>";

const YELLOW: &str = "93";
const BOLD: &str = "39;1";
const NAME: &str = "34;1";
const NORMAL: &str = "39";
const FAINT: &str = "39;2";
const CHIP: &str = "30;106";

/// A column behind the names.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
}

const COLUMNS: [Column; 4] = [
    Column { title: "ID", width: 12, right: false },
    Column { title: "DISK USAGE", width: 10, right: true },
    Column { title: "CONTENT SIZE", width: 12, right: true },
    Column { title: "EXTRA", width: 5, right: false },
];

/// What stands in the columns of a line.
struct Details {
    cells: [String; 4],
    in_use: bool,
}

impl Details {
    fn new(id: &str, total: i64, content: i64, in_use: bool) -> Self {
        let used = if in_use { "U" } else { "" };
        Details {
            cells: [human::short_id(id).to_owned(), human::size(total), human::size(content), used.to_owned()],
            in_use,
        }
    }
}

/// The whole output. Without `all`, images without a tag are left out.
pub(super) fn render(images: &[ImageSummary], all: bool, look: Look) -> String {
    let shown: Vec<&ImageSummary> = images.iter().filter(|image| all || !image.repo_tags.is_empty()).collect();
    let mut out = format!("{}\n", look.paint(YELLOW, WARNING));
    out.push_str(&legend(look));
    let (name_width, columns) = fit(&shown, look.width);
    out.push_str(&cell(look, BOLD, "IMAGE", name_width, false));
    for column in columns {
        let _ = write!(out, "{:GAP$}{}", "", cell(look, BOLD, column.title, column.width, column.right));
    }
    out.push('\n');
    let spaced = shown.iter().any(|image| platforms(image).next().is_some());
    for image in shown {
        out.push_str(&lines(image, name_width, columns, look));
        if spaced {
            out.push('\n');
        }
    }
    out
}

/// What the marks mean, at the right edge.
fn legend(look: Look) -> String {
    let (plain, drawn) = match look.colours {
        true => {
            let drawn = format!(
                "{} {} {} In Use ",
                look.paint(CHIP, "i"),
                look.paint("96", "Info → "),
                look.paint(CHIP, " U ")
            );
            ("i Info →   U  In Use ", drawn)
        }
        false => ("Info ->  U In Use ", "Info ->  U In Use ".to_owned()),
    };
    format!("{}{drawn}\n\n", " ".repeat(look.width.saturating_sub(plain.chars().count())))
}

/// The width of the names, and the columns that there is room for.
fn fit(images: &[&ImageSummary], width: usize) -> (usize, &'static [Column]) {
    let mut left = width;
    let mut columns = 0;
    for column in &COLUMNS {
        let needed = column.width + GAP;
        if left < needed + LEAST_NAME {
            break;
        }
        left -= needed;
        columns += 1;
    }
    let names = images.iter().flat_map(|image| {
        image
            .repo_tags
            .iter()
            .map(String::len)
            .chain([NAMELESS.len()].into_iter().filter(|_| image.repo_tags.is_empty()))
    });
    // As Docker counts: a branch is seven bytes wide.
    let branches = images.iter().flat_map(|image| platforms(image)).map(|one| platform(one).len() + "└─ ".len());
    let widest = names.chain(branches).max().unwrap_or(0).max("IMAGE".len());
    (left.min(widest), &COLUMNS[..columns])
}

fn lines(image: &ImageSummary, name_width: usize, columns: &[Column], look: Look) -> String {
    let children: Vec<&ManifestSummary> = platforms(image).collect();
    let used = |one: &ManifestSummary| one.image_data.as_ref().is_some_and(|data| !data.containers.is_empty());
    let in_use = image.containers > 0 || children.iter().any(|one| used(one));
    let content = children.iter().map(|one| one.size.content).sum();
    let mut out = String::new();
    let nameless = [NAMELESS.to_owned()];
    let names = if image.repo_tags.is_empty() { nameless.as_slice() } else { image.repo_tags.as_slice() };
    let drawn: Vec<String> = names.iter().map(|name| cell(look, NAME, name, name_width, false)).collect();
    // The last name's line has the figures; the others end with the name.
    let (last, others) = drawn.split_last().map_or(("", [].as_slice()), |(last, others)| (last.as_str(), others));
    for name in others {
        let _ = writeln!(out, "{}", name.trim_end());
    }
    out.push_str(last);
    out.push_str(&figures(&Details::new(&image.id, image.size, content, in_use), columns, NORMAL, look));
    for (index, one) in children.iter().enumerate() {
        let branch = if index + 1 == children.len() { "└─ " } else { "├─ " };
        let codes = if one.available { NORMAL } else { FAINT };
        out.push_str(&cell(look, codes, &format!("{branch}{}", platform(one)), name_width, false));
        let details = Details::new(&one.id, one.size.total, one.size.content, used(one));
        out.push_str(&figures(&details, columns, codes, look));
    }
    out
}

fn figures(details: &Details, columns: &[Column], codes: &str, look: Look) -> String {
    let mut out = String::new();
    for (column, text) in columns.iter().zip(&details.cells) {
        let is_mark = column.title == "EXTRA" && details.in_use && look.colours;
        let drawn = match is_mark {
            true => cell(look, CHIP, &format!(" {text} "), column.width, false),
            false => cell(look, codes, text, column.width, column.right),
        };
        let _ = write!(out, "{:GAP$}{drawn}", "");
    }
    out.push('\n');
    out
}

/// A text in a column; one that is too long is cut.
fn cell(look: Look, codes: &str, text: &str, width: usize, right: bool) -> String {
    let length = text.chars().count();
    if length > width {
        let kept: String = text.chars().take(width.saturating_sub(3)).collect();
        return look.paint(codes, &format!("{kept}..."));
    }
    let drawn = if text.is_empty() { String::new() } else { look.paint(codes, text) };
    let fill = " ".repeat(width - length);
    if right { format!("{fill}{drawn}") } else { format!("{drawn}{fill}") }
}

/// The images behind a name; statements about images have no line.
fn platforms(image: &ImageSummary) -> impl Iterator<Item = &ManifestSummary> {
    image.manifests.iter().filter(|one| one.kind == "image")
}

fn platform(one: &ManifestSummary) -> String {
    let Some(data) = &one.image_data else { return String::new() };
    let parts = [&data.platform.os, &data.platform.architecture, &data.platform.variant];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageSummary> {
        let manifest = |digit: &str, platform: &str, available: bool, containers: &str| {
            let (architecture, variant) = platform.split_once('/').unwrap_or((platform, ""));
            format!(
                r#"{{"ID":"sha256:{}","Available":{available},"Kind":"image","Size":{{"Content":2058000,"Total":6043292}},
                "ImageData":{{"Platform":{{"os":"linux","architecture":"{architecture}","variant":"{variant}"}},"Containers":{containers}}}}}"#,
                digit.repeat(64)
            )
        };
        let attestation = r#"{"ID":"sha256:00","Kind":"attestation"}"#;
        let text = format!(
            r#"[{{"Id":"sha256:{a}","Size":8101192,"RepoTags":["multi:1","other:2"],"Manifests":[{},{},{attestation}]}},
                {{"Id":"sha256:{b}","Size":1234,"RepoTags":[],"RepoDigests":[]}}]"#,
            manifest("1", "amd64", true, r#"["cc"]"#),
            manifest("2", "arm64/v8", false, "null"),
            a = "a".repeat(64),
            b = "b".repeat(64),
        );
        skep_wire::from_str(&text).expect("json")
    }

    const PLAIN: Look = Look { width: 80, colours: false };

    #[test]
    fn platforms_are_branches() {
        insta::assert_snapshot!(render(&images(), false, PLAIN), @r"
        WARNING: This is an experimental feature. The output may change and shouldn't be depended on.
                                                                      Info ->  U In Use 

        IMAGE                   ID             DISK USAGE   CONTENT SIZE   EXTRA
        multi:1
        other:2                 aaaaaaaaaaaa        8.1MB         4.12MB   U    
        ├─ linux/amd64          111111111111       6.04MB         2.06MB   U    
        └─ linux/arm64/v8       222222222222       6.04MB         2.06MB
        ");
        let all = render(&images(), true, PLAIN);
        assert!(all.contains("\n<untagged>              bbbbbbbbbbbb       1.23kB"), "{all}");
    }

    #[test]
    fn columns_without_room_are_left_out() {
        let narrow = render(&images(), false, Look { width: 40, colours: false });
        assert!(narrow.contains("IMAGE          ID             DISK USAGE\n"), "{narrow}");
        assert!(narrow.contains("\n└─ linux/..."), "{narrow}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let drawn = render(&images(), false, Look { width: 80, colours: true });
        assert!(drawn.contains("\x1b[34;1mother:2\x1b[0m"), "{drawn}");
        assert!(drawn.contains("\x1b[39;2m└─ linux/arm64/v8\x1b[0m"), "{drawn}");
        assert!(!render(&images(), false, PLAIN).contains('\x1b'));
    }
}
