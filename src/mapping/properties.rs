//! Turns the fields of a payload into the properties of an event.
//!
//! It does not know which records get them.

use super::{FieldOutcome, seconds};
use crate::clevertap::{Property, Value, limits};
use crate::purchasely::catalogue::{self, Kind};
use crate::purchasely::{self, Event};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::collections::HashSet;

/// Google's purchase token is a credential: no property is sent whose name contains this.
const SENSITIVE: &str = "purchase_token";
const LIST_SEPARATOR: &str = ", ";

/// Which payload fields are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyRules {
    /// Property names before sanitizing: `plan`, `attribution_utm_term` (`PROPERTIES_OMITTED`).
    pub omitted: HashSet<String>,
    /// Whether undocumented fields are dropped (`UNKNOWN_FIELDS=drop`).
    pub drop_unknown: bool,
}

/// The properties of an event, unique by key: documented fields, then attribution, then unknown fields,
/// each by name. Beyond CleverTap's maximum number the last ones are dropped.
///
/// `on_field` is called with each field's outcome; a field inside an object is named `object.field`.
pub fn of_event<'e>(
    event: &'e Event,
    rules: &'e PropertyRules,
    on_field: &mut dyn FnMut(&str, FieldOutcome<'e>),
) -> Vec<Property<'e>> {
    let mut reader = Reader { rules, found: [const { Vec::new() }; 3], on_field };
    reader.object(&Parent::default(), event.fields());
    reader.into_properties()
}

/// Which properties are dropped last when there are too many: the first rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Documented,
    Attribution,
    Unknown,
}

struct Candidate<'e> {
    source: Cow<'e, str>,
    key: Cow<'e, str>,
    value: Value<'e>,
    is_sanitized: bool,
}

/// The object that a field is in: by default the payload, else an object inside it.
#[derive(Default)]
struct Parent {
    /// Its field's path, `object.inner`; empty for the payload.
    path: String,
    /// The same for property names, `object_inner`.
    prefix: String,
    /// The documented type of the payload field that it is in.
    kind: Option<Kind>,
}

struct Reader<'e, 'f> {
    rules: &'e PropertyRules,
    /// By [`Rank`].
    found: [Vec<Candidate<'e>>; 3],
    on_field: &'f mut dyn FnMut(&str, FieldOutcome<'e>),
}

/// A field's value as its type, and whether elements of a list were left out.
type Read<'e> = Result<(Value<'e>, bool), FieldOutcome<'e>>;

impl Parent {
    fn is_top(&self) -> bool {
        self.path.is_empty()
    }

    fn source<'e>(&self, field: &'e str) -> Cow<'e, str> {
        join(&self.path, '.', field)
    }

    fn name<'e>(&self, field: &'e str) -> Cow<'e, str> {
        join(&self.prefix, '_', field)
    }

    /// The documented type of a field in this object.
    fn kind_of(&self, field: &str) -> Option<Kind> {
        match self.kind {
            _ if self.is_top() => catalogue::kind(field),
            Some(Kind::Texts) => Some(Kind::Text),
            kind => kind,
        }
    }

    fn rank_of(&self, kind: Option<Kind>) -> Rank {
        match (self.kind, kind) {
            (Some(Kind::Texts), _) => Rank::Attribution,
            (_, Some(_)) => Rank::Documented,
            (_, None) => Rank::Unknown,
        }
    }
}

fn join<'e>(parent: &str, separator: char, field: &'e str) -> Cow<'e, str> {
    if parent.is_empty() {
        Cow::Borrowed(field)
    } else {
        Cow::Owned(format!("{parent}{separator}{field}"))
    }
}

