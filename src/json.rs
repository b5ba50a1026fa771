//! JSON as the field sends it: one bad value costs that value, never the document.
//!
//! serde_json refuses a whole document for half a surrogate pair, a number that no `f64` holds or deep
//! nesting, even where nobody needs the value. It does not know what a document means.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Lists and objects deeper than this below the document's own are left out.
pub const MAX_DEPTH: usize = 64;
/// Some editors and languages write it in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A number without an exponent and of fewer digits always fits an `f64`.
const MAX_SURE_DIGITS: usize = 300;

/// A value, borrowed from the document as far as it has no escapes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'j> {
    Null,
    Boolean(bool),
    /// Its digits as written.
    Number(&'j str),
    Text(Cow<'j, str>),
    /// A text in which each half of a surrogate pair became U+FFFD.
    Repaired(String),
    List(Vec<Self>),
    Object(Object<'j>),
    /// A number out of range, or a list or an object that is too deep.
    Unreadable,
}

/// The fields of an object, sorted by name. Of a repeated name the last one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object<'j>(Vec<(Cow<'j, str>, Value<'j>)>);

/// Why a document cannot be read at all: not JSON (`NaN`, a raw control character, a missing bracket), or
/// not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON")]
pub struct NotJson;

/// Reads a document, with or without a byte order mark.
pub fn read(document: &[u8]) -> Result<Value<'_>, NotJson> {
    let document = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
    let text = std::str::from_utf8(document).map_err(|_| NotJson)?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    if !text.starts_with(['{', '[']) {
        serde_json::from_str::<&RawValue>(text).map_err(|_| NotJson)?;
    }
    value(text, 0).map_err(|_| NotJson)
}

impl<'j> Value<'j> {
    /// The text, repaired or not.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Repaired(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_object(&self) -> Option<&Object<'j>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A field of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// What a number's digits or a text say, as another type.
    #[must_use]
    pub fn parse<T: FromStr>(&self) -> Option<T> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl<'j> Object<'j> {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'j>> {
        Some(&self.0[self.position(name)?].1)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value<'j>> {
        let position = self.position(name)?;
        Some(&mut self.0[position].1)
    }

    /// The fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'j>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()
    }
}

/// Reads one value. Syntax is checked where its container is read, and for the document itself by [`read`].
fn value(json: &str, depth: usize) -> serde_json::Result<Value<'_>> {
    Ok(match json.as_bytes().first() {
        Some(b'{' | b'[') if depth > MAX_DEPTH => Value::Unreadable,
        Some(b'{') => whole(json, Fields { depth }).map(Value::Object)?,
        Some(b'[') => whole(json, Elements { depth }).map(Value::List)?,
        Some(b'"') => text(json)?,
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'n') | None => Value::Null,
        Some(_) => number(json),
    })
}

fn number(digits: &str) -> Value<'_> {
    let may_overflow = digits.len() > MAX_SURE_DIGITS || digits.contains(['e', 'E']);
    if may_overflow && !digits.parse().is_ok_and(f64::is_finite) {
        return Value::Unreadable;
    }
    Value::Number(digits)
}

fn text(json: &str) -> serde_json::Result<Value<'_>> {
    let content = json.get(1..json.len() - 1).unwrap_or_default();
    if !content.as_bytes().contains(&b'\\') {
        return Ok(Value::Text(Cow::Borrowed(content)));
    }
    let Lossy { text, is_repaired } = whole(json, LossyText)?;
    Ok(if is_repaired {
        Value::Repaired(text.into_owned())
    } else {
        Value::Text(text)
    })
}

/// Reads all of a text with a deserializer of its own, so that serde_json's limit of depth never applies.
fn whole<'j, S: DeserializeSeed<'j>>(json: &'j str, seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = Deserializer::from_str(json);
    let read = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(read)
}

/// An object at a depth.
struct Fields {
    depth: usize,
}

