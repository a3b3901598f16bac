//! The types of flag values that several commands share, with the error texts of Go's parsers.

use std::time::Duration;

use skep_types::{parse_bytes, parse_go_duration};

use super::csv;
use super::flags::FlagValue;

impl FlagValue for bool {
    const TYPE: &'static str = "";
    const WITHOUT_VALUE: Option<&'static str> = Some("true");

    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = parse_bool(text)?;
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        self.then(|| "true".to_owned())
    }
}

/// Reads a switch in Go's forms.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

impl FlagValue for String {
    const TYPE: &'static str = "string";

    fn set(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        (!self.is_empty()).then(|| format!("{self:?}"))
    }
}

/// A flag that may be absent.
impl<T: FlagValue + Default> FlagValue for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const WITHOUT_VALUE: Option<&'static str> = T::WITHOUT_VALUE;

    fn set(&mut self, text: &str) -> Result<(), String> {
        let mut value = T::default();
        value.set(text)?;
        *self = Some(value);
        Ok(())
    }
}

/// A flag given several times.
impl FlagValue for Vec<String> {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.push(text.to_owned());
        Ok(())
    }
}

/// Texts separated by commas, given several times: a text with a comma stands in quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Strings(pub(crate) Vec<String>);

impl FlagValue for Strings {
    const TYPE: &'static str = "strings";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0.extend(csv::fields(text)?);
        Ok(())
    }
}

/// Why a text is no number, in Go's words.
pub(crate) fn go_reason(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

macro_rules! integer {
    ($type:ty, $name:literal, $go:literal) => {
        impl FlagValue for $type {
            const TYPE: &'static str = $name;

            fn set(&mut self, text: &str) -> Result<(), String> {
                *self = text.parse().map_err(|error| format!("{}: parsing {text:?}: {}", $go, go_reason(&error)))?;
                Ok(())
            }

            fn default_text(&self) -> Option<String> {
                (*self != 0).then(|| self.to_string())
            }
        }
    };
}

integer!(i64, "int", "strconv.ParseInt");
integer!(u16, "uint16", "strconv.ParseUint");
integer!(u32, "uint32", "strconv.ParseUint");

/// A size such as `64m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) i64);

impl FlagValue for Size {
    const TYPE: &'static str = "bytes";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0 = read_size(text)?;
        Ok(())
    }
}

/// Reads a size with the error texts of Go's units package.
pub(crate) fn read_size(text: &str) -> Result<i64, String> {
    parse_bytes(text).map_err(|e| {
        let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &text[..text.len() - suffix.len()];
        match number.parse::<f64>() {
            Ok(_) if !suffix.is_empty() => format!("invalid suffix: '{}'", suffix.to_lowercase()),
            _ => e.to_string(),
        }
    })
}

/// A size where -1 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SwapSize(pub(crate) i64);

impl FlagValue for SwapSize {
    const TYPE: &'static str = "bytes";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0 = if text == "-1" { -1 } else { read_size(text)? };
        Ok(())
    }
}

/// A duration in Go's form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl FlagValue for GoDuration {
    const TYPE: &'static str = "duration";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0 = parse_go_duration(text).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        Some("0s".to_owned())
    }
}

/// A number of processors, in billionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NanoCpus(pub(crate) i64);

impl FlagValue for NanoCpus {
    const TYPE: &'static str = "decimal";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0 = parse_nano_cpus(text)?;
        Ok(())
    }
}

fn parse_nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    format!("{whole}{fraction}").parse().map_err(|_| bad())
}

/// `--filter key=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter(pub(crate) Vec<(String, String)>);

impl FlagValue for Filter {
    const TYPE: &'static str = "filter";

    fn set(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
        self.0.push((key.trim().to_lowercase(), value.trim().to_owned()));
        Ok(())
    }
}

impl Filter {
    /// The `filters` query parameter: `{"key":{"value":true}}`; empty if there is no filter.
    pub(crate) fn to_query(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut map = std::collections::BTreeMap::<&str, std::collections::BTreeMap<&str, bool>>::new();
        for (key, value) in &self.0 {
            map.entry(key).or_default().insert(value, true);
        }
        serde_json::to_string(&map).ok()
    }
}

/// `key=value`, given several times; the last of a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyValues(pub(crate) std::collections::BTreeMap<String, String>);

impl FlagValue for KeyValues {
    const TYPE: &'static str = "map";

    fn set(&mut self, text: &str) -> Result<(), String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn default_text(&self) -> Option<String> {
        Some("map[]".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: FlagValue + Default>(text: &str) -> Result<T, String> {
        let mut value = T::default();
        value.set(text).map(|()| value)
    }

    #[test]
    fn processors_are_exact() {
        for (text, nano) in
            [("1", 1_000_000_000), ("0.5", 500_000_000), (".25", 250_000_000), ("1.500000000000", 1_500_000_000)]
        {
            assert_eq!(set::<NanoCpus>(text), Ok(NanoCpus(nano)));
        }
        assert_eq!(set::<NanoCpus>("0.0000000001"), Err("value is too precise".to_owned()));
        assert_eq!(set::<NanoCpus>("abc"), Err("failed to parse abc as a rational number".to_owned()));
    }

    #[test]
    fn sizes_fail_in_dockers_words() {
        assert_eq!(set::<Size>("12x"), Err("invalid suffix: 'x'".to_owned()));
        assert_eq!(set::<Size>("abc"), Err("invalid size: 'abc'".to_owned()));
        assert_eq!(set::<Size>("-1"), Err("invalid size: '-1'".to_owned()));
        assert_eq!(set::<SwapSize>("-1"), Ok(SwapSize(-1)));
        assert_eq!(set::<Size>("1.5g"), Ok(Size(3 << 29)));
    }

    #[test]
    fn filters_become_the_apis_json() {
        let mut filter = Filter::default();
        for text in ["label=a=b", "Status=running", "status=exited"] {
            filter.set(text).expect("good");
        }
        assert_eq!(
            filter.to_query().as_deref(),
            Some(r#"{"label":{"a=b":true},"status":{"exited":true,"running":true}}"#)
        );
        assert_eq!(filter.set("foo"), Err("bad format of filter (expected name=value)".to_owned()));
    }

    #[test]
    fn integers_fail_in_gos_words() {
        assert_eq!(set::<u16>("70000"), Err("strconv.ParseUint: parsing \"70000\": value out of range".to_owned()));
    }
}
