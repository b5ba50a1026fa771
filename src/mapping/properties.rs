//! Turns the fields of a payload into the properties of an event.
//!
//! It does not choose which events or profiles they go to.

use super::{FieldOutcome, seconds};
use crate::clevertap::{Value, limits};
use crate::purchasely::catalogue::{self, Kind};
use crate::purchasely::{self, Event};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::collections::HashSet;

/// Google's token: whoever holds it can speak for the purchase. No property is sent whose name holds
/// this, wherever in the payload it comes from.
const SENSITIVE: &str = "purchase_token";
/// Between the elements of a list that becomes one text.
const LIST_SEPARATOR: &str = ", ";

/// What is left out of what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyRules {
    /// Payload fields, or properties of a flattened one, never sent (`PROPERTIES_OMITTED`).
    pub omitted: HashSet<String>,
    /// Only documented fields (`UNKNOWN_FIELDS=drop`).
    pub drop_unknown: bool,
}

/// The properties of one event, unique by key: documented fields first, then attribution, then unknown
/// ones, each by name, so that the least known give way to CleverTap's limit.
///
/// `on_field` is told the fate of each field; the fields of a flattened object are named `object.field`.
pub fn of_event<'e>(
    event: &'e Event,
    rules: &'e PropertyRules,
    on_field: &mut dyn FnMut(&str, FieldOutcome<'e>),
) -> Vec<(Cow<'e, str>, Value<'e>)> {
    let mut reading = Reading {
        rules,
        found: [const { Vec::new() }; 3],
        on_field,
    };
    reading.object(&Place::top(), event.fields());
    reading.into_properties()
}

/// Who gives way first when there are too many properties: the last.
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
    fitted: bool,
}

/// Where in the payload an object stands.
struct Place {
    /// Its fields' names in front of them, with dots; empty at the top.
    path: String,
    /// The same as a property's name has it.
    prefix: String,
    /// The documented type of the field of the top that it stands in.
    kind: Option<Kind>,
}

struct Reading<'e, 'w> {
    rules: &'e PropertyRules,
    found: [Vec<Candidate<'e>>; 3],
    on_field: &'w mut dyn FnMut(&str, FieldOutcome<'e>),
}

/// What a field holds, once read as its type.
enum Read<'e> {
    Value(Value<'e>),
    /// A value, of which something had to be left out.
    Part(Value<'e>),
    Empty,
    WrongType,
}

impl Place {
    fn top() -> Self {
        Self {
            path: String::new(),
            prefix: String::new(),
            kind: None,
        }
    }

    fn is_top(&self) -> bool {
        self.path.is_empty()
    }

    fn source<'e>(&self, field: &'e str) -> Cow<'e, str> {
        if self.is_top() {
            Cow::Borrowed(field)
        } else {
            Cow::Owned(format!("{}.{field}", self.path))
        }
    }

    fn name<'e>(&self, field: &'e str) -> Cow<'e, str> {
        if self.is_top() {
            Cow::Borrowed(field)
        } else {
            Cow::Owned(format!("{}_{field}", self.prefix))
        }
    }

    /// The documented type of a field that stands here.
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