impl<'e> Reader<'e, '_> {
    fn object(&mut self, parent: &Parent, object: &'e Map<String, Json>) {
        for (field, value) in object {
            // A `*_at_ms` field repeats the time in `*_at`.
            let twin_of = field.strip_suffix("_ms").filter(|at| at.ends_with("_at"));
            let name = twin_of.unwrap_or(field);
            let kind = parent.kind_of(name);
            if self.is_omitted(parent, field) || self.is_omitted(parent, name) {
                (self.on_field)(&parent.source(field), FieldOutcome::Omitted);
                continue;
            }
            if self.rules.drop_unknown && parent.is_top() && kind.is_none() {
                (self.on_field)(&parent.source(field), FieldOutcome::Unknown);
                continue;
            }
            // Purchasely names every time `*_at`, so an unknown field of such a name may be one.
            let time_ms =
                name.ends_with("_at").then(|| purchasely::time_ms(object, name)).flatten();
            let is_time = kind == Some(Kind::Time)
                || (time_ms.is_some() && matches!(kind, None | Some(Kind::Unspecified)));
            if !is_time {
                self.field(parent, field, kind, value);
            } else if twin_of.is_some() && object.contains_key(name) {
                (self.on_field)(&parent.source(field), FieldOutcome::MillisecondTwin);
            } else {
                let read = match time_ms {
                    Some(time_ms) => Ok((Value::Date(seconds(time_ms)), false)),
                    None if value.is_null() => Err(FieldOutcome::Empty),
                    None => Err(FieldOutcome::WrongType),
                };
                let (source, name) = (parent.source(field), parent.name(name));
                self.add(parent.rank_of(kind), source, name, read);
            }
        }
    }

    /// Reads a field that is not a time.
    fn field(&mut self, parent: &Parent, field: &'e str, kind: Option<Kind>, value: &'e Json) {
        let may_be_object = matches!(kind, None | Some(Kind::Texts | Kind::Unspecified))
            || parent.kind == Some(Kind::Texts);
        let (source, name) = (parent.source(field), parent.name(field));
        match value {
            Json::Object(object) if may_be_object && !object.is_empty() => {
                let object_itself = Parent {
                    path: source.into_owned(),
                    prefix: name.into_owned(),
                    kind: if parent.is_top() { kind } else { parent.kind },
                };
                self.object(&object_itself, object);
            }
            _ => self.add(parent.rank_of(kind), source, name, read(kind, value)),
        }
    }

    fn is_omitted(&self, parent: &Parent, field: &str) -> bool {
        let omitted = &self.rules.omitted;
        !omitted.is_empty() && omitted.contains(parent.name(field).as_ref())
    }

    /// Adds a property to the candidates, or reports why it cannot be one.
    fn add(&mut self, rank: Rank, source: Cow<'e, str>, name: Cow<'e, str>, read: Read<'e>) {
        let Some(key) = sanitize_name(name) else {
            return (self.on_field)(&source, FieldOutcome::UnusableName);
        };
        if is_sensitive(&key) {
            return (self.on_field)(&source, FieldOutcome::Sensitive);
        }
        let (value, is_partial) = match read {
            Ok(read) => read,
            Err(outcome) => return (self.on_field)(&source, outcome),
        };
        // In CleverTap a documented property must keep its type, so its name is not free.
        if rank == Rank::Unknown && catalogue::kind(&key).is_some() {
            return (self.on_field)(&source, FieldOutcome::Collision(key));
        }
        let (value, is_truncated) = truncate(value);
        self.found[rank as usize].push(Candidate {
            source,
            key,
            value,
            is_sanitized: is_partial || is_truncated,
        });
    }

    fn into_properties(self) -> Vec<Property<'e>> {
        let mut properties: Vec<Property<'e>> = Vec::with_capacity(limits::PROPERTIES);
        for candidate in self.found.into_iter().flatten() {
            let Candidate { source, key, value, .. } = candidate;
            // Comparing with at most a hundred names costs less than hashing each.
            let outcome = if properties.iter().any(|(taken, _)| *taken == key) {
                FieldOutcome::Collision(key)
            } else if properties.len() == limits::PROPERTIES {
                FieldOutcome::OverLimit
            } else {
                let name = key.clone();
                let outcome = match value {
                    _ if candidate.is_sanitized => FieldOutcome::Sanitized(name),
                    Value::Date(_) => FieldOutcome::SentAsDate(name),
                    _ => FieldOutcome::Sent(name),
                };
                properties.push((key, value));
                outcome
            };
            (self.on_field)(&source, outcome);
        }
        properties
    }
}

