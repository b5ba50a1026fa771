//! What CleverTap accepts: its limits, and its verdict on each record of an upload. It refuses whatever the
//! documentation does not allow.
//! It does not know who uploads, nor how an answer is sent.
//!
//! Where the documentation is silent it refuses, so that nothing relies on undocumented tolerance. Where a rule
//! is on one page below <https://developer.clevertap.com/docs/>, the page is named; the others are CleverTap's
//! general rules for names and values, or its SDKs'.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// Records in one call (page `upload-events-api`).
const MAX_RECORDS: usize = 1000;
/// Properties of one event: the default of an account (page `upload-events-api`).
const MAX_EVENT_PROPERTIES: usize = 100;
/// Custom properties of profiles (page `upload-user-profiles-api`).
const MAX_PROFILE_PROPERTIES: usize = 256;
/// In the key of an event property, characters; in that of a profile property, bytes of UTF-8 (pages `upload-events-api`
/// and `upload-user-profiles-api`).
const MAX_KEY_LENGTH: usize = 120;
/// Characters in an event name. No page gives a limit, so the one for keys is taken.
const MAX_EVENT_NAME_CHARACTERS: usize = 120;
/// Bytes of UTF-8 in a text value (pages `upload-events-api` and `upload-user-profiles-api`).
const MAX_VALUE_BYTES: usize = 512;
/// `identity`, `objectId` and their like are shorter than this many characters: CleverTap's rule for identities.
const IDENTITY_CHARACTERS: usize = 1024;
/// The prefixes of an `objectId` that an app chose, on Android and on iOS, the characters that may follow besides
/// letters and digits, and how many in all (page `set-clevertap-id`).
const CUSTOM_ID_PREFIXES: [&str; 2] = ["__h", "-h"];
const CUSTOM_ID_SIGNS: &str = "()!:@$_-";
const MAX_CUSTOM_ID_CHARACTERS: usize = 64;
/// Entries in `Items` of `Charged`. The documentation says 256, CleverTap's own SDKs stop at 50.
const MAX_ITEMS: usize = 50;
/// Values in one `$add` or `$remove`: as many as a multi-value property holds
/// (<https://docs.clevertap.com/docs/platform-considerations>).
const MAX_OPERATION_VALUES: usize = 100;
/// A `ts` from here on is in milliseconds: in seconds it would be the year 5138.
const FIRST_IMPLAUSIBLE_TIME: u64 = 100_000_000_000;
/// Characters that no name of an event or a property may have: CleverTap's rule for names.
const FORBIDDEN_CHARACTERS: [char; 13] =
    ['%', '>', '<', '!', '|', '&', '.', ':', ';', '$', '\'', '"', '\\'];
/// Forbidden in profile keys in addition to [`FORBIDDEN_CHARACTERS`]: CleverTap's rule for names.
const FORBIDDEN_IN_PROFILE_KEYS: char = '#';
/// How a date value starts; seconds since 1970 follow: CleverTap's rule for values.
const DATE_PREFIX: &str = "$D_";
/// The revenue event in CleverTap's comparison, the only one with `Items` and the one that needs a numeric `Amount`.
const CHARGED: &str = "charged";
/// Events that only CleverTap raises (page `events`). Names compare without case and spaces.
#[rustfmt::skip]
const RESERVED_EVENTS: [&str; 29] = [
    "Notification Sent", "Notification Viewed", "Notification Clicked", "Notification Delivered",
    "Notification Replied", "Notification Bounced", "UTM Visited", "App Launched",
    "App Uninstalled", "App Installed", "App Version Changed", "Stayed", "Reply Sent",
    "Experiment Rendered", "Reachable By", "Identity Reset", "Identity Set", "Identity Error",
    "Geocluster Entered", "Geocluster Exited", "SCOutgoing", "SCIncoming", "SCEnd",
    "SCCampaignOptOut", "Push Impressions", "State Transitioned", "Session Concluded",
    "Channel Unsubscribed", "Web Page Viewed",
];
/// CleverTap's own prefix: `wzrk_d` is reserved, other names are refused to be safe.
const RESERVED_EVENT_PREFIX: &str = "wzrk_";
/// Keys of which a record has exactly one (page `upload-events-api`).
const IDENTITY_KEYS: [&str; 4] = ["identity", "objectId", "FBID", "GPID"];
/// Profile fields with a meaning of their own, in lower case, with the code of each (page `api-errors`).
const SYSTEM_FIELDS: [(&str, u16); 10] = [
    ("name", STRUCTURE),
    ("identity", STRUCTURE),
    ("dob", STRUCTURE),
    ("gender", 514),
    ("email", 515),
    ("phone", 516),
    ("employed", 517),
    ("education", 518),
    ("married", 519),
    ("age", 520),
];
/// The prefix of the fields with a user's consent to messages, in lower case.
const CONSENT_PREFIX: &str = "msg-";