impl<'e> Reading<'e, '_> {
    /// Reads each field of an object: the payload, or one within it.
    fn object(&mut self, place: &Place, object: &'e Map<String, Json>) {
        for (field, value) in object {
            // A `*_at_ms` field doubles a time, which is sent in its place.
            let doubled = field
                .strip_suffix("_ms")
                .filter(|time| time.ends_with("_at"));
            let time = doubled.unwrap_or(field);
            let kind = place.kind_of(time);
            if let Some(fate) = self.left_out(place, field, time, kind) {
                (self.on_field)(&place.source(field), fate);
                continue;
            }
            // Purchasely names every time `*_at`, so an unknown one that reads as a time is a time.
            let moment = time
                .ends_with("_at")
                .then(|| purchasely::time_ms(object, time))
                .flatten();
            let is_time = kind == Some(Kind::Time)
                || (moment.is_some() && matches!(kind, None | Some(Kind::Unspecified)));
            if is_time && doubled.is_some() && object.contains_key(time) {
                (self.on_field)(&place.source(field), FieldOutcome::MillisecondTwin);
            } else if is_time {
                let read = match moment {
                    Some(milliseconds) => Read::Value(Value::Date(seconds(milliseconds))),
                    None if value.is_null() => Read::Empty,
                    None => Read::WrongType,
                };
                self.take(
                    place.rank_of(kind),
                    place.source(field),
                    place.name(time),
                    read,
                );
            } else {
                self.field(place, field, kind, value);
            }
        }
    }

    fn field(&mut self, place: &Place, field: &'e str, kind: Option<Kind>, value: &'e Json) {
        let may_hold = matches!(kind, None | Some(Kind::Texts | Kind::Unspecified))
            || place.kind == Some(Kind::Texts);
        match value {
            Json::Object(object) if may_hold && !object.is_empty() => {
                let within = Place {
                    path: place.source(field).into_owned(),
                    prefix: place.name(field).into_owned(),
                    kind: if place.is_top() { kind } else { place.kind },
                };
                self.object(&within, object);
            }
            _ => {
                let rank = place.rank_of(kind);
                self.take(
                    rank,
                    place.source(field),
                    place.name(field),
                    read(kind, value),
                );
            }
        }
    }

    /// What becomes of a field that may not be sent. `time` is the field that it doubles, or itself.
    fn left_out(
        &self,
        place: &Place,
        field: &str,
        time: &str,
        kind: Option<Kind>,
    ) -> Option<FieldOutcome<'e>> {
        let omitted = |field| self.rules.omitted.contains(place.name(field).as_ref());
        if omitted(field) || omitted(time) {
            Some(FieldOutcome::Omitted)
        } else if place.is_top() && kind.is_none() && self.rules.drop_unknown {
            Some(FieldOutcome::Unknown)
        } else {
            None
        }
    }

    /// Keeps what was read as a candidate, under a name that fits.
    fn take(&mut self, rank: Rank, source: Cow<'e, str>, name: Cow<'e, str>, read: Read<'e>) {
        let Some(key) = fit_name(name) else {
            return (self.on_field)(&source, FieldOutcome::UnusableName);
        };
        if is_sensitive(&key) {
            return (self.on_field)(&source, FieldOutcome::Sensitive);
        }
        let (value, partial) = match read {
            Read::Value(value) => (value, false),
            Read::Part(value) => (value, true),
            Read::Empty => return (self.on_field)(&source, FieldOutcome::Empty),
            Read::WrongType => return (self.on_field)(&source, FieldOutcome::WrongType),
        };
        let (value, cut) = fit_value(value);
        // A documented property keeps its one type, so nothing else may take its name.
        if rank == Rank::Unknown && catalogue::kind(&key).is_some() {
            return (self.on_field)(&source, FieldOutcome::Collision(key));
        }
        self.found[rank as usize].push(Candidate {
            source,
            key,
            value,
            fitted: partial || cut,
        });
    }

    fn into_properties(self) -> Vec<(Cow<'e, str>, Value<'e>)> {
        let candidates = self.found.into_iter().flatten();
        let mut properties = Vec::with_capacity(limits::PROPERTIES);
        for candidate in candidates {
            let Candidate {
                source,
                key,
                value,
                fitted,
            } = candidate;
            // At most a hundred are kept, so looking at each costs less than a hash of each.
            let is_taken = properties.iter().any(|(taken, _)| *taken == key);
            let fate = if is_taken {
                FieldOutcome::Collision(key)
            } else if properties.len() == limits::PROPERTIES {
                FieldOutcome::OverLimit
            } else {
                let fate = match value {
                    _ if fitted => FieldOutcome::Sanitized(key.clone()),
                    Value::Date(_) => FieldOutcome::SentAsDate(key.clone()),
                    _ => FieldOutcome::Sent(key.clone()),
                };
                properties.push((key, value));
                fate
            };
            (self.on_field)(&source, fate);
        }
        properties
    }
}

