//! Command-line flags with the rules of Go's pflag, which scripts written for Docker rely on.
//!
//! `--name=value`, `--name value`, `-abc`, `-p80:80`, `-p=80`, `--rm=false`; `--` ends the flags; a command that runs
//! something in a container stops at the first word that is no flag. Error texts are pflag's.
//!
//! [`flags!`] makes a struct of typed values, so that a command cannot ask for a flag that it did not declare.

use std::fmt::Write as _;

/// A type that a flag's text is read into.
pub(crate) trait FlagValue {
    /// What the help shows behind the name; empty for a switch.
    const TYPE: &'static str;
    /// What a flag without a value means.
    const WITHOUT_VALUE: Option<&'static str> = None;
    /// Takes one occurrence of the flag.
    fn set(&mut self, text: &str) -> Result<(), String>;
    /// The default as the help shows it.
    fn default_text(&self) -> Option<String> {
        None
    }
}

/// What the parser and the help need to know about a flag.
pub(crate) struct FlagSpec {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) usage: &'static str,
    pub(crate) type_name: &'static str,
    pub(crate) without_value: Option<&'static str>,
    pub(crate) default_text: Option<String>,
}

/// A set of flags, made by [`flags!`] or a pair of such sets.
pub(crate) trait FlagSet: Default {
    fn specs() -> Vec<FlagSpec>;
    /// Sets the flag at `index` of [`FlagSet::specs`].
    fn set(&mut self, index: usize, text: &str) -> Result<(), String>;
}

/// Declares a struct of flags: `field: Type [= default] => "long" ['s'], "usage";`.
macro_rules! flags {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($field:ident : $type:ty $(= $default:expr)? => $long:literal $($short:literal)?, $usage:expr;)*
    }) => {
        $(#[$meta])*
        $visibility struct $name {
            $(pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $crate::cli::flags::default_value!($type $(, $default)?),)* }
            }
        }

        impl $crate::cli::flags::FlagSet for $name {
            fn specs() -> Vec<$crate::cli::flags::FlagSpec> {
                let defaults = <$name as Default>::default();
                let _ = &defaults;
                vec![$($crate::cli::flags::FlagSpec {
                    long: $long,
                    short: $crate::cli::flags::short_name!($($short)?),
                    usage: $usage,
                    type_name: <$type as $crate::cli::flags::FlagValue>::TYPE,
                    without_value: <$type as $crate::cli::flags::FlagValue>::WITHOUT_VALUE,
                    default_text: $crate::cli::flags::FlagValue::default_text(&defaults.$field),
                },)*]
            }

            fn set(&mut self, index: usize, text: &str) -> Result<(), String> {
                let _ = text;
                #[allow(unused_mut, reason = "a set without flags counts nothing")]
                let mut next = 0usize;
                $(
                    if index == next {
                        return $crate::cli::flags::FlagValue::set(&mut self.$field, text);
                    }
                    next += 1;
                )*
                let _ = (index, next);
                Ok(())
            }
        }
    };
}

macro_rules! default_value {
    ($type:ty) => {
        <$type as Default>::default()
    };
    ($type:ty, $default:expr) => {
        <$type as From<_>>::from($default)
    };
}

macro_rules! short_name {
    () => {
        None
    };
    ($short:literal) => {
        Some($short)
    };
}

pub(crate) use {default_value, flags, short_name};

flags! {
    /// For commands without flags.
    pub(crate) struct NoFlags {}
}

impl<A: FlagSet, B: FlagSet> FlagSet for (A, B) {
    fn specs() -> Vec<FlagSpec> {
        let mut specs = A::specs();
        specs.append(&mut B::specs());
        specs
    }

    fn set(&mut self, index: usize, text: &str) -> Result<(), String> {
        let first = A::specs().len();
        if index < first { self.0.set(index, text) } else { self.1.set(index - first, text) }
    }
}

/// Whether flags may stand behind words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Flags and words in any order.
    Mixed,
    /// The first word ends the flags: what follows belongs to the container's command.
    FlagsFirst,
}

/// Why parsing ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FlagError {
    /// `--help` was there.
    Help,
    /// A wrong flag, in pflag's words.
    Wrong(String),
}

/// Reads flags into `F`; the words left over come back.
pub(crate) fn parse<F: FlagSet>(words: &[String], order: Order) -> Result<(F, Vec<String>), FlagError> {
    let specs = F::specs();
    let mut flags = F::default();
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.extend(words.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            set_long(&specs, &mut flags, long, &mut words)?;
        } else if word.len() > 1 && word.starts_with('-') {
            set_short(&specs, &mut flags, &word[1..], &mut words)?;
        } else {
            rest.push(word.clone());
            if order == Order::FlagsFirst {
                rest.extend(words.cloned());
                break;
            }
        }
    }
    Ok((flags, rest))
}

fn set_long<'w>(
    specs: &[FlagSpec],
    flags: &mut impl FlagSet,
    text: &str,
    words: &mut impl Iterator<Item = &'w String>,
) -> Result<(), FlagError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(FlagError::Wrong(format!("bad flag syntax: --{text}")));
    }
    let Some(index) = specs.iter().position(|spec| spec.long == name) else {
        return Err(if name == "help" { FlagError::Help } else { FlagError::Wrong(format!("unknown flag: --{name}")) });
    };
    let spec = &specs[index];
    let value = match (value, spec.without_value) {
        (Some(value), _) => value,
        (None, Some(implied)) => implied,
        (None, None) => words.next().ok_or_else(|| FlagError::Wrong(format!("flag needs an argument: --{name}")))?,
    };
    apply(spec, flags, index, value)
}

