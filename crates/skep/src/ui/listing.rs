//! Lists of things: `ps`, `images`, `volume ls` and their like, in every form of `--format`.
//!
//! ```text
//! ""  "table"        the command's own table        "json"        one JSON object per line
//! "table TEMPLATE"   a table of chosen columns      "raw"         key: value lines
//! "TEMPLATE"         one rendered line per thing
//! ```

use std::cmp::Ordering;

use serde_json::Value;

use super::table;
use super::template::{Format, Purpose};

/// How a kind of thing is listed.
pub(crate) struct Columns {
    /// The Go type that an error about a missing field names.
    pub(crate) type_name: &'static str,
    /// Field and column title.
    pub(crate) titles: &'static [(&'static str, &'static str)],
    /// The template of the table without `--format`.
    pub(crate) default_table: &'static str,
}

/// Go's name of what a line of `ps` is made from.
const CONTAINERS: &str = "*formatter.ContainerContext";

/// Renders `rows`, each an object with the fields of `columns`.
pub(crate) fn render(columns: &Columns, format: &str, rows: &[Value]) -> Result<String, String> {
    let format = format.trim_matches(' ');
    let (template, is_table) = match format {
        "" | "table" => (columns.default_table, true),
        "json" | "{{json .}}" | "{{ json . }}" => return Ok(json_lines(rows)),
        _ => match format.strip_prefix("table") {
            Some(rest) if rest.starts_with(char::is_whitespace) || rest.starts_with("{{") => (rest.trim(), true),
            _ => (format, false),
        },
    };
    // Docker's list of containers has words of its own.
    let containers = columns.type_name == CONTAINERS;
    let data =
        Format::parse(template, Purpose::Data).map_err(|error| match error.strip_prefix("template parsing error") {
            Some(reason) if containers => format!("failed to parse template{reason}"),
            _ => error,
        })?;
    let failed = |reason: String| match containers {
        true => format!("failed to execute template: {reason}"),
        false => format!("template parsing error: {reason}"),
    };
    let mut out = String::new();
    if is_table {
        let mut titles: serde_json::Map<String, Value> =
            columns.titles.iter().map(|&(field, title)| (field.to_owned(), Value::from(title))).collect();
        titles.entry("LabelMap").or_insert_with(|| Value::Object(serde_json::Map::new()));
        let header = Format::parse(template, Purpose::Header)?;
        out.push_str(&header.render(&Value::Object(titles), columns.type_name).map_err(failed)?);
        out.push('\n');
    }
    for row in rows {
        out.push_str(&data.render(row, columns.type_name).map_err(failed)?);
        out.push('\n');
    }
    Ok(if is_table { table::align(&out) } else { out })
}

/// The order of names that people expect: `net9` before `net10`. Digits count as numbers, all else byte by byte.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (left, right) = (leading_digits(a), leading_digits(b));
        if left > 0 && right > 0 {
            let (number, other) = (without_zeros(&a[..left]), without_zeros(&b[..right]));
            let order = number.len().cmp(&other.len()).then_with(|| number.cmp(other)).then(left.cmp(&right));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[left..], &b[right..]);
            continue;
        }
        match (a.split_first(), b.split_first()) {
            (Some((x, rest)), Some((y, other))) if x == y => (a, b) = (rest, other),
            (x, y) => return x.map(|(byte, _)| byte).cmp(&y.map(|(byte, _)| byte)),
        }
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().take_while(|digit| **digit == b'0').count()..]
}

fn json_lines(rows: &[Value]) -> String {
    let mut out = String::new();
    for row in rows {
        let shown = match row {
            Value::Object(fields) => {
                let mut fields = fields.clone();
                // Only there for `.Label "key"`.
                fields.remove("LabelMap");
                Value::Object(fields)
            }
            other => other.clone(),
        };
        // As Go writes it: these three can stand within texts only.
        out.push_str(&shown.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: Columns = Columns {
        type_name: "*formatter.ContainerContext",
        titles: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Size", "SIZE")],
        default_table: "{{.ID}}\t{{.Names}}",
    };

    #[test]
    fn numbers_within_names_count() {
        let mut names = ["net10", "net9", "b", "net", "net09", "net9a", "a2b10", "a2b9", "B", "net9"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["B", "a2b9", "a2b10", "b", "net", "net9", "net9", "net9a", "net09", "net10"]);
    }

    #[test]
    fn a_labels_column_is_titled_by_its_key() {
        let rows = [json!({"ID": "1", "LabelMap": {"com.example.team": "a"}})];
        let show = |format: &str| render(&COLUMNS, format, &rows).expect("a good format");
        assert_eq!(show("table {{.ID}}\t{{.Label \"com.example.team\"}}"), "CONTAINER ID   team\n1              a\n");
    }

    #[test]
    fn every_form_of_format() {
        let rows = [
            json!({"ID": "0123456789ab", "Names": "web", "Size": "0B"}),
            json!({"ID": "ba", "Names": "db", "Size": "1kB"}),
        ];
        let show = |format: &str| render(&COLUMNS, format, &rows).expect("a good format");
        insta::assert_snapshot!(
            format!("{}--\n{}--\n{}--\n{}", show(""), show("table {{.Names}}\\t{{upper .Size}}"), show("{{.Names}}"), show("json")),
            @r#"
        CONTAINER ID   NAMES
        0123456789ab   web
        ba             db
        --
        NAMES     SIZE
        web       0B
        db        1KB
        --
        web
        db
        --
        {"ID":"0123456789ab","Names":"web","Size":"0B"}
        {"ID":"ba","Names":"db","Size":"1kB"}
        "#
        );
        assert_eq!(
            render(&COLUMNS, "{{.Foo}}", &rows),
            Err("failed to execute template: template: :1:2: executing \"\" at <.Foo>: \
                 can't evaluate field Foo in type *formatter.ContainerContext"
                .to_owned())
        );
    }
}