/// `str::contains` prepares a search that costs more than these few names.
fn is_sensitive(name: &str) -> bool {
    let mut windows = name.as_bytes().windows(SENSITIVE.len());
    windows.any(|window| window == SENSITIVE.as_bytes())
}

fn fit_name(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match name {
        Cow::Borrowed(name) => limits::sanitize_name(name),
        Cow::Owned(name) => limits::sanitize_name(&name).map(|name| Cow::Owned(name.into_owned())),
    }
}

fn fit_value(value: Value<'_>) -> (Value<'_>, bool) {
    match value {
        Value::Text(Cow::Borrowed(text)) => {
            let fitted = limits::truncate_text(text);
            (
                Value::Text(Cow::Borrowed(fitted)),
                fitted.len() < text.len(),
            )
        }
        Value::Text(Cow::Owned(text)) => {
            let fitted = limits::truncate_text(&text);
            let cut = fitted.len() < text.len();
            (Value::Text(Cow::Owned(fitted.to_owned())), cut)
        }
        other => (other, false),
    }
}

/// Reads a value as its documented type, or as it is where there is none.
fn read(kind: Option<Kind>, value: &Json) -> Read<'_> {
    if is_empty(value) {
        return Read::Empty;
    }
    let typed = match kind {
        Some(Kind::Text) => text(value).map(Value::Text),
        Some(Kind::Integer) => integer(value).map(Value::Integer),
        Some(Kind::Decimal) => decimal(value).map(Value::Decimal),
        Some(Kind::Boolean) => boolean(value).map(Value::Boolean),
        Some(Kind::Time | Kind::Texts) => None,
        Some(Kind::Unspecified) | None => return read_as_is(value),
    };
    typed.map_or(Read::WrongType, Read::Value)
}

