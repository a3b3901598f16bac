//! JSON into the wire types, by the rules of Go's `encoding/json`.
//!
//! Keys match whatever their case; `null` leaves a field at its default; unknown keys are ignored; a wrong type is reported
//! with the Go field's path, because clients show that text. Type names in such texts are Go's as far as they can be
//! told from here: the elements of lists and maps are taken to be strings.

use std::collections::BTreeMap;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// Why a text isn't the JSON that was wanted. `Display` is Go's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there at all.
    #[error("EOF")]
    Empty,
    /// The text stops in the middle.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// More after the value.
    #[error("unexpected content after JSON")]
    Trailing,
    /// A value of the wrong type.
    #[error("json: cannot unmarshal {found} into Go {} of type {wanted}", place(structure, field))]
    Type {
        /// What is there: `string`, `number 1.5`, `array`.
        found: String,
        /// Go's name of the type wanted.
        wanted: String,
        /// The innermost struct, without its package; empty outside of structs.
        structure: &'static str,
        /// The path of the field from the outermost struct.
        field: String,
    },
    /// A value that its type refuses (a time, an address).
    #[error("{0}")]
    Other(String),
}

fn place(structure: &str, field: &str) -> String {
    if field.is_empty() { "value".to_owned() } else { format!("struct field {structure}.{field}") }
}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        DecodeError::Other(message.to_string())
    }
}

impl DecodeError {
    /// Adds the field in which it happened.
    fn within(self, outer: &'static str, key: &str) -> Self {
        match self {
            DecodeError::Type { found, wanted, structure, field } => DecodeError::Type {
                found,
                wanted,
                structure: if field.is_empty() { outer } else { structure },
                field: if field.is_empty() { key.to_owned() } else { format!("{key}.{field}") },
            },
            other => other,
        }
    }
}

/// Reads one JSON value and nothing after it.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    from_str(&String::from_utf8_lossy(bytes))
}

/// Reads one JSON value and nothing after it.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = match values.next() {
        None => return Err(DecodeError::Empty),
        Some(Err(error)) => return Err(crate::syntax::explain(text, &error)),
        Some(Ok(value)) => value,
    };
    if !text[values.byte_offset()..].trim_ascii().is_empty() {
        return Err(DecodeError::Trailing);
    }
    from_value(value)
}

/// Reads a value that was parsed already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Decoder(value))
}

struct Decoder(Value);

