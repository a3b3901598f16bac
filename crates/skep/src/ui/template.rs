//! `--format` templates: Go's template language with the functions that Docker adds.
//!
//! Values come as JSON. An object whose keys are fields is strict: a field that does not exist is an error, as it is for
//! a Go struct. An object that is a map (labels, networks) answers `<no value>`.

use std::collections::{BTreeMap, HashMap};

use gtmpl_ng::{Context, ExecError, FuncError, Number, NumberKind, ParseError, Template, Value};
use serde_json::value::RawValue;

/// Keys of the Engine API whose objects are maps, not structs.
const MAP_KEYS: [&str; 16] = [
    "Annotations",
    "Attributes",
    "Containers",
    "DriverOpts",
    "ExposedPorts",
    "GraphDriverData",
    "Labels",
    "LabelMap",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// A parsed `--format` text.
pub(crate) struct Format {
    template: Template,
    text: String,
}

/// Whether a template is rendered for a row of data or for the line of column titles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Data,
    /// Functions that would spoil a title return it unchanged.
    Header,
}

impl Format {
    /// Parses `text`; `\t` and `\n` in it are the characters that they name.
    pub(crate) fn parse(text: &str, purpose: Purpose) -> Result<Self, String> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let text = label_calls(&text);
        let mut template = Template::default();
        match purpose {
            Purpose::Data => template.add_funcs(&DATA_FUNCTIONS),
            Purpose::Header => template.add_funcs(&HEADER_FUNCTIONS),
        }
        template.parse(text.as_str()).map_err(|error| match error {
            ParseError::WithContext(place, reason) => {
                format!("template parsing error: template: :{}: {reason}", place.line)
            }
            other => format!("template parsing error: template: :1: {other}"),
        })?;
        Ok(Format { template, text })
    }

    /// Renders a value. `type_name` is the Go type that an error about a missing field names.
    pub(crate) fn render(&self, value: &serde_json::Value, type_name: &str) -> Result<String, String> {
        let context = Context::from(to_value(value, Shape::Struct));
        self.template.render(&context).map_err(|error| self.describe(&error, type_name))
    }

    fn describe(&self, error: &ExecError, type_name: &str) -> String {
        let Some(inner) = error.as_structured() else { return format!("template: {error}") };
        let place = &inner.context;
        let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        let start = place.col.saturating_sub(1);
        let construct = line.get(start..start + place.len).unwrap_or_default();
        let construct = construct.trim_start_matches("{{").trim_end_matches("}}").trim();
        let position = format!("template: :{}:{}: executing \"\" at <{construct}>", place.line, start);
        // "no field `X` in {...}": the engine's wording; only the field's name is of use.
        match inner.message.strip_prefix("no field `").and_then(|rest| rest.split_once('`')) {
            Some((field, _)) => format!("{position}: can't evaluate field {field} in type {type_name}"),
            None => format!("{position}: {}", inner.message),
        }
    }
}

/// `.Label "key"` is a method with an argument in Go; here it becomes a call of a function on the map of labels.
fn label_calls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(".Label ") {
        let is_method = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | '.'));
        out.push_str(&rest[..at]);
        out.push_str(if is_method { "label .LabelMap " } else { ".Label " });
        rest = &rest[at + ".Label ".len()..];
    }
    out.push_str(rest);
    out
}

#[derive(Clone, Copy)]
enum Shape {
    Struct,
    Map,
}

fn to_value(json: &serde_json::Value, shape: Shape) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::Number(Number::signed(signed)),
            (None, Some(unsigned)) => Value::Number(Number::unsigned(unsigned)),
            (None, None) => Value::Number(Number::float(number.as_f64().unwrap_or_default())),
        },
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => {
            Value::Array(items.iter().map(|item| to_value(item, Shape::Struct)).collect())
        }
        serde_json::Value::Object(fields) => {
            let fields: HashMap<String, Value> = fields
                .iter()
                .map(|(key, value)| {
                    let shape = if MAP_KEYS.contains(&key.as_str()) { Shape::Map } else { Shape::Struct };
                    (key.clone(), to_value(value, shape))
                })
                .collect();
            match shape {
                Shape::Struct => Value::Object(fields),
                Shape::Map => Value::Map(fields),
            }
        }
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) | Value::Object(fields) => {
            serde_json::Value::Object(fields.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
        Value::Number(number) => match number.kind() {
            NumberKind::Signed(n) => n.into(),
            NumberKind::Unsigned(n) => n.into(),
            NumberKind::Float(n) => n.into(),
        },
    }
}