fn read_as_is(value: &Json) -> Read<'_> {
    match value {
        Json::String(text) => Read::Value(Value::Text(Cow::Borrowed(text))),
        Json::Number(number) => Read::Value(Value::Number(number)),
        Json::Bool(truth) => Read::Value(Value::Boolean(*truth)),
        Json::Array(elements) => {
            let texts: Vec<_> = elements.iter().filter_map(text).collect();
            let joined = Value::Text(Cow::Owned(texts.join(LIST_SEPARATOR)));
            if texts.is_empty() {
                Read::WrongType
            } else if texts.len() < elements.len() {
                Read::Part(joined)
            } else {
                Read::Value(joined)
            }
        }
        Json::Null | Json::Object(_) => Read::Empty,
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
        Json::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn integer(value: &Json) -> Option<i64> {
    match value {
        Json::Number(number) => number.as_i64(),
        Json::String(digits) => digits.trim().parse().ok(),
        _ => None,
    }
}

fn decimal(value: &Json) -> Option<f64> {
    let number = match value {
        Json::Number(number) => number.as_f64()?,
        Json::String(digits) => digits.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn boolean(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(truth) => Some(*truth),
        Json::String(word) => word.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::{Content, Record, UnixSeconds, User, upload_body};
    use crate::purchasely::Verified;

    fn event(fields: &str) -> Event {
        let body = format!("{{{fields},\"event_name\":\"A\"}}");
        Event::parse(Verified::unsigned(body.as_bytes())).expect(&body)
    }

    /// The properties as JSON, without the name that every event carries.
    fn mapped(rules: &PropertyRules, fields: &str) -> serde_json::Map<String, Json> {
        let event = event(fields);
        let record = Record {
            role: crate::clevertap::Role::Event,
            user: User::Identity("u".into()),
            at: Some(UnixSeconds(1)),
            content: Content::Event {
                name: "A".into(),
                properties: of_event(&event, rules, &mut |_, _| {}),
            },
        };
        let body: Json = serde_json::from_slice(&upload_body(&[&record])).unwrap();
        let mut properties = body["d"][0]["evtData"].as_object().unwrap().clone();
        properties.remove("event_name");
        properties
    }

    #[track_caller]
    fn check(fields: &str, expected: &str) {
        check_with(&PropertyRules::default(), fields, expected);
    }

    #[track_caller]
    fn check_with(rules: &PropertyRules, fields: &str, expected: &str) {
        let properties = serde_json::to_string(&mapped(rules, fields)).unwrap();
        assert_eq!(properties, expected, "{fields}");
    }

    fn fates(fields: &str) -> Vec<(String, &'static str)> {
        let event = event(fields);
        let rules = PropertyRules::default();
        let mut told = Vec::new();
        of_event(&event, &rules, &mut |field, fate| {
            told.push((field.to_owned(), <&str>::from(fate)));
        });
        told.retain(|(field, _)| field != "event_name");
        told
    }

    #[test]
    fn a_documented_field_has_its_one_type() {
        check(r#""plan":"yearly""#, r#"{"plan":"yearly"}"#);
        check(r#""plan":7"#, r#"{"plan":"7"}"#);
        check(r#""plan":true"#, r#"{"plan":"true"}"#);
        check(r#""api_version":3"#, r#"{"api_version":3}"#);
        check(r#""api_version":"3""#, r#"{"api_version":3}"#);
        check(r#""amount_in_usd":10"#, r#"{"amount_in_usd":10.0}"#);
        check(r#""amount_in_usd":"59.99""#, r#"{"amount_in_usd":59.99}"#);
        check(r#""amount_in_usd":-5"#, r#"{"amount_in_usd":-5.0}"#);
        check(
            r#""is_family_shared":"True""#,
            r#"{"is_family_shared":true}"#,
        );
    }

    #[test]
    fn a_value_of_another_type_is_left_out() {
        for fields in [
            r#""plan":["a"]"#,
            r#""plan":{"a":1}"#,
            r#""api_version":3.5"#,
            r#""amount_in_usd":"a lot""#,
            r#""amount_in_usd":"NaN""#,
            r#""is_family_shared":1"#,
            r#""attribution":"google""#,
            r#""next_renewal_at":"soon""#,
            r#""next_renewal_at":true"#,
        ] {
            check(fields, "{}");
            assert_eq!(fates(fields)[0].1, "wrong_type", "{fields}");
        }
    }

    #[test]
    fn a_time_is_a_date_and_its_twin_is_dropped() {
        let fields =
            r#""next_renewal_at":"2027-03-02T08:15:00.000Z","next_renewal_at_ms":1803975300000"#;
        check(fields, r#"{"next_renewal_at":"$D_1803975300"}"#);
        assert_eq!(
            fates(fields),
            [
                ("next_renewal_at_ms".to_owned(), "millisecond_twin"),
                ("next_renewal_at".to_owned(), "date")
            ]
        );
        check(
            r#""next_renewal_at_ms":1803975300999"#,
            r#"{"next_renewal_at":"$D_1803975300"}"#,
        );
        check(r#""next_renewal_at_ms":"never""#, "{}");
    }

    #[test]
    fn an_unknown_time_is_a_date_if_it_reads_as_one() {
        check(
            r#""paid_at":"2027-03-02T08:15:00Z","paid_at_ms":1803975300000"#,
            r#"{"paid_at":"$D_1803975300"}"#,
        );
        check(r#""seen_at":"HOME""#, r#"{"seen_at":"HOME"}"#);
        check(r#""seen_at_ms":"HOME""#, r#"{"seen_at_ms":"HOME"}"#);
        check(
            r#""seen_at_ms":{"page":"HOME"}"#,
            r#"{"seen_at_ms_page":"HOME"}"#,
        );
    }

    #[test]
    fn a_time_within_an_object_is_a_time_too() {
        check(
            r#""commitment_first":{"paid_at":"2027-03-02T08:15:00Z","paid_at_ms":1803975300000,"months":12}"#,
            r#"{"commitment_first_months":12,"commitment_first_paid_at":"$D_1803975300"}"#,
        );
    }

    #[test]
    fn unknown_fields_go_as_they_are() {
        check(
            r#""a":1,"b":1.50,"c":"x","d":false,"e":18446744073709551615"#,
            r#"{"a":1,"b":1.5,"c":"x","d":false,"e":18446744073709551615}"#,
        );
    }

    #[test]
    fn objects_are_flattened_and_lists_joined() {
        check(
            r#""attribution":{"utm_source":"news","utm_term":7}"#,
            r#"{"attribution_utm_source":"news","attribution_utm_term":"7"}"#,
        );
        check(
            r#""a":{"b":{"c":1},"d":[1,"x",true,null]}"#,
            r#"{"a_b_c":1,"a_d":"1, x, true"}"#,
        );
        check(r#""a":[{"b":1}]"#, "{}");
    }

    #[test]
    fn what_holds_nothing_is_dropped() {
        check(
            r#""a":null,"b":"","c":[],"d":{},"e":[null],"plan":null"#,
            "{}",
        );
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
    fn the_owner_may_omit_fields_and_drop_unknown_ones() {
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
        let rules = PropertyRules {
            drop_unknown: true,
            ..PropertyRules::default()
        };
        check_with(
            &rules,
            r#""c":1,"commitment_months":12,"plan":"p","paid_at_ms":1803975300000"#,
            r#"{"commitment_months":12,"plan":"p"}"#,
        );
    }

    #[test]
    fn two_names_that_become_one_keep_the_first() {
        check(r#""a.b":2,"ab":1,"a!b":3"#, r#"{"ab":3}"#);
        assert_eq!(
            fates(r#""a.b":2,"ab":1"#),
            [("a.b".to_owned(), "sent"), ("ab".to_owned(), "collision")]
        );
    }

    #[test]
    fn nothing_takes_the_name_of_a_documented_property() {
        check(
            r#""plan!":5,"next":{"renewal_at":5},"amount_in_usd ":"x""#,
            "{}",
        );
        check(
            r#""attribution_utm_source":5"#,
            r#"{"attribution_utm_source":"5"}"#,
        );
    }

    #[test]
    fn the_least_known_give_way_to_the_limit() {
        let unknown: Vec<_> = (0..200).map(|n| format!("\"a{n:03}\":{n}")).collect();
        let fields = format!(
            r#"{},"zone":"z","plan":"p","attribution":{{"utm_source":"s"}}"#,
            unknown.join(",")
        );
        let properties = mapped(&PropertyRules::default(), &fields);
        assert_eq!(
            properties.len(),
            limits::PROPERTIES - 1,
            "and the event's name"
        );
        assert_eq!(properties["plan"], "p");
        assert_eq!(properties["attribution_utm_source"], "s");
        assert!(properties.contains_key("a096"));
        assert!(!properties.contains_key("a097"));
        let told = fates(&fields);
        assert_eq!(
            told.iter()
                .filter(|(_, fate)| *fate == "over_limit")
                .count(),
            104
        );
    }

    #[test]
    fn text_is_made_to_fit_and_that_is_told() {
        let long = "€".repeat(300);
        let fields = format!(r#""presentation":"{long}""#);
        let properties = mapped(&PropertyRules::default(), &fields);
        assert_eq!(properties["presentation"].as_str().unwrap().len(), 510);
        assert_eq!(fates(&fields), [("presentation".to_owned(), "sanitized")]);
        check(r#""plan":"$D_123""#, r#"{"plan":"D_123"}"#);
    }
}