/// Record codes (page `api-errors`).
const NO_EVENT_NAME: u16 = 509;
const STRUCTURE: u16 = 512;
const RESERVED: u16 = 513;
const TOO_MANY_PROPERTIES: u16 = 522;
const NO_IDENTITY: u16 = 523;
const NO_TYPE: u16 = 524;
const TIME: u16 = 525;
const OBJECT_ID: u16 = 526;

/// Judges a body, unless it is refused as a whole: the records that CleverTap stores, and its answer. `forced` refuses
/// one record, given by its number, with a code.
pub fn judge(body: &[u8], forced: Option<(usize, u16)>) -> Option<(Vec<Value>, Value)> {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for (record, number) in records(body)?.into_iter().zip(1..) {
        let checked = match forced {
            Some((forced, code)) if forced == number => Err((code, String::new())),
            _ => check(&record),
        };
        match checked {
            Ok(()) => accepted.push(Value::Object(record)),
            Err(refusal) => refused.push(unprocessed(number, record, refusal)),
        }
    }
    let answer = answer(accepted.len(), &refused);
    Some((accepted, answer))
}

/// Why CleverTap would refuse this record, if it would.
pub fn refusal_of(record: &Value) -> Option<String> {
    let checked = object("the record", Some(record)).and_then(check);
    checked.err().map(|(code, detail)| format!("{code}: {detail}"))
}

/// The body of an HTTP 200 in one of its three shapes (page `upload-events-api`).
pub fn answer(processed: usize, unprocessed: &[Value]) -> Value {
    let status = match (processed, unprocessed) {
        (0, _) => "fail",
        (_, []) => "success",
        _ => "partial",
    };
    json!({ "status": status, "processed": processed, "unprocessed": unprocessed })
}

/// The code and what is wrong with this very record, for the developer who reads the answer; names, never values.
type Refusal = (u16, String);

/// The entry of `unprocessed` for the record with this number, counted from 1.
fn unprocessed(number: usize, mut record: Map<String, Value>, refusal: Refusal) -> Value {
    let (code, detail) = refusal;
    // The sentences for 509, 513 and 525 are recorded ones; the others follow the page `api-errors`.
    let sentence = match code {
        NO_EVENT_NAME => "Event name is mandatory",
        STRUCTURE => "Event structure is not valid",
        RESERVED => {
            "Event Name is incorrect. ErrorCode: 513 - Trying to raise a restricted system event"
        }
        TOO_MANY_PROPERTIES => "Event properties limit exceeded",
        NO_IDENTITY => "Identity is missing",
        NO_TYPE => "Data is neither event nor profile",
        TIME => "Timestamp should be present in the Unix Epoch format",
        OBJECT_ID => "objectId is not valid",
        528 => "Discarded event is raised",
        555 => "Miscellaneous server error",
        _ => "Record is not valid",
    };
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    // CleverTap is inconsistent about this space. Even codes go without, so that nobody counts on it.
    let space = if code.is_multiple_of(2) { "" } else { " " };
    // The echo may be normalised and is deliberately never equal to what was sent: the number identifies the record.
    record.remove("ts");
    json!({
        "status": "fail",
        "code": code,
        "error": format!("{sentence}{detail}.{space}Skipped record number : {number}"),
        "record": record,
    })
}

