//! Turns the fields of a payload into the properties of an event.
//!
//! It does not know which records get them.

use super::{FieldOutcome, seconds};
use crate::clevertap::{Property, Value, limits};
use crate::json::{Object, Value as Json};
use crate::purchasely::catalogue::{self, Kind};
use crate::purchasely::{self, Event, digits};
use serde_json::Number;
use std::borrow::Cow;
use std::collections::HashSet;

/// Google's purchase token is a credential: no property is sent whose name contains this, in any case.
const SENSITIVE: &str = "purchase_token";
/// Joined by an underscore, the names of an object and its field make it, too.
const SENSITIVE_HALVES: [&str; 2] = ["purchase", "token"];
const LIST_SEPARATOR: &str = ", ";
/// How many properties the fields are made into that Purchasely does not document, or that are in objects:
/// more than CleverTap takes, and few enough for any payload.
const MAX_FLATTENED: usize = 1000;
/// A longer path of a field in an object is cut where it is reported. No setting names such a field.
const MAX_PATH_BYTES: usize = 512;

/// Which payload fields are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyRules {
    /// As [`omission`] writes them: `plan`, `attribution_utm_term` (`PROPERTIES_OMITTED`).
    pub omitted: HashSet<String>,
    /// Whether undocumented fields are dropped (`UNKNOWN_FIELDS=drop`).
    pub drop_unknown: bool,
}

/// A field's name as omissions are compared: `Attribution.utm_term` is `attribution_utm_term`.
#[must_use]
pub fn omission(name: &str) -> String {
    name.replace('.', "_").to_lowercase()
}

/// The properties of an event, unique by key: documented fields, then attribution, then unknown fields,
/// each by name. Beyond CleverTap's maximum number the last ones are dropped.
///
/// `on_field` is called with each field's outcome; a field inside an object is named `object.field`.
pub fn of_event<'e>(
    event: &'e Event<'_>,
    rules: &'e PropertyRules,
    on_field: &mut dyn FnMut(&str, FieldOutcome<'e>),
) -> Vec<Property<'e>> {
    let mut reader = Reader {
        rules,
        placeholders: event.placeholders(),
        found: [const { Vec::new() }; 3],
        flattened: 0,
        on_field,
    };
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
    is_inner: bool,
    /// Its field's path, `object.inner`, cut to [`MAX_PATH_BYTES`]; empty for the payload.
    path: String,
    /// The same for property names, `object_inner`, as [`limits::join_names`] cuts it.
    prefix: String,
    /// Whether its name, before it was cut, ends in the first half of [`SENSITIVE`].
    is_half_sensitive: bool,
    /// The documented type of the payload field that it is in.
    kind: Option<Kind>,
}

/// A field of an object.
struct Field<'e, 'j> {
    object: &'e Object<'j>,
    original: &'e str,
    /// The same without the `_ms` of the twin of a time.
    name: &'e str,
    value: &'e Json<'j>,
    kind: Option<Kind>,
}

/// Where a field came from, and what it becomes.
struct Place<'e> {
    source: Cow<'e, str>,
    /// Without forbidden characters.
    name: Cow<'e, str>,
    rank: Rank,
    is_flattened: bool,
}

struct Reader<'e, 'f> {
    rules: &'e PropertyRules,
    placeholders: &'e [&'static str],
    /// By [`Rank`].
    found: [Vec<Candidate<'e>>; 3],
    /// At most [`MAX_FLATTENED`].
    flattened: usize,
    on_field: &'f mut dyn FnMut(&str, FieldOutcome<'e>),
}

/// A field's value as its type, and whether a part of it was left out or replaced.
type Read<'e> = Result<(Value<'e>, bool), FieldOutcome<'e>>;