impl<'j> DeserializeSeed<'j> for Fields {
    type Value = Object<'j>;

    fn deserialize<D: serde::Deserializer<'j>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'j> Visitor<'j> for Fields {
    type Value = Object<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key_seed(LossyText)? {
            let json: &RawValue = map.next_value()?;
            let value = value(json.get(), self.depth + 1).map_err(serde::de::Error::custom)?;
            fields.push((name.text, value));
        }
        // Stable, so that the last one of a name stays the last.
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        fields.dedup_by(|later, earlier| {
            let is_repeated = later.0 == earlier.0;
            if is_repeated {
                std::mem::swap(later, earlier);
            }
            is_repeated
        });
        Ok(Object(fields))
    }
}

/// A list at a depth.
struct Elements {
    depth: usize,
}

impl<'j> DeserializeSeed<'j> for Elements {
    type Value = Vec<Value<'j>>;

    fn deserialize<D: serde::Deserializer<'j>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'j> Visitor<'j> for Elements {
    type Value = Vec<Value<'j>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(json) = list.next_element::<&RawValue>()? {
            let value = value(json.get(), self.depth + 1).map_err(serde::de::Error::custom)?;
            elements.push(value);
        }
        Ok(elements)
    }
}

/// A text or a key, read as bytes, because only then serde_json accepts halves of surrogate pairs.
struct LossyText;

struct Lossy<'j> {
    text: Cow<'j, str>,
    is_repaired: bool,
}

impl<'j> DeserializeSeed<'j> for LossyText {
    type Value = Lossy<'j>;

    fn deserialize<D: serde::Deserializer<'j>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl<'j> Visitor<'j> for LossyText {
    type Value = Lossy<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_bytes<E: serde::de::Error>(self, text: &'j [u8]) -> Result<Lossy<'j>, E> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Lossy { text: Cow::Borrowed(text), is_repaired: false }),
            Err(_) => self.visit_bytes(text),
        }
    }

    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<Lossy<'j>, E> {
        let mut repaired = String::with_capacity(text.len());
        let mut is_repaired = false;
        for chunk in text.utf8_chunks() {
            repaired.push_str(chunk.valid());
            // A half is three bytes that are invalid one by one; only the first is this one.
            if chunk.invalid() == [0xed] {
                repaired.push(char::REPLACEMENT_CHARACTER);
                is_repaired = true;
            }
        }
        Ok(Lossy { text: Cow::Owned(repaired), is_repaired })
    }
}