/// The records of a well-formed body: an object with the one key `d`, a list of 1 to 1000 objects.
fn records(body: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let mut lists: BTreeMap<String, Vec<Map<String, Value>>> = serde_json::from_slice(body).ok()?;
    let records = lists.remove("d")?;
    let is_valid = lists.is_empty() && (1..=MAX_RECORDS).contains(&records.len());
    is_valid.then_some(records)
}

/// Refuses the record with a code and the reason unless the condition is met.
macro_rules! require {
    ($is_met:expr => $code:expr, $($reason:tt)+) => {
        if !$is_met {
            return Err(($code, format!($($reason)+)));
        }
    };
    ($is_met:expr, $($reason:tt)+) => {
        require!($is_met => STRUCTURE, $($reason)+)
    };
}

/// Checks one record against every documented rule.
fn check(record: &Map<String, Value>) -> Result<(), Refusal> {
    let present = |key: &&str| record.contains_key(*key);
    let keys: Vec<&str> = IDENTITY_KEYS.into_iter().filter(present).collect();
    require!(keys.len() == 1 => NO_IDENTITY, "{} identities", keys.len());
    let key = keys[0];
    let id = record[key].as_str().unwrap_or_default();
    let is_valid = (1..IDENTITY_CHARACTERS).contains(&id.chars().count());
    let code = if key == "objectId" { OBJECT_ID } else { NO_IDENTITY };
    require!(is_valid => code, "{key} is not a text of 1 to 1023 characters");
    let custom = CUSTOM_ID_PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix));
    let is_valid = key != "objectId" || custom.is_none_or(is_custom_id);
    require!(is_valid => OBJECT_ID, "objectId is not a custom CleverTap ID");

    let ts = record.get("ts").map(|ts| ts.as_u64().unwrap_or_default());
    let is_seconds = ts.is_none_or(|ts| (1..FIRST_IMPLAUSIBLE_TIME).contains(&ts));
    require!(is_seconds => TIME, "ts is not in Unix seconds");
    let (own, check): (&[&str], fn(&_) -> _) = match record.get("type").and_then(Value::as_str) {
        Some("event") => (&["evtName", "evtData"], check_event),
        Some("profile") => (&["profileData"], check_profile),
        _ => return Err((NO_TYPE, String::new())),
    };
    for key in record.keys() {
        let lists = [&IDENTITY_KEYS[..], &["type", "ts"], own];
        let is_known = lists.iter().any(|keys| keys.contains(&key.as_str()));
        require!(is_known, "{key} is not a key of this record");
    }
    check(record)
}

fn check_event(record: &Map<String, Value>) -> Result<(), Refusal> {
    let name = record.get("evtName").and_then(Value::as_str).unwrap_or_default();
    require!(!name.is_empty() => NO_EVENT_NAME, "no name");
    let compared = compared(name);
    let is_reserved = RESERVED_EVENTS.iter().any(|event| self::compared(event) == compared)
        || compared.starts_with(RESERVED_EVENT_PREFIX);
    require!(!is_reserved => RESERVED, "{name} is reserved");
    require!(name.chars().count() <= MAX_EVENT_NAME_CHARACTERS, "{name} is too long");
    require!(!name.contains(FORBIDDEN_CHARACTERS), "{name} has a forbidden character");

    let properties = object("evtData", record.get("evtData"))?;
    let is_charged = compared == CHARGED;
    let has_amount = properties.get("Amount").is_some_and(Value::is_number);
    require!(!is_charged || has_amount, "Amount is not a number");
    check_event_keys(properties)?;
    for (key, value) in properties {
        match value {
            Value::Array(items) if is_charged && key == "Items" => check_items(items)?,
            _ => check_value(key, value)?,
        }
    }
    Ok(())
}