/// `str::contains` prepares a search, which costs more than comparing in these short names.
fn is_sensitive(name: &str) -> bool {
    let mut windows = name.as_bytes().windows(SENSITIVE.len());
    windows.any(|window| window == SENSITIVE.as_bytes())
}

fn sanitize_name(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match name {
        Cow::Borrowed(name) => limits::sanitize_name(name),
        Cow::Owned(name) => limits::sanitize_name(&name).map(|name| Cow::Owned(name.into_owned())),
    }
}

/// The value within CleverTap's limits, and whether it had to change.
fn truncate(value: Value<'_>) -> (Value<'_>, bool) {
    let Value::Text(text) = value else {
        return (value, false);
    };
    let length = text.len();
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(limits::truncate_text(text)),
        Cow::Owned(text) => Cow::Owned(limits::truncate_text(&text).to_owned()),
    };
    let is_truncated = text.len() < length;
    (Value::Text(text), is_truncated)
}

/// Reads a value as its documented type, or unchanged where there is none.
fn read(kind: Option<Kind>, value: &Json) -> Read<'_> {
    if is_empty(value) {
        return Err(FieldOutcome::Empty);
    }
    let typed = match kind {
        Some(Kind::Text) => text(value).map(Value::Text),
        Some(Kind::Integer) => integer(value).map(Value::Integer),
        Some(Kind::Decimal) => decimal(value).map(Value::Decimal),
        Some(Kind::Boolean) => boolean(value).map(Value::Boolean),
        Some(Kind::Time | Kind::Texts) => None,
        Some(Kind::Unspecified) | None => return read_untyped(value),
    };
    typed.map(|value| (value, false)).ok_or(FieldOutcome::WrongType)
}