/// The value at `{{json .A.B}}` in the engine's own bytes, which keep the order of fields. None if the template is of
/// another form or the field is missing: then the template engine decides.
pub(crate) fn raw_json_path(template: &str, json: &str) -> Option<String> {
    let path = template.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim().strip_prefix("json ")?.trim();
    let path = path.strip_prefix('.')?;
    if path.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.')) {
        return None;
    }
    let mut current: &RawValue = serde_json::from_str(json).ok()?;
    for field in path.split('.').filter(|field| !field.is_empty()) {
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(current.get()).ok()?;
        current = fields.get(field)?;
    }
    Some(super::json::compact(current.get()))
}

type Function = fn(&[Value]) -> Result<Value, FuncError>;

const DATA_FUNCTIONS: [(&str, Function); 9] = [
    ("json", |arguments| {
        let value = one("json", arguments)?;
        Ok(Value::String(to_json(value).to_string()))
    }),
    ("split", |arguments| {
        let [text, separator] = texts("split", arguments)?;
        Ok(Value::Array(text.split(separator.as_str()).map(|part| Value::String(part.to_owned())).collect()))
    }),
    ("join", join),
    ("title", |arguments| {
        let [text] = texts("title", arguments)?;
        let mut out = String::with_capacity(text.len());
        let mut at_start = true;
        for letter in text.chars() {
            if at_start {
                out.extend(letter.to_uppercase())
            } else {
                out.push(letter)
            }
            at_start = !(letter.is_alphanumeric() || matches!(letter, '_' | '\''));
        }
        Ok(Value::String(out))
    }),
    ("lower", |arguments| texts("lower", arguments).map(|[text]| Value::String(text.to_lowercase()))),
    ("upper", |arguments| texts("upper", arguments).map(|[text]| Value::String(text.to_uppercase()))),
    ("pad", pad),
    ("truncate", |arguments| {
        let (text, length) = (text_at("truncate", arguments, 0)?, count_at("truncate", arguments, 1)?);
        Ok(Value::String(text.chars().take(length).collect()))
    }),
    ("label", |arguments| match (arguments.first(), arguments.get(1)) {
        (Some(Value::Map(labels)), Some(Value::String(key))) => {
            Ok(labels.get(key).cloned().unwrap_or_else(|| Value::String(String::new())))
        }
        _ => Ok(Value::String(String::new())),
    }),
];

const HEADER_FUNCTIONS: [(&str, Function); 9] = [
    ("json", unchanged),
    ("split", unchanged),
    ("join", unchanged),
    ("title", unchanged),
    ("lower", unchanged),
    ("upper", unchanged),
    ("pad", pad),
    ("truncate", unchanged),
    ("label", |arguments| match arguments.get(1) {
        // Docker titles a label's column with the last part of its key.
        Some(Value::String(key)) => {
            let last = key.rsplit('.').next().unwrap_or(key);
            Ok(Value::String(last.replace(['-', '_'], " ")))
        }
        _ => Ok(Value::String(String::new())),
    }),
];

fn unchanged(arguments: &[Value]) -> Result<Value, FuncError> {
    arguments.first().cloned().ok_or_else(|| FuncError::AtLeastXArgs("function".to_owned(), 1))
}

fn join(arguments: &[Value]) -> Result<Value, FuncError> {
    let separator = text_at("join", arguments, 1)?;
    match arguments.first() {
        Some(Value::Array(items)) => {
            let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(Value::String(parts.join(&separator)))
        }
        Some(Value::Nil | Value::NoValue) => Ok(Value::String(String::new())),
        _ => Err(FuncError::Generic("join: expected a list".to_owned())),
    }
}

fn pad(arguments: &[Value]) -> Result<Value, FuncError> {
    let text = text_at("pad", arguments, 0)?;
    if text.is_empty() {
        return Ok(Value::String(text));
    }
    let (before, after) = (count_at("pad", arguments, 1)?, count_at("pad", arguments, 2)?);
    Ok(Value::String(format!("{}{text}{}", " ".repeat(before), " ".repeat(after))))
}