fn check_items(items: &[Value]) -> Result<(), Refusal> {
    require!(items.len() <= MAX_ITEMS, "Items has too many entries");
    for item in items {
        let properties = object("an entry of Items", Some(item))?;
        check_event_keys(properties)?;
        properties.iter().try_for_each(|(key, value)| check_value(key, value))?;
    }
    Ok(())
}

fn check_event_keys(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let count = properties.len();
    require!(count <= MAX_EVENT_PROPERTIES => TOO_MANY_PROPERTIES, "{count} properties");
    check_keys(properties, |key| key.chars().count())
}

fn check_profile(record: &Map<String, Value>) -> Result<(), Refusal> {
    let properties = object("profileData", record.get("profileData"))?;
    let count = properties.len();
    require!(count <= MAX_PROFILE_PROPERTIES, "{count} properties");
    check_keys(properties, str::len)?;
    for (key, value) in properties {
        let compared = compared(key);
        let system_field = SYSTEM_FIELDS.iter().find(|(field, _)| *field == compared);
        let code = system_field.map_or(STRUCTURE, |(_, code)| *code);
        require!(system_field.is_none() => code, "{key} is a system field");
        require!(!compared.starts_with(CONSENT_PREFIX), "{key} is a system field");
        let is_allowed = !key.contains(FORBIDDEN_IN_PROFILE_KEYS);
        require!(is_allowed, "the key {key} has a forbidden character");
        match value {
            Value::Object(operation) => check_operation(key, operation)?,
            _ => check_value(key, value)?,
        }
    }
    Ok(())
}

/// One operation on a profile property: `$add`, `$remove` or `$incr` (page `upload-user-profiles-api`).
fn check_operation(key: &str, operation: &Map<String, Value>) -> Result<(), Refusal> {
    let entries: Vec<_> = operation.iter().map(|(name, operand)| (&**name, operand)).collect();
    match entries[..] {
        [("$incr", Value::Number(_))] => Ok(()),
        [("$add" | "$remove", Value::Array(values))] => {
            let is_valid = (1..=MAX_OPERATION_VALUES).contains(&values.len());
            let is_valid = is_valid && values.iter().all(Value::is_string);
            require!(is_valid, "{key} has an operation without 1 to 100 texts");
            values.iter().try_for_each(|value| check_value(key, value))
        }
        _ => Err((STRUCTURE, format!("{key} has an invalid operation"))),
    }
}

fn is_custom_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || CUSTOM_ID_SIGNS.contains(c);
    (1..=MAX_CUSTOM_ID_CHARACTERS).contains(&id.chars().count()) && id.chars().all(is_allowed)
}

fn object<'r>(name: &str, value: Option<&'r Value>) -> Result<&'r Map<String, Value>, Refusal> {
    let object = value.and_then(Value::as_object);
    object.ok_or_else(|| (STRUCTURE, format!("{name} is not an object")))
}

/// What the keys of events and profiles have in common.
fn check_keys(properties: &Map<String, Value>, length: fn(&str) -> usize) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for key in properties.keys() {
        require!(!key.trim().is_empty(), "a key is empty");
        require!(length(key) <= MAX_KEY_LENGTH, "the key {key} is too long");
        let is_allowed = !key.contains(FORBIDDEN_CHARACTERS);
        require!(is_allowed, "the key {key} has a forbidden character");
        // Those that differ only in surrounding white space would be one property.
        require!(seen.insert(key.trim()), "the key {key} is there twice");
    }
    Ok(())
}