impl Decoder {
    fn wrong(&self, wanted: &str) -> DecodeError {
        let found = match &self.0 {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if wanted.starts_with("int") || wanted.starts_with("uint") => {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        DecodeError::Type { found, wanted: wanted.to_owned(), structure: "", field: String::new() }
    }
}

macro_rules! integer {
    ($method:ident, $visit:ident, $type:ty, $go:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = match &self.0 {
                Value::Null => Some(0),
                Value::Number(number) => number
                    .as_i64()
                    .and_then(|n| <$type>::try_from(n).ok())
                    .or_else(|| number.as_u64().and_then(|n| <$type>::try_from(n).ok())),
                _ => None,
            };
            match number {
                Some(number) => visitor.$visit(number),
                None => Err(self.wrong($go)),
            }
        }
    };
}

impl<'de> Deserializer<'de> for Decoder {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(DecodeError::custom("json: a number out of range")),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(entries) => visitor.visit_map(Entries::new(entries)),
        }
    }

    integer!(deserialize_i8, visit_i8, i8, "int8");
    integer!(deserialize_i16, visit_i16, i16, "int16");
    integer!(deserialize_i32, visit_i32, i32, "int32");
    integer!(deserialize_i64, visit_i64, i64, "int64");
    integer!(deserialize_u8, visit_u8, u8, "uint8");
    integer!(deserialize_u16, visit_u16, u16, "uint16");
    integer!(deserialize_u32, visit_u32, u32, "uint32");
    integer!(deserialize_u64, visit_u64, u64, "uint64");

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0 {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            _ => Err(self.wrong("float64")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.wrong("bool")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_string(text),
            _ => Err(self.wrong("string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            _ => Err(self.wrong("[]string")),
        }
    }

    /// Go's arrays have a length: what is missing is zero, what is too much is dropped.
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let mut items = match self.0 {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            _ => return Err(self.wrong(&format!("[{length}]uint"))),
        };
        items.resize(length, Value::Null);
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::new(Map::new())),
            Value::Object(entries) => visitor.visit_map(Entries::new(entries)),
            _ => Err(self.wrong("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_map(Fields::new(name, fields, Map::new())),
            Value::Object(entries) => visitor.visit_map(Fields::new(name, fields, entries)),
            _ => Err(self.wrong(&go_struct(name))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(self.wrong("string")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple_struct identifier i128 u128 }
}

/// The struct with its Go package.
fn go_struct(name: &str) -> String {
    let package = match name {
        "EndpointSettings" | "NetworkingConfig" | "Ipam" | "ConnectOptions" | "DisconnectOptions" => "network",
        "Mount" | "BindOptions" | "VolumeOptions" | "TmpfsOptions" | "ImageOptions" => "mount",
        "CreateOptions" => "volume",
        "AuthConfig" => "registry",
        "PortBinding" => "nat",
        "Empty" => return "struct {}".to_owned(),
        _ => "container",
    };
    format!("{package}.{name}")
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        self.0.next().map(|item| seed.deserialize(Decoder(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of a map: every key is kept as it is.
struct Entries {
    entries: serde_json::map::IntoIter,
    value: Value,
}

impl Entries {
    fn new(entries: Map<String, Value>) -> Self {
        Entries { entries: entries.into_iter(), value: Value::Null }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = value;
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        seed.deserialize(Decoder(std::mem::take(&mut self.value)))
    }
}

/// The fields of a struct that are there and not `null`, under their right names.
struct Fields {
    structure: &'static str,
    entries: std::collections::btree_map::IntoIter<&'static str, Value>,
    key: &'static str,
    value: Value,
}

impl Fields {
    fn new(structure: &'static str, fields: &'static [&'static str], entries: Map<String, Value>) -> Self {
        let mut found = BTreeMap::new();
        let mut exact = BTreeMap::new();
        for (key, value) in entries.into_iter().filter(|(_, value)| !value.is_null()) {
            if let Some(&field) = fields.iter().find(|&&field| field == key) {
                exact.insert(field, value);
            } else if let Some(&field) = fields.iter().find(|field| field.eq_ignore_ascii_case(&key)) {
                found.insert(field, value);
            }
        }
        found.append(&mut exact);
        Fields { structure, entries: found.into_iter(), key: "", value: Value::Null }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        (self.key, self.value) = (key, value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let value = std::mem::take(&mut self.value);
        seed.deserialize(Decoder(value)).map_err(|error| error.within(self.structure, self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerCreateRequest, ExecCreateRequest, HostConfig};

    fn fault<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        from_str::<T>(text).expect_err(text).to_string()
    }

    #[test]
    fn keys_match_whatever_their_case() {
        let host: HostConfig = from_str(r#"{"memory": 5, "NETWORKMODE": "none", "other": [1]}"#).expect("json");
        assert_eq!((host.memory, host.network_mode.as_str()), (5, "none"));
        let host: HostConfig = from_str(r#"{"memory": 5, "Memory": 6}"#).expect("json");
        assert_eq!(host.memory, 6);
    }

    #[test]
    fn null_leaves_the_default() {
        let host: HostConfig = from_str(
            r#"{"Memory": null, "Binds": null, "RestartPolicy": null, "PortBindings": {"80/tcp": null}, "Init": null}"#,
        )
        .expect("json");
        assert_eq!(host.memory, 0);
        assert_eq!(host.port_bindings["80/tcp"], None);
        assert_eq!(from_str::<HostConfig>("null").expect("json"), HostConfig::default());
        assert_eq!(from_str::<HostConfig>(r#"{"ConsoleSize": [24]}"#).expect("json").console_size, [24, 0]);
    }

    #[test]
    fn a_command_may_be_a_text() {
        let exec: ExecCreateRequest = from_str(r#"{"Cmd": "ls"}"#).expect("json");
        assert_eq!(exec.cmd, Some(vec!["ls".to_owned()]));
        let exec: ExecCreateRequest = from_str(r#"{"Cmd": []}"#).expect("json");
        assert_eq!(exec.cmd, Some(Vec::new()));
        let exec: ExecCreateRequest = from_str(r#"{"Cmd": null}"#).expect("json");
        assert_eq!(exec.cmd, None);
    }

    #[test]
    fn wrong_types_are_told_in_gos_words() {
        for (text, message) in [
            (
                r#"{"Image": 5}"#,
                "json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
            ),
            (
                r#"{"HostConfig": {"Memory": "64m"}}"#,
                "json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64",
            ),
            (
                r#"{"HostConfig": {"Memory": 1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field HostConfig.HostConfig.Memory of type int64",
            ),
            (
                r#"{"HostConfig": {"BlkioWeight": 70000}}"#,
                "json: cannot unmarshal number 70000 into Go struct field HostConfig.HostConfig.BlkioWeight of type uint16",
            ),
            (
                r#"{"HostConfig": {"RestartPolicy": "always"}}"#,
                "json: cannot unmarshal string into Go struct field HostConfig.HostConfig.RestartPolicy of type container.RestartPolicy",
            ),
            (r#"{"Tty": "yes"}"#, "json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool"),
            (
                r#"{"Env": "A=b"}"#,
                "json: cannot unmarshal string into Go struct field CreateRequest.Env of type []string",
            ),
            (r#"{"Env": [1]}"#, "json: cannot unmarshal number into Go struct field CreateRequest.Env of type string"),
            (r#"{"Cmd": 1}"#, "json: cannot unmarshal number into Go value of type string"),
            (r#"{"Cmd": {}}"#, "json: cannot unmarshal object into Go value of type string"),
            ("[]", "json: cannot unmarshal array into Go value of type container.CreateRequest"),
        ] {
            assert_eq!(fault::<ContainerCreateRequest>(text), message);
        }
    }

    #[test]
    fn syntax_faults_are_told_in_gos_words() {
        for (text, message) in [
            ("", "EOF"),
            ("  ", "EOF"),
            ("{", "unexpected EOF"),
            (r#"{"a": "#, "unexpected EOF"),
            (r#"{"a""#, "unexpected EOF"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("tru!", "invalid character '!' in literal true (expecting 'e')"),
            ("{a: 1}", "invalid character 'a' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a": 1 "b"}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a": 1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12g4""#, "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("[1.]", "invalid character ']' after decimal point in numeric literal"),
            ("[1e+]", "invalid character ']' in exponent of numeric literal"),
            ("{} {}", "unexpected content after JSON"),
        ] {
            assert_eq!(fault::<Value>(text), message, "{text}");
        }
    }
}