fn read_untyped(value: &Json) -> Read<'_> {
    match value {
        Json::String(text) => Ok((Value::Text(Cow::Borrowed(text)), false)),
        Json::Number(number) => Ok((Value::Number(number), false)),
        Json::Bool(boolean) => Ok((Value::Boolean(*boolean), false)),
        Json::Array(elements) => {
            let texts: Vec<_> = elements.iter().filter_map(text).collect();
            if texts.is_empty() {
                return Err(FieldOutcome::WrongType);
            }
            let joined = Value::Text(Cow::Owned(texts.join(LIST_SEPARATOR)));
            Ok((joined, texts.len() < elements.len()))
        }
        Json::Null | Json::Object(_) => Err(FieldOutcome::Empty),
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(elements) => elements.iter().all(is_empty),
        Json::Object(object) => object.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

fn text(value: &Json) -> Option<Cow<'_, str>> {
    match value {
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Number(number) => Some(Cow::Owned(number.to_string())),
        Json::Bool(true) => Some(Cow::Borrowed("true")),
        Json::Bool(false) => Some(Cow::Borrowed("false")),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn integer(value: &Json) -> Option<i64> {
    let from_text = || value.as_str()?.trim().parse().ok();
    value.as_i64().or_else(from_text)
}

fn decimal(value: &Json) -> Option<f64> {
    let from_text = || value.as_str()?.trim().parse().ok();
    let number: f64 = value.as_f64().or_else(from_text)?;
    number.is_finite().then_some(number)
}

fn boolean(value: &Json) -> Option<bool> {
    let from_text = || value.as_str()?.trim().to_ascii_lowercase().parse().ok();
    value.as_bool().or_else(from_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purchasely::Verified;
    use std::collections::BTreeMap;

    /// The properties as JSON, sorted by key, and each field's outcome; both without `event_name`.
    fn properties(rules: &PropertyRules, fields: &str) -> (String, Vec<(String, &'static str)>) {
        let body = format!("{{{fields},\"event_name\":\"A\"}}");
        let event = Event::parse(Verified::unsigned(body.as_bytes())).expect(&body);
        let mut outcomes = Vec::new();
        let properties = of_event(&event, rules, &mut |field, outcome| {
            outcomes.push((field.to_owned(), outcome.into()));
        });
        outcomes.retain(|(field, _)| field != "event_name");
        let mut sorted: BTreeMap<_, _> = properties.into_iter().collect();
        sorted.remove("event_name");
        (serde_json::to_string(&sorted).unwrap(), outcomes)
    }

    #[track_caller]
    fn check_with(rules: &PropertyRules, fields: &str, expected: &str) {
        assert_eq!(properties(rules, fields).0, expected, "{fields}");
    }

    #[track_caller]
    fn check(fields: &str, expected: &str) {
        check_with(&PropertyRules::default(), fields, expected);
    }

    #[track_caller]
    fn check_outcomes(fields: &str, expected: &[(&str, &str)]) {
        let outcomes = properties(&PropertyRules::default(), fields).1;
        let outcomes: Vec<_> = outcomes.iter().map(|(f, word)| (f.as_str(), *word)).collect();
        assert_eq!(outcomes, expected, "{fields}");
    }

    #[test]
    fn a_documented_field_has_its_one_type() {
        for (fields, expected) in [
            (r#""plan":"yearly""#, r#"{"plan":"yearly"}"#),
            (r#""plan":7"#, r#"{"plan":"7"}"#),
            (r#""plan":true"#, r#"{"plan":"true"}"#),
            (r#""api_version":3"#, r#"{"api_version":3}"#),
            (r#""api_version":"3""#, r#"{"api_version":3}"#),
            (r#""amount_in_usd":10"#, r#"{"amount_in_usd":10.0}"#),
            (r#""amount_in_usd":"59.99""#, r#"{"amount_in_usd":59.99}"#),
            (r#""amount_in_usd":-5"#, r#"{"amount_in_usd":-5.0}"#),
            (r#""is_family_shared":"True""#, r#"{"is_family_shared":true}"#),
        ] {
            check(fields, expected);
        }
    }

    #[test]
    fn a_value_of_another_type_is_left_out() {
        for (field, value) in [
            ("plan", r#"["a"]"#),
            ("plan", r#"{"a":1}"#),
            ("api_version", "3.5"),
            ("amount_in_usd", r#""a lot""#),
            ("amount_in_usd", r#""NaN""#),
            ("is_family_shared", "1"),
            ("attribution", r#""google""#),
            ("next_renewal_at", r#""soon""#),
            ("next_renewal_at", "true"),
        ] {
            let fields = format!("\"{field}\":{value}");
            check(&fields, "{}");
            check_outcomes(&fields, &[(field, "wrong_type")]);
        }
    }

    #[test]
    fn a_time_is_a_date_and_its_millisecond_twin_is_not_sent() {
        let fields =
            r#""next_renewal_at":"2027-03-02T08:15:00.000Z","next_renewal_at_ms":1803975300000"#;
        check(fields, r#"{"next_renewal_at":"$D_1803975300"}"#);
        check_outcomes(
            fields,
            &[("next_renewal_at_ms", "millisecond_twin"), ("next_renewal_at", "date")],
        );
        for (fields, expected) in [
            (
                r#""next_renewal_at_ms":1803975300999"#,
                r#"{"next_renewal_at":"$D_1803975300"}"#,
            ),
            (r#""next_renewal_at_ms":"never""#, "{}"),
            (
                r#""commitment_first":{"paid_at":"2027-03-02T08:15:00Z","paid_at_ms":1803975300000,"months":12}"#,
                r#"{"commitment_first_months":12,"commitment_first_paid_at":"$D_1803975300"}"#,
            ),
        ] {
            check(fields, expected);
        }
    }

    #[test]
    fn an_unknown_field_named_as_a_time_is_a_date_if_it_is_one() {
        for (fields, expected) in [
            (
                r#""paid_at":"2027-03-02T08:15:00Z","paid_at_ms":1803975300000"#,
                r#"{"paid_at":"$D_1803975300"}"#,
            ),
            (r#""seen_at":"HOME""#, r#"{"seen_at":"HOME"}"#),
            (r#""seen_at_ms":"HOME""#, r#"{"seen_at_ms":"HOME"}"#),
            (r#""seen_at_ms":{"page":"HOME"}"#, r#"{"seen_at_ms_page":"HOME"}"#),
        ] {
            check(fields, expected);
        }
    }

    #[test]
    fn an_unknown_field_keeps_its_type_but_objects_and_lists_do_not() {
        for (fields, expected) in [
            (
                r#""a":1,"b":1.50,"c":"x","d":false,"e":18446744073709551615"#,
                r#"{"a":1,"b":1.5,"c":"x","d":false,"e":18446744073709551615}"#,
            ),
            (
                r#""attribution":{"utm_source":"news","utm_term":7}"#,
                r#"{"attribution_utm_source":"news","attribution_utm_term":"7"}"#,
            ),
            (
                r#""a":{"b":{"c":1},"d":[1,"x",true,null]}"#,
                r#"{"a_b_c":1,"a_d":"1, x, true"}"#,
            ),
            (r#""a":[{"b":1}]"#, "{}"),
            (r#""a":null,"b":"","c":[],"d":{},"e":[null],"plan":null"#, "{}"),
        ] {
            check(fields, expected);
        }
    }

    #[test]
    fn a_purchase_token_is_never_sent() {
        check(
            r#""purchase_token":"t","a":{"purchase_token":"t","b":[{"purchase_token":"t"}]}"#,
            "{}",
        );
        check(
            r#""purchase.token":"x","purchase_token!":"t","purchase":{"token":"t"}"#,
            r#"{"purchasetoken":"x"}"#,
        );
    }

    #[test]
    fn settings_omit_fields_and_drop_unknown_ones() {
        let rules = PropertyRules {
            omitted: HashSet::from(
                ["plan", "purchased_at", "a", "attribution_utm_term"].map(str::to_owned),
            ),
            drop_unknown: false,
        };
        check_with(
            &rules,
            r#""plan":"p","purchased_at":"2027-03-02T08:15:00Z","purchased_at_ms":1803975300000,"a":{"b":1},"c":1,"attribution":{"utm_term":"x","utm_source":"y"}"#,
            r#"{"attribution_utm_source":"y","c":1}"#,
        );
        let rules = PropertyRules { drop_unknown: true, ..PropertyRules::default() };
        check_with(
            &rules,
            r#""c":1,"commitment_months":12,"plan":"p","paid_at_ms":1803975300000"#,
            r#"{"commitment_months":12,"plan":"p"}"#,
        );
    }

    #[test]
    fn of_two_fields_with_one_name_the_first_is_sent() {
        check(r#""a.b":2,"ab":1,"a!b":3"#, r#"{"ab":3}"#);
        check_outcomes(r#""a.b":2,"ab":1"#, &[("a.b", "sent"), ("ab", "collision")]);
    }

    #[test]
    fn no_unknown_field_takes_the_name_of_a_documented_one() {
        for (fields, expected) in [
            (r#""plan!":5,"next":{"renewal_at":5},"amount_in_usd ":"x""#, "{}"),
            (r#""attribution_utm_source":5"#, r#"{"attribution_utm_source":"5"}"#),
        ] {
            check(fields, expected);
        }
    }

    #[test]
    fn unknown_fields_are_dropped_first_beyond_the_limit() {
        let unknown: Vec<_> = (0..200).map(|n| format!("\"a{n:03}\":{n}")).collect();
        let fields = format!(
            r#"{},"zone":"z","plan":"p","attribution":{{"utm_source":"s"}}"#,
            unknown.join(",")
        );
        let (properties, outcomes) = properties(&PropertyRules::default(), &fields);
        let properties: Map<String, Json> = serde_json::from_str(&properties).unwrap();
        let kept: Vec<_> = properties.keys().map(String::as_str).collect();
        // One more is `event_name`.
        assert_eq!(kept.len(), limits::PROPERTIES - 1);
        assert_eq!(kept[96..], ["a096", "attribution_utm_source", "plan"]);
        let over = outcomes.iter().filter(|(_, word)| *word == "over_limit");
        assert_eq!(over.count(), 104);
    }

    #[test]
    fn text_is_sanitized_and_that_is_reported() {
        let fields = format!(r#""presentation":"{}""#, "€".repeat(300));
        check(&fields, &format!(r#"{{"presentation":"{}"}}"#, "€".repeat(170)));
        check_outcomes(&fields, &[("presentation", "sanitized")]);
        check(r#""plan":"$D_123""#, r#"{"plan":"D_123"}"#);
    }
}