/// A flat value: text, boolean, number or date. null is undocumented, and so refused.
fn check_value(key: &str, value: &Value) -> Result<(), Refusal> {
    let is_flat = matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_));
    require!(is_flat, "{key} is not a flat value");
    let text = value.as_str().unwrap_or_default();
    require!(text.len() <= MAX_VALUE_BYTES, "the text of {key} is too long");
    let is_valid = text.strip_prefix(DATE_PREFIX).is_none_or(is_seconds);
    require!(is_valid, "the date of {key} is not in whole seconds");
    Ok(())
}

/// Digits alone, and not so many that they can only be milliseconds.
fn is_seconds(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.parse().is_ok_and(|seconds: u64| seconds < FIRST_IMPLAUSIBLE_TIME)
}

/// A name as CleverTap compares it: without case and without spaces.
fn compared(name: &str) -> String {
    let visible = name.chars().filter(|character| !character.is_whitespace());
    visible.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of the refusal (null: accepted), a record, a pointer into it, and the values that are put there, one
    /// after another (none: it is removed).
    const CASES: &str = r##"[
        [523, "event", "/identity"],
        [523, "event", "/identity", "", 1842],
        [523, "event", "/objectId", "__h1"],
        [526, "profile", "/objectId", "", "__h", "__ha b", "-ha.b", "-hé"],
        [null, "profile", "/objectId", "-haZ09()!:@$_-", "__g1"],
        [524, "event", "/type"],
        [524, "event", "/type", "token"],
        [null, "event", "/ts"],
        [525, "event", "/ts", 0, -1, 1.5, "1772439330", null, 1772439330000],
        [509, "event", "/evtName"],
        [509, "event", "/evtName", ""],
        [512, "event", "/evtName", "Plan: yearly"],
        [513, "event", "/evtName", "App Launched", "applaunched", "WEB PAGEVIEWED", "Wzrk_x"],
        [512, "event", "/evtData"],
        [512, "event", "/evtdata", {}],
        [512, "event", "/profileData", {}],
        [512, "profile", "/evtData", {}],
        [512, "event", "/evtData", [], { "": 1 }, { " ": 1 }, { "a.b": 1 }, { "a$": 1 }, { "it's": 1 }],
        [512, "event", "/evtData", { "plan": "a", "plan ": "b" }],
        [null, "event", "/evtData", { "#": 1 }],
        [512, "event", "/evtData/offer", { "id": 1 }, ["a"], null],
        [512, "event", "/evtData/Items", [{ "id": 1 }]],
        [null, "event", "/evtData/at", "$D_1803975300"],
        [512, "event", "/evtData/at", "$D_", "$D_soon", "$D_-1", "$D_+1", "$D_1.5", "$D_1803975300000"],
        [512, "charged", "/evtData/Amount"],
        [512, "charged", "/evtData/Amount", "9.99"],
        [512, "charged", "/evtData/Items", [1], [{ "a": {} }]],
        [512, "profile", "/profileData"],
        [512, "profile", "/profileData", "yearly"],
        [512, "profile", "/profileData", { "plan#": 1 }, { "a.b": 1 }, { "": 1 }, { "plan": "a", "plan ": "b" }],
        [512, "profile", "/profileData/Name", "Ada"],
        [515, "profile", "/profileData/email", "a@example.com"],
        [512, "profile", "/profileData/MSG-push", true],
        [512, "profile", "/profileData/plans", ["a"], null, {}],
        [512, "profile", "/profileData/plans", { "$add": [] }, { "$add": "a" }, { "$add": [1] }, { "$set": ["a"] }],
        [512, "profile", "/profileData/plans", { "$add": ["a"], "$remove": ["b"] }, { "$incr": "1" }],
        [null, "profile", "/profileData/renewals", { "$incr": 1 }]
    ]"##;

    #[test]
    fn refuses_what_the_documentation_does_not_allow() {
        let cases: Vec<Vec<Value>> = serde_json::from_str(CASES).unwrap();
        for case in cases {
            let (name, pointer) = (case[1].as_str().unwrap(), case[2].as_str().unwrap());
            let values: Vec<_> = case[3..].iter().cloned().map(Some).collect();
            for value in if values.is_empty() { vec![None] } else { values } {
                let code = code(&with(name, pointer, value.clone()));
                assert_eq!(json!(code), case[0], "{name}{pointer} {value:?}");
            }
        }
    }

    #[test]
    fn accepts_up_to_each_limit_and_nothing_above() {
        let text = |n: usize| json!("é".repeat(n));
        let key = |n: usize| json!({ "é".repeat(n): 1 });
        let properties = |n: usize| (0..n).map(|i| (format!("p{i}"), json!(i))).collect();
        let items = |n: usize| json!(vec![json!({ "plan": "yearly" }); n]);
        let values = |n: usize| json!({ "$remove": vec!["a"; n] });
        limited_to(1023, "event", "/identity", text);
        limited_to(64, "profile", "/objectId", |n| json!(format!("-h{}", "a".repeat(n))));
        limited_to(120, "event", "/evtName", text);
        limited_to(100, "event", "/evtData", properties);
        limited_to(120, "event", "/evtData", key);
        limited_to(256, "event", "/evtData/plan", text);
        limited_to(50, "charged", "/evtData/Items", items);
        limited_to(256, "profile", "/profileData", properties);
        limited_to(60, "profile", "/profileData", key);
        limited_to(100, "profile", "/profileData/plans", values);
    }

    #[track_caller]
    fn limited_to(n: usize, name: &str, pointer: &str, value: impl Fn(usize) -> Value) {
        assert_eq!(code(&with(name, pointer, Some(value(n)))), None);
        assert!(code(&with(name, pointer, Some(value(n + 1)))).is_some());
    }

    #[test]
    fn accepts_only_bodies_of_1_to_1000_records() {
        let body = |n: usize| json!({ "d": vec![record("event"); n] });
        let count = |body: Value| records(body.to_string().as_bytes()).map(|records| records.len());
        assert_eq!(count(body(1000)), Some(1000));
        let odd = [json!({ "d": [1] }), json!({ "d": [{}], "e": 1 }), json!([{}]), json!("{")];
        for refused in odd.into_iter().chain([body(0), body(1001)]) {
            assert_eq!(count(refused), None);
        }
    }

    #[test]
    fn words_refusals_as_recorded() {
        let worded = |code| unprocessed(2, Map::new(), (code, String::new()))["error"].clone();
        assert_eq!(worded(509), "Event name is mandatory. Skipped record number : 2");
        assert_eq!(worded(526), "objectId is not valid.Skipped record number : 2");
    }

    /// A record that every rule accepts.
    fn record(name: &str) -> Value {
        match name {
            "event" => json!({
                "identity": "u-1842", "type": "event", "evtName": "SUBSCRIPTION_RENEWED", "ts": 1_772_439_330,
                "evtData": { "plan": "yearly", "price": 10.0, "next_renewal_at": "$D_1803975300" },
            }),
            "charged" => json!({
                "identity": "u-1842", "type": "event", "evtName": "Charged",
                "evtData": { "Amount": 9.99, "Items": [{ "plan": "yearly" }] },
            }),
            "profile" => json!({
                "objectId": "__hA1B2", "type": "profile", "ts": 1_772_439_330,
                "profileData": { "has_active_subscription": true, "active_plans": { "$add": ["yearly"] } },
            }),
            _ => unreachable!("{name} is not a record of these tests"),
        }
    }

    fn with(name: &str, pointer: &str, value: Option<Value>) -> Value {
        let mut record = record(name);
        assert_eq!(code(&record), None, "{record}");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = record.pointer_mut(parent).unwrap();
        match value {
            Some(value) => parent[key] = value,
            None => drop(parent.as_object_mut().unwrap().remove(key).unwrap()),
        }
        record
    }

    fn code(record: &Value) -> Option<u16> {
        check(record.as_object().unwrap()).err().map(|(code, _)| code)
    }
}