/// What was not readable is null.
impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null | Self::Unreadable => serializer.serialize_unit(),
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Self::Number(digits) => match RawValue::from_string((*digits).to_owned()) {
                Ok(digits) => digits.serialize(serializer),
                Err(error) => Err(serde::ser::Error::custom(error)),
            },
            Self::Text(text) => serializer.serialize_str(text),
            Self::Repaired(text) => serializer.serialize_str(text),
            Self::List(elements) => {
                let mut list = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    list.serialize_element(element)?;
                }
                list.end()
            }
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                for (name, value) in object.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document as it was understood, or `not JSON`.
    #[track_caller]
    fn check(document: &[u8], expected: &str) {
        let read = read(document).map(|value| serde_json::to_string(&value).unwrap());
        let read = read.unwrap_or_else(|error| error.to_string());
        assert_eq!(read, expected, "{}", String::from_utf8_lossy(document));
    }

    #[test]
    fn a_document_is_read_as_it_is() {
        for document in [
            r#"{"a":[1,"x",true,false,null,{}],"b":{"c":-1.50},"d":"caf\u00e9 \ud83c\udf0d \n"}"#,
            "[]",
            "7",
            "\"x\"",
            "null",
        ] {
            let expected: serde_json::Value = serde_json::from_str(document).unwrap();
            let read = serde_json::to_value(read(document.as_bytes()).unwrap()).unwrap();
            assert_eq!(read, expected, "{document}");
        }
        check(b" {\"a\": 1 }\n", r#"{"a":1}"#);
        check(
            br#"{"a":2000000900000000123456789,"b":1842.0}"#,
            r#"{"a":2000000900000000123456789,"b":1842.0}"#,
        );
    }

    #[test]
    fn one_bad_value_costs_that_value() {
        for (document, expected) in [
            (&br#"{"a":"Spring \ud83c","b":1}"#[..], r#"{"a":"Spring 	","b":1}"#),
            (br#"{"a":{"b\udf0d":["\ud83cx"]}}"#, "{\"a\":{\"b\u{fffd}\":[\"\u{fffd}x\"]}}"),
            (br#"["\udf0d\ud83c","\ud83c\u0041"]"#, "[\"\u{fffd}\u{fffd}\",\"\u{fffd}A\"]"),
            (
                br#"{"a":1e400,"b":[-1E999,1e-400],"c":1}"#,
                r#"{"a":null,"b":[null,1e-400],"c":1}"#,
            ),
            (b"\xef\xbb\xbf{\"a\":1}", r#"{"a":1}"#),
            (br#"{"a":1,"b":2,"a":3,"a":4}"#, r#"{"a":4,"b":2}"#),
        ] {
            check(document, &expected.replace('\t', "\u{fffd}"));
        }
        let digits = format!("[{},{}]", "9".repeat(400), "9".repeat(300));
        check(digits.as_bytes(), &format!("[null,{}]", "9".repeat(300)));
    }

    #[test]
    fn what_is_too_deep_is_left_out_alone() {
        let nested = |levels: usize| {
            format!("{{\"deep\":{}1{},\"x\":2}}", "[".repeat(levels), "]".repeat(levels))
        };
        let deepest = nested(MAX_DEPTH);
        check(deepest.as_bytes(), &deepest);
        let left_out = deepest.replace("[1]", "[null]");
        for levels in [MAX_DEPTH + 1, 127, 128, 10_000] {
            check(nested(levels).as_bytes(), &left_out);
        }
        let objects = "{\"a\":".repeat(500) + "1" + &"}".repeat(500);
        assert!(read(objects.as_bytes()).unwrap().get("a").is_some());
    }

    #[test]
    fn a_repaired_text_can_be_told_from_a_whole_one() {
        let document = br#"["\ud83c","\ufffd","x"]"#;
        let Value::List(texts) = read(document).unwrap() else {
            panic!("a list")
        };
        assert_eq!(texts[0], Value::Repaired("\u{fffd}".to_owned()));
        assert_eq!(texts[1], Value::Text("\u{fffd}".into()));
        assert!(matches!(texts[2], Value::Text(Cow::Borrowed("x"))));
    }

    #[test]
    fn anything_else_is_not_json() {
        for document in [
            &b""[..],
            b"{",
            b"{\"a\":1}}",
            b"{\"a\":NaN}",
            b"{\"a\":tru}",
            b"{\"a\":01}",
            b"{\"a\":\"\x01\"}",
            b"{\"a\":\"\\x\"}",
            b"{\"a\":\"\\ud8\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":[1,]}",
            b"{\"a\":[[1}",
            b"{7:1}",
            b"{'a':1}",
            b"\"x",
            b"-",
            b"\xff\xfe{\0}\0",
            b"\xef\xbb\xbf\xef\xbb\xbf{}",
        ] {
            check(document, "not JSON");
        }
        check(format!("{}1", "[".repeat(10_000)).as_bytes(), "not JSON");
    }

    #[test]
    fn a_number_is_read_from_digits_or_text() {
        for (document, expected) in [
            ("513", Some(513)),
            ("\" 513 \"", Some(513)),
            ("513.5", None),
            ("70000", None),
            ("true", None),
        ] {
            assert_eq!(read(document.as_bytes()).unwrap().parse::<u16>(), expected, "{document}");
        }
    }
}