fn one<'v>(name: &str, arguments: &'v [Value]) -> Result<&'v Value, FuncError> {
    match arguments {
        [value] => Ok(value),
        _ => Err(FuncError::ExactlyXArgs(name.to_owned(), 1)),
    }
}

fn texts<const N: usize>(name: &str, arguments: &[Value]) -> Result<[String; N], FuncError> {
    if arguments.len() != N {
        return Err(FuncError::ExactlyXArgs(name.to_owned(), N));
    }
    let mut out = [const { String::new() }; N];
    for (index, slot) in out.iter_mut().enumerate() {
        *slot = text_at(name, arguments, index)?;
    }
    Ok(out)
}

fn text_at(name: &str, arguments: &[Value], index: usize) -> Result<String, FuncError> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(FuncError::Generic(format!("{name}: wrong type for value; expected string; got {other}"))),
        None => Err(FuncError::AtLeastXArgs(name.to_owned(), index + 1)),
    }
}

fn count_at(name: &str, arguments: &[Value], index: usize) -> Result<usize, FuncError> {
    const LIMIT: i64 = 1 << 16;
    match arguments.get(index) {
        Some(Value::Number(number)) => match number.as_i64() {
            Some(count @ 0..=LIMIT) => Ok(usize::try_from(count).unwrap_or(0)),
            _ => Err(FuncError::Generic(format!("{name}: number out of range"))),
        },
        _ => Err(FuncError::Generic(format!("{name}: expected an integer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, value: &serde_json::Value) -> Result<String, String> {
        Format::parse(template, Purpose::Data)?.render(value, "*formatter.ContainerContext")
    }

    #[test]
    fn dockers_functions_work() {
        let value =
            json!({"Names": "web", "LabelMap": {"com.x": "1"}, "List": ["a", "b"], "N": 3, "State": {"Pid": 7}});
        for (template, text) in [
            ("{{.Names}}\\t{{.N}}", "web\t3"),
            ("{{json .List}}", "[\"a\",\"b\"]"),
            ("{{json .}}", r#"{"LabelMap":{"com.x":"1"},"List":["a","b"],"N":3,"Names":"web","State":{"Pid":7}}"#),
            ("{{.Label \"com.x\"}}|{{.Label \"no\"}}", "1|"),
            ("{{join .List \", \"}}", "a, b"),
            ("{{upper .Names}} {{title \"a b\"}} {{truncate .Names 2}} {{pad .Names 1 1}}|", "WEB A B we  web |"),
            ("{{range .List}}{{println .}}{{end}}", "a\nb\n"),
            ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=a 1=b "),
            ("{{index .List 1}} {{len .List}} {{if eq .N 3}}yes{{else}}no{{end}}", "b 2 yes"),
            ("{{.LabelMap.nosuch}}", "<no value>"),
            ("{{index (split \"a/b\" \"/\") 1}}", "b"),
            ("{{with .State}}{{.Pid}}{{end}} {{printf \"%05d\" .N}}", "7 00003"),
        ] {
            assert_eq!(render(template, &value).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn a_field_that_does_not_exist_is_an_error() {
        assert_eq!(
            render("{{.Nope}}", &json!({"Names": "x"})),
            Err("template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"
                .to_owned())
        );
        assert!(render("{{.Names", &json!({})).is_err_and(|e| e.starts_with("template parsing error: template: :1: ")));
    }

    #[test]
    fn json_of_a_path_keeps_the_engines_order() {
        let json = r#"{"Z": {"b": 1, "a": [1, 2]}, "A": 1.0}"#;
        assert_eq!(raw_json_path("{{json .}}", json).as_deref(), Some(r#"{"Z":{"b":1,"a":[1,2]},"A":1.0}"#));
        assert_eq!(raw_json_path("{{ json .Z }}", json).as_deref(), Some(r#"{"b":1,"a":[1,2]}"#));
        assert_eq!(raw_json_path("{{json .Z.a}}x", json), None);
        assert_eq!(raw_json_path("{{json .Nope}}", json), None);
    }
}
