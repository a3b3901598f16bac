//! Ids and names. Each is its own type, checked once when it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::hex_encode;

/// A text that is not an id: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: want 64 hexadecimal digits")]
pub struct IdError(String);

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id made of 32 random bytes that the caller drew.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                $name(bytes)
            }

            /// The first 12 digits, as people see ids.
            pub fn short(&self) -> String {
                hex_encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex_encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                crate::Digest::from_hex(text).map(|d| $name(*d.as_bytes())).map_err(|_| IdError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A container's id.
    ContainerId
);
hex_id!(
    /// The id of an exec'd process.
    ExecId
);
hex_id!(
    /// A network's id.
    NetworkId
);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A container name with a letter that is not allowed.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Container(String),
    /// A volume name with a letter that is not allowed.
    #[error(
        "\"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )]
    Volume(String),
    /// A volume name of a single letter.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    VolumeTooShort,
}

/// Docker's rule for names: a letter or digit, then at least one of `[a-zA-Z0-9_.-]`.
fn follows_name_rule(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.len() > 1
        && bytes.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let parse: fn(&str) -> Result<&str, NameError> = $parse;
                parse(text).map(|name| $name(name.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// A container's name, without the leading slash that the API shows.
    ContainerName,
    |text| {
        let name = text.strip_prefix('/').unwrap_or(text);
        if follows_name_rule(name) { Ok(name) } else { Err(NameError::Container(text.to_owned())) }
    }
);
name_type!(
    /// A volume's name.
    VolumeName,
    |text| match text {
        name if follows_name_rule(name) => Ok(name),
        name if name.len() < 2 => Err(NameError::VolumeTooShort),
        name => Err(NameError::Volume(name.to_owned())),
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a1", "web_1.x-y", "/web"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a/b", "a b", "//ab", "ä1"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
        assert_eq!("v".parse::<VolumeName>(), Err(NameError::VolumeTooShort));
    }

    #[test]
    fn ids_are_64_lower_case_digits() {
        assert!("a".repeat(64).parse::<ContainerId>().is_ok());
        for bad in ["a".repeat(63), "A".repeat(64), "../".repeat(22)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