impl Parent {
    fn source<'e>(&self, field: &'e str) -> Cow<'e, str> {
        if !self.is_inner {
            return Cow::Borrowed(field);
        }
        let field = &field[..field.floor_char_boundary(MAX_PATH_BYTES)];
        let mut path = format!("{}.{field}", self.path);
        path.truncate(path.floor_char_boundary(MAX_PATH_BYTES));
        Cow::Owned(path)
    }

    /// A field's property name, from its allowed characters.
    fn name<'e>(&self, allowed: Cow<'e, str>) -> Cow<'e, str> {
        if self.is_inner {
            Cow::Owned(limits::join_names(&self.prefix, &allowed))
        } else {
            allowed
        }
    }

    /// Whether a field's whole name contains [`SENSITIVE`], however long this object's is.
    fn is_sensitive(&self, allowed: &str) -> bool {
        contains_sensitive(allowed)
            || (self.is_half_sensitive && starts_with(allowed.trim_start(), SENSITIVE_HALVES[1]))
    }

    /// The object in a field of this one.
    fn inner(&self, field: &str, allowed: Cow<'_, str>, kind: Option<Kind>) -> Self {
        let name = allowed.trim_end();
        let end = name.len().saturating_sub(SENSITIVE_HALVES[0].len());
        Self {
            is_inner: true,
            path: self.source(field).into_owned(),
            is_half_sensitive: name
                .get(end..)
                .is_some_and(|end| starts_with(end, SENSITIVE_HALVES[0])),
            prefix: self.name(allowed).into_owned(),
            kind: if self.is_inner { self.kind } else { kind },
        }
    }

    /// The documented type of a field in this object.
    fn kind_of(&self, field: &str) -> Option<Kind> {
        match self.kind {
            _ if !self.is_inner => catalogue::kind(field),
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

impl<'e> Reader<'e, '_> {
    fn object<'j>(&mut self, parent: &Parent, object: &'e Object<'j>) {
        // What Purchasely documents comes before what could use up the maximum.
        let mut unknown: Vec<Field<'e, 'j>> = Vec::new();
        for (field, value) in object.iter() {
            // A `*_at_ms` field repeats the time in `*_at`.
            let twin_of = field.strip_suffix("_ms").filter(|at| at.ends_with("_at"));
            let name = twin_of.unwrap_or(field);
            let kind = parent.kind_of(name);
            let field = Field { object, original: field, name, value, kind };
            if parent.is_inner || kind.is_some() {
                self.field(parent, field);
            } else {
                unknown.push(field);
            }
        }
        for field in unknown {
            self.field(parent, field);
        }
    }

    fn field(&mut self, parent: &Parent, field: Field<'e, '_>) {
        let Field { object, original: field, name, value, kind } = field;
        let allowed = limits::allowed(field);
        let is_flattened = parent.is_inner || kind.is_none();
        let is_twin = name.len() < field.len();
        let left_out = if !parent.is_inner && self.placeholders.contains(&field) {
            Some(FieldOutcome::Placeholder)
        } else if parent.is_sensitive(&allowed) {
            Some(FieldOutcome::Sensitive)
        } else if self.is_omitted(parent, name) || (is_twin && self.is_omitted(parent, field)) {
            Some(FieldOutcome::Omitted)
        } else if self.rules.drop_unknown && !parent.is_inner && kind.is_none() {
            Some(FieldOutcome::Unknown)
        } else if is_flattened && self.flattened == MAX_FLATTENED {
            Some(FieldOutcome::OverLimit)
        } else {
            None
        };
        let source = parent.source(field);
        if let Some(outcome) = left_out {
            return (self.on_field)(&source, outcome);
        }
        // Purchasely names every time `*_at`, so an unknown field of such a name may be one.
        let time_ms = name.ends_with("_at").then(|| purchasely::time_ms(object, name)).flatten();
        let is_time = kind == Some(Kind::Time)
            || (time_ms.is_some() && matches!(kind, None | Some(Kind::Unspecified)));
        let may_be_object = matches!(kind, None | Some(Kind::Texts | Kind::Unspecified))
            || parent.kind == Some(Kind::Texts);
        let place = |name| Place {
            source,
            name: parent.name(name),
            rank: parent.rank_of(kind),
            is_flattened,
        };
        match value {
            _ if is_time && is_twin && object.get(name).is_some() => {
                (self.on_field)(&parent.source(field), FieldOutcome::MillisecondTwin);
            }
            _ if is_time => {
                let read = match (time_ms, value) {
                    (Some(time_ms), _) => Ok((Value::Date(seconds(time_ms)), false)),
                    (None, Json::Null) => Err(FieldOutcome::Empty),
                    (None, _) => Err(FieldOutcome::WrongType),
                };
                self.add(place(if is_twin { limits::allowed(name) } else { allowed }), read);
            }
            Json::Object(object) if may_be_object && !object.is_empty() => {
                self.object(&parent.inner(field, allowed, kind), object);
            }
            _ => self.add(place(allowed), read(kind, value)),
        }
    }

    fn is_omitted(&self, parent: &Parent, field: &str) -> bool {
        let omitted = &self.rules.omitted;
        !omitted.is_empty() && omitted.contains(&omission(&parent.source(field)))
    }

    /// Adds a property to the candidates, or reports why it cannot be one.
    fn add(&mut self, place: Place<'e>, read: Read<'e>) {
        let Place { source, name, rank, is_flattened } = place;
        let Some((key, is_cut)) = limits::fit_name(name) else {
            return (self.on_field)(&source, FieldOutcome::UnusableName);
        };
        let (value, is_partial) = match read {
            Ok(read) => read,
            Err(outcome) => return (self.on_field)(&source, outcome),
        };
        // In CleverTap a documented property must keep its type, so its name is not free.
        if rank == Rank::Unknown
            && catalogue::kind(&key).is_some_and(|kind| kind != Kind::Unspecified)
        {
            return (self.on_field)(&source, FieldOutcome::Collision(key));
        }
        let (value, is_truncated) = truncate(value);
        let is_repaired = !key.is_ascii() && key.contains(char::REPLACEMENT_CHARACTER);
        self.flattened += usize::from(is_flattened);
        self.found[rank as usize].push(Candidate {
            source,
            key,
            value,
            is_sanitized: is_partial || is_truncated || is_cut || is_repaired,
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
fn contains_sensitive(name: &str) -> bool {
    let mut windows = name.as_bytes().windows(SENSITIVE.len());
    windows.any(|window| {
        // Nearly always enough.
        window[0].eq_ignore_ascii_case(&b'p') && window.eq_ignore_ascii_case(SENSITIVE.as_bytes())
    })
}

fn starts_with(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|name| name.eq_ignore_ascii_case(start))
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
fn read<'e>(kind: Option<Kind>, value: &'e Json<'_>) -> Read<'e> {
    if *value == Json::Unreadable {
        return Err(FieldOutcome::Unreadable);
    } else if is_empty(value) {
        return Err(FieldOutcome::Empty);
    }
    let typed = match kind {
        Some(Kind::Text) => text(value).map(Value::Text),
        Some(Kind::Integer) => value.parse().map(Value::Integer),
        Some(Kind::Decimal) => value.parse().filter(|n: &f64| n.is_finite()).map(Value::Decimal),
        Some(Kind::Boolean) => boolean(value).map(Value::Boolean),
        Some(Kind::Time | Kind::Texts) => None,
        Some(Kind::Unspecified) | None => return read_untyped(value),
    };
    typed.map(|typed| (typed, is_repaired(value))).ok_or(FieldOutcome::WrongType)
}

fn read_untyped<'e>(value: &'e Json<'_>) -> Read<'e> {
    match value {
        Json::Text(_) | Json::Repaired(_) => {
            let text = text(value).ok_or(FieldOutcome::WrongType)?;
            Ok((Value::Text(text), is_repaired(value)))
        }
        Json::Number(digits) => match serde_json::from_str::<Number>(digits) {
            Ok(number) => Ok((Value::Number(number), false)),
            Err(_) => Err(FieldOutcome::Unreadable),
        },
        Json::Boolean(boolean) => Ok((Value::Boolean(*boolean), false)),
        Json::List(elements) => {
            let texts: Vec<_> = elements.iter().filter_map(text).collect();
            if texts.is_empty() {
                return Err(FieldOutcome::WrongType);
            }
            let is_partial = texts.len() < elements.len() || elements.iter().any(is_repaired);
            Ok((Value::Text(Cow::Owned(texts.join(LIST_SEPARATOR))), is_partial))
        }
        Json::Null | Json::Object(_) | Json::Unreadable => Err(FieldOutcome::Empty),
    }
}

fn is_empty(value: &Json<'_>) -> bool {
    match value {
        Json::Null => true,
        Json::Text(text) => text.trim().is_empty(),
        Json::List(elements) => elements.iter().all(is_empty),
        Json::Object(object) => object.is_empty(),
        Json::Boolean(_) | Json::Number(_) | Json::Repaired(_) | Json::Unreadable => false,
    }
}

fn is_repaired(value: &Json<'_>) -> bool {
    matches!(value, Json::Repaired(_))
}

fn text<'e>(value: &'e Json<'_>) -> Option<Cow<'e, str>> {
    match value {
        Json::Number(number) => Some(Cow::Borrowed(digits(number))),
        Json::Boolean(true) => Some(Cow::Borrowed("true")),
        Json::Boolean(false) => Some(Cow::Borrowed("false")),
        other => other.as_text().map(Cow::Borrowed),
    }
}

fn boolean(value: &Json<'_>) -> Option<bool> {
    match value {
        Json::Boolean(boolean) => Some(*boolean),
        Json::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
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
            ("next_renewal_at", "1e400"),
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
    fn a_number_as_text_is_its_digits_as_written() {
        check(
            r#""store_transaction_id":2000000900000000123456789,"plan":7.0,"a":[1.50,2.0]"#,
            r#"{"a":"1.50, 2","plan":"7","store_transaction_id":"2000000900000000123456789"}"#,
        );
    }

    #[test]
    fn a_value_that_cannot_be_read_is_left_out_and_a_repaired_one_is_sent() {
        let deep = format!(r#""a":{}1{}"#, "{\"b\":".repeat(70), "}".repeat(70));
        let (properties, outcomes) = properties(&PropertyRules::default(), &deep);
        assert_eq!(properties, "{}");
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0].1, "unreadable");
        check_outcomes(
            r#""x":1e400,"amount_in_usd":-1e400"#,
            &[("amount_in_usd", "unreadable"), ("x", "unreadable")],
        );
        check(
            r#""plan":"\ud83c!","x":["\udf0d",1e400]"#,
            "{\"plan\":\"\u{fffd}!\",\"x\":\"\u{fffd}\"}",
        );
    }

    #[test]
    fn a_placeholder_is_not_sent_even_where_a_setting_omits_it() {
        let rules = PropertyRules {
            omitted: HashSet::from(["user_id".to_owned()]),
            ..PropertyRules::default()
        };
        for rules in [rules, PropertyRules::default()] {
            let (properties, outcomes) =
                properties(&rules, r#""user_id":"undefined","plan":"null""#);
            assert_eq!(properties, r#"{"plan":"null"}"#);
            assert_eq!(outcomes[0], ("user_id".to_owned(), "placeholder"));
        }
    }

    #[test]
    fn a_purchase_token_is_never_sent_however_long_the_name_around_it() {
        for parent in [
            "x".repeat(110),
            "x".repeat(200),
            "é".repeat(100_000),
            format!("{}purchase", "x".repeat(111)),
        ] {
            for field in
                ["purchase_token", "Purchase_Token", "the_purchase_token_2", "%purchase_to!ken"]
            {
                let fields = format!(r#""{parent}":{{"{field}":"t","deeper":{{"{field}":"t"}}}}"#);
                check(&fields, "{}");
            }
        }
        let parent = format!("{}Purchase", "x".repeat(200));
        check(
            &format!(r#""{parent}":{{"token_1":"t"}},"a":{{"purchase.":{{"token":"t"}}}}"#),
            "{}",
        );
        check(r#""purchase":{"to":{"ken":1}}"#, r#"{"purchase_to_ken":1}"#);
    }

    #[test]
    fn long_names_over_many_fields_take_little_and_the_maximum_is_kept() {
        let inner: Vec<_> = (0..9000).map(|n| format!("\"k{n:04}\":1")).collect();
        let fields = format!(
            r#""{}":{{{}}},"plan":"p","zone":"z","attribution":{{"utm_source":"s"}}"#,
            "n".repeat(150_000),
            inner.join(",")
        );
        let (properties, outcomes) = properties(&PropertyRules::default(), &fields);
        let cut = "n".repeat(limits::NAME_CHARACTERS);
        assert_eq!(properties, format!(r#"{{"attribution_utm_source":"s","{cut}":1,"plan":"p"}}"#));
        let of = |word: &str| outcomes.iter().filter(|(_, other)| *other == word).count();
        // One place was for `attribution_utm_source`; `zone` came too late.
        assert_eq!(
            (of("collision"), of("over_limit")),
            (MAX_FLATTENED - 2, 9000 - MAX_FLATTENED + 2)
        );
        assert!(outcomes.iter().all(|(field, _)| field.len() <= MAX_PATH_BYTES));
    }

    #[test]
    fn an_object_without_a_name_is_not_the_payload() {
        check(r#""":{"plan":5}"#, r#"{"_plan":5}"#);
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
        let rules = PropertyRules {
            omitted: HashSet::from([omission("Attribution.utm_term"), omission("PLAN")]),
            drop_unknown: false,
        };
        check_with(
            &rules,
            r#""plan":"p","attribution":{"utm_term":"x"},"Attribution_UTM_term":"y","b":1"#,
            r#"{"b":1}"#,
        );
        let rules = PropertyRules { drop_unknown: true, ..PropertyRules::default() };
        check_with(
            &rules,
            r#""c":1,"commitment_months":12,"commitment":{"price":5},"plan":"p","paid_at_ms":1803975300000"#,
            r#"{"commitment_months":12,"commitment_price":5,"plan":"p"}"#,
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
        let properties: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&properties).unwrap();
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