fn set_short<'w>(
    specs: &[FlagSpec],
    flags: &mut impl FlagSet,
    cluster: &str,
    words: &mut impl Iterator<Item = &'w String>,
) -> Result<(), FlagError> {
    for (position, letter) in cluster.char_indices() {
        let Some(index) = specs.iter().position(|spec| spec.short == Some(letter)) else {
            if letter == 'h' {
                return Err(FlagError::Help);
            }
            return Err(FlagError::Wrong(format!("unknown shorthand flag: '{letter}' in -{cluster}")));
        };
        let spec = &specs[index];
        let behind = &cluster[position + letter.len_utf8()..];
        if let Some(value) = behind.strip_prefix('=') {
            return apply(spec, flags, index, value);
        }
        match spec.without_value {
            Some(implied) => apply(spec, flags, index, implied)?,
            None if !behind.is_empty() => return apply(spec, flags, index, behind),
            None => {
                let value = words.next().ok_or_else(|| {
                    FlagError::Wrong(format!("flag needs an argument: '{letter}' in -{}", &cluster[position..]))
                })?;
                return apply(spec, flags, index, value);
            }
        }
    }
    Ok(())
}

fn apply(spec: &FlagSpec, flags: &mut impl FlagSet, index: usize, value: &str) -> Result<(), FlagError> {
    flags.set(index, value).map_err(|reason| {
        let name = match spec.short {
            Some(short) => format!("-{short}, --{}", spec.long),
            None => format!("--{}", spec.long),
        };
        FlagError::Wrong(format!("invalid argument {value:?} for \"{name}\" flag: {reason}"))
    })
}

/// The `Options:` part of a command's help, wrapped to `width` columns.
pub(crate) fn describe(mut specs: Vec<FlagSpec>, width: usize) -> String {
    specs.sort_by_key(|spec| spec.long);
    let left: Vec<String> = specs
        .iter()
        .map(|spec| {
            let short = spec.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let gap = if spec.type_name.is_empty() { "" } else { " " };
            format!("  {short}--{}{gap}{}", spec.long, spec.type_name)
        })
        .collect();
    let column = left.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (spec, left) in specs.iter().zip(left) {
        let mut text = spec.usage.to_owned();
        if let Some(default) = &spec.default_text {
            let _ = write!(text, " (default {default})");
        }
        let _ = write!(out, "{left:<column$}");
        wrap(&mut out, &text, column, width.saturating_sub(column).max(24));
    }
    out
}

fn wrap(out: &mut String, text: &str, indent: usize, width: usize) {
    let mut used = 0;
    for word in text.split(' ') {
        if used > 0 && used + 1 + word.len() > width {
            let _ = write!(out, "\n{:indent$}", "");
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    flags! {
        #[derive(Debug)]
        struct Sample {
            remove: bool => "rm", "remove";
            interactive: bool => "interactive" 'i', "keep stdin";
            tty: bool => "tty" 't', "terminal";
            publish: Vec<String> => "publish" 'p', "ports";
            proxy: bool = true => "sig-proxy", "pass signals on";
            count: i64 = 3 => "count" 'n', "how many";
        }
    }

    fn run(words: &[&str], order: Order) -> Result<(Sample, Vec<String>), FlagError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        parse(&words, order)
    }

    #[test]
    fn values_come_in_every_form() {
        let (flags, rest) = run(
            &[
                "-it",
                "-p80:80",
                "-p=81",
                "--publish",
                "82",
                "--publish=83",
                "--rm=false",
                "-n",
                "-1",
                "image",
                "-x",
                "--",
                "y",
            ],
            Order::FlagsFirst,
        )
        .expect("good flags");
        assert!(flags.interactive && flags.tty && !flags.remove && flags.proxy);
        assert_eq!(flags.publish, ["80:80", "81", "82", "83"]);
        assert_eq!(flags.count, -1);
        assert_eq!(rest, ["image", "-x", "--", "y"]);
    }

    #[test]
    fn clusters_take_values() {
        let (flags, rest) = run(&["-itp", "80", "-it=false", "a", "--rm", "--", "--rm"], Order::Mixed).expect("good");
        assert!(flags.interactive && !flags.tty && flags.remove);
        assert_eq!((flags.publish, rest), (vec!["80".to_owned()], vec!["a".to_owned(), "--rm".to_owned()]));
    }

    #[test]
    fn errors_are_pflags() {
        for (words, text) in [
            (vec!["--foo"], "unknown flag: --foo"),
            (vec!["-iZ"], "unknown shorthand flag: 'Z' in -iZ"),
            (vec!["--publish"], "flag needs an argument: --publish"),
            (vec!["-p"], "flag needs an argument: 'p' in -p"),
            (vec!["--=x"], "bad flag syntax: --=x"),
            (
                vec!["--rm=foo"],
                "invalid argument \"foo\" for \"--rm\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax",
            ),
            (
                vec!["-n", "x"],
                "invalid argument \"x\" for \"-n, --count\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(run(&words, Order::Mixed).expect_err(text), FlagError::Wrong(text.to_owned()));
        }
        assert_eq!(run(&["--help"], Order::Mixed).expect_err("help"), FlagError::Help);
    }

    #[test]
    fn help_lines_are_aligned() {
        insta::assert_snapshot!(describe(Sample::specs(), 60), @r"
          -n, --count int      how many (default 3)
          -i, --interactive    keep stdin
          -p, --publish list   ports
              --rm             remove
              --sig-proxy      pass signals on (default true)
          -t, --tty            terminal
        ");
    }
}
