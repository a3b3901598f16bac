//! Attributes for "nothing": what Go leaves out (`omitempty`) and what it writes as `null` (a nil slice or map).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value of Go's sets (`map[string]struct{}`): `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A list or a map, for [`if_empty`].
pub(crate) trait Collection {
    fn has_none(&self) -> bool;
}

impl<T> Collection for Vec<T> {
    fn has_none(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Collection for BTreeMap<K, V> {
    fn has_none(&self) -> bool {
        self.is_empty()
    }
}

/// `serialize_with`: `null` when there is nothing in it, as Go writes a nil slice.
pub(crate) fn if_empty<C: Collection + Serialize, S: Serializer>(value: &C, serializer: S) -> Result<S::Ok, S::Error> {
    if value.has_none() { serializer.serialize_none() } else { value.serialize(serializer) }
}

/// `skip_serializing_if`: Go's `omitempty`.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `deserialize_with` for a command: a list of words, or one text which is then its only word.
pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Words;

    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of strings, or a string")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Err(wrong("bool"))
        }

        fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(wrong("number"))
        }

        fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(wrong("number"))
        }

        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(wrong("number"))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(wrong("object"))
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = items.next_element()? {
                words.push(word);
            }
            Ok(Some(words))
        }
    }

    deserializer.deserialize_option(Words)
}

/// As Go tells it: its type has a decoder of its own, which knows nothing of the field.
fn wrong<E: serde::de::Error>(found: &str) -> E {
    E::custom(format!("json: cannot unmarshal {found} into Go value of type string"))
}

/// As [`words`], for a list in which "none" and "missing" are the same.
pub(crate) fn word_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    words(deserializer).map(Option::unwrap_or_default)
}
