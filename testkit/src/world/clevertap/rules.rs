//! What CleverTap accepts: its limits, and its verdict on each record of an upload. It refuses whatever the
//! documentation does not allow.
//! It does not know who uploads, nor how an answer is sent.
//!
//! Where the documentation is silent it refuses, so that nothing relies on undocumented tolerance. Where a rule
//! is on one page below <https://developer.clevertap.com/docs/>, the page is named; the others are CleverTap's
//! general rules for names and values, or its SDKs'.

use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Records in one call (page `upload-events-api`).
const MAX_RECORDS: usize = 1000;
/// Properties of one event: the default of an account (page `upload-events-api`).
const MAX_EVENT_PROPERTIES: usize = 100;
/// Custom properties of profiles (page `upload-user-profiles-api`).
const MAX_PROFILE_PROPERTIES: usize = 256;
/// Characters in the key of an event property (page `upload-events-api`).
const MAX_KEY_CHARACTERS: usize = 120;
/// Bytes of UTF-8 in the key of a profile property: bytes, unlike for events (page `upload-user-profiles-api`).
const MAX_PROFILE_KEY_BYTES: usize = 120;
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

/// What CleverTap does with the records of an upload.
#[derive(Debug)]
pub struct Judged {
    /// Those that it stores.
    pub accepted: Vec<Value>,
    /// The body of its answer.
    pub answer: Value,
}

/// Judges a body, unless it is refused as a whole. `forced` refuses one record, given by its number, with a code.
pub fn judge(body: &[u8], forced: Option<(usize, u16)>) -> Option<Judged> {
    let (mut accepted, mut unprocessed) = (Vec::new(), Vec::new());
    for (record, number) in records(body)?.into_iter().zip(1..) {
        let checked = match forced {
            Some((forced, code)) if forced == number => Err(Refusal::new(code)),
            _ => check(&record),
        };
        match checked {
            Ok(()) => accepted.push(Value::Object(record)),
            Err(refusal) => unprocessed.push(refusal.into_answer(number, record)),
        }
    }
    let answer = answer(accepted.len(), &unprocessed);
    Some(Judged { accepted, answer })
}

/// Why CleverTap would refuse this record, if it would.
pub fn refusal_of(record: &Value) -> Option<String> {
    let Some(record) = record.as_object() else {
        return Some("not an object".to_owned());
    };
    let refusal = check(record).err()?;
    Some(format!("{}: {}", refusal.code, refusal.detail))
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

/// Why one record is refused.
#[derive(Debug, PartialEq)]
struct Refusal {
    code: u16,
    /// What is wrong with this very record, for the developer who reads the answer; names, never values.
    detail: String,
}

impl Refusal {
    fn new(code: u16) -> Self {
        let detail = String::new();
        Self { code, detail }
    }

    fn because(detail: impl Into<String>) -> Self {
        let (code, detail) = (STRUCTURE, detail.into());
        Self { code, detail }
    }

    /// The entry of `unprocessed` for the record with this number, counted from 1.
    fn into_answer(self, number: usize, mut record: Map<String, Value>) -> Value {
        // The sentences for 509, 513 and 525 are recorded ones; the others follow the page `api-errors`.
        let sentence = match self.code {
            509 => "Event name is mandatory",
            512 => "Event structure is not valid",
            513 => {
                "Event Name is incorrect. ErrorCode: 513 - Trying to raise a restricted system event"
            }
            514 => "Gender is not valid",
            515 => "Email is not valid",
            516 => "Phone number is not valid",
            517 => "Employment status is not valid",
            518 => "Education status is not valid",
            519 => "Marital status is not valid",
            520 => "Age is not valid",
            522 => "Event properties limit exceeded",
            523 => "Identity is missing",
            524 => "Data is neither event nor profile",
            525 => "Timestamp should be present in the Unix Epoch format",
            526 => "objectId is not valid",
            528 => "Discarded event is raised",
            555 => "Miscellaneous server error",
            _ => "Record is not valid",
        };
        let detail = match self.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        // CleverTap is inconsistent about this space. Even codes go without, so that nobody counts on it.
        let space = if self.code.is_multiple_of(2) { "" } else { " " };
        // The echo may be normalised and is deliberately never equal to what was sent: the number identifies the record.
        record.remove("ts");
        json!({
            "status": "fail",
            "code": self.code,
            "error": format!("{sentence}{detail}.{space}Skipped record number : {number}"),
            "record": record,
        })
    }
}

/// The records of a well-formed body: an object with the one key `d`, a list of 1 to 1000 objects.
fn records(body: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let Some(Value::Array(records)) = body.remove("d") else {
        return None;
    };
    if !body.is_empty() || !(1..=MAX_RECORDS).contains(&records.len()) {
        return None;
    }
    let objects = records.into_iter().map(|record| match record {
        Value::Object(record) => Some(record),
        _ => None,
    });
    objects.collect()
}

/// Refuses the record with a code and the reason unless the condition is met.
macro_rules! require {
    ($is_met:expr => $code:expr, $($reason:tt)+) => {
        if !$is_met {
            let detail = format!($($reason)+);
            return Err(Refusal { code: $code, detail });
        }
    };
}

/// Checks one record against every documented rule.
fn check(record: &Map<String, Value>) -> Result<(), Refusal> {
    let present = |key: &&str| record.contains_key(*key);
    let keys: Vec<&str> = IDENTITY_KEYS.into_iter().filter(present).collect();
    require!(keys.len() == 1 => NO_IDENTITY, "{} identities", keys.len());
    let key = keys[0];
    let is_valid = |text: &str| (1..IDENTITY_CHARACTERS).contains(&text.chars().count());
    let is_valid = record[key].as_str().is_some_and(is_valid);
    let code = if key == "objectId" { OBJECT_ID } else { NO_IDENTITY };
    require!(is_valid => code, "{key} is not a text of 1 to 1023 characters");
    let id = record[key].as_str().unwrap_or_default();
    let custom = CUSTOM_ID_PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix));
    let is_valid = key != "objectId" || custom.is_none_or(is_custom_id);
    require!(is_valid => OBJECT_ID, "objectId is not a custom CleverTap ID");

    let ts = record.get("ts").map(|ts| ts.as_u64().unwrap_or_default());
    let is_seconds = ts.is_none_or(|ts| (1..FIRST_IMPLAUSIBLE_TIME).contains(&ts));
    require!(is_seconds => TIME, "ts is not in Unix seconds");
    match record.get("type").and_then(Value::as_str) {
        Some("event") => check_event(record),
        Some("profile") => check_profile(record),
        _ => Err(Refusal::new(NO_TYPE)),
    }
}

fn check_event(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["evtName", "evtData"])?;
    let name = record.get("evtName").and_then(Value::as_str).unwrap_or_default();
    require!(!name.is_empty() => NO_EVENT_NAME, "no name");
    let compared = compared(name);
    let is_reserved = RESERVED_EVENTS.iter().any(|event| self::compared(event) == compared)
        || compared.starts_with(RESERVED_EVENT_PREFIX);
    require!(!is_reserved => RESERVED, "{name} is reserved");
    let length = name.chars().count();
    require!(length <= MAX_EVENT_NAME_CHARACTERS => STRUCTURE, "{name} is too long");
    require!(!name.contains(FORBIDDEN_CHARACTERS) => STRUCTURE, "{name} has a forbidden character");

    let Some(Value::Object(properties)) = record.get("evtData") else {
        return Err(Refusal::because("evtData is not an object"));
    };
    let is_charged = compared == CHARGED;
    let has_amount = properties.get("Amount").is_some_and(Value::is_number);
    require!(!is_charged || has_amount => STRUCTURE, "Amount is not a number");
    check_keys(properties)?;
    for (key, value) in properties {
        match value {
            Value::Array(items) if is_charged && key == "Items" => check_items(items)?,
            _ => check_value(key, value)?,
        }
    }
    Ok(())
}

fn check_items(items: &[Value]) -> Result<(), Refusal> {
    require!(items.len() <= MAX_ITEMS => STRUCTURE, "Items has too many entries");
    for item in items {
        let Value::Object(properties) = item else {
            return Err(Refusal::because("an entry of Items is not an object"));
        };
        check_keys(properties)?;
        for (key, value) in properties {
            check_value(key, value)?;
        }
    }
    Ok(())
}

/// The keys of an event's or an item's properties: how many, how long, of which characters.
fn check_keys(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let count = properties.len();
    require!(count <= MAX_EVENT_PROPERTIES => TOO_MANY_PROPERTIES, "{count} properties");
    for key in properties.keys() {
        let length = key.chars().count();
        require!(length <= MAX_KEY_CHARACTERS => STRUCTURE, "the key {key} is too long");
        check_key(key)?;
    }
    check_distinct(properties)
}

fn check_profile(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["profileData"])?;
    let Some(Value::Object(properties)) = record.get("profileData") else {
        return Err(Refusal::because("profileData is not an object"));
    };
    let count = properties.len();
    require!(count <= MAX_PROFILE_PROPERTIES => STRUCTURE, "{count} properties");
    for (key, value) in properties {
        let compared = compared(key);
        let system_field = SYSTEM_FIELDS.iter().find(|(field, _)| *field == compared);
        let code = system_field.map_or(STRUCTURE, |(_, code)| *code);
        require!(system_field.is_none() => code, "{key} is a system field");
        require!(!compared.starts_with(CONSENT_PREFIX) => STRUCTURE, "{key} is a system field");
        require!(key.len() <= MAX_PROFILE_KEY_BYTES => STRUCTURE, "the key {key} is too long");
        let is_forbidden = key.contains(FORBIDDEN_IN_PROFILE_KEYS);
        require!(!is_forbidden => STRUCTURE, "the key {key} has a forbidden character");
        check_key(key)?;
        match value {
            Value::Object(operation) => check_operation(key, operation)?,
            _ => check_value(key, value)?,
        }
    }
    check_distinct(properties)
}

/// One operation on a profile property: `$add`, `$remove` or `$incr` (page `upload-user-profiles-api`).
fn check_operation(key: &str, operation: &Map<String, Value>) -> Result<(), Refusal> {
    let mut entries = operation.iter().map(|(operator, operand)| (operator.as_str(), operand));
    match (entries.next(), entries.next()) {
        (Some(("$incr", Value::Number(_))), None) => Ok(()),
        (Some(("$add" | "$remove", Value::Array(values))), None) => {
            let is_valid = (1..=MAX_OPERATION_VALUES).contains(&values.len());
            let is_valid = is_valid && values.iter().all(Value::is_string);
            require!(is_valid => STRUCTURE, "{key} has an operation without 1 to 100 texts");
            values.iter().try_for_each(|value| check_value(key, value))
        }
        _ => Err(Refusal::because(format!("{key} has an invalid operation"))),
    }
}

fn is_custom_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || CUSTOM_ID_SIGNS.contains(c);
    (1..=MAX_CUSTOM_ID_CHARACTERS).contains(&id.chars().count()) && id.chars().all(is_allowed)
}

/// A record has no keys but those of its type.
fn check_fields(record: &Map<String, Value>, own: &[&str]) -> Result<(), Refusal> {
    for key in record.keys() {
        let lists = [&IDENTITY_KEYS[..], &["type", "ts"], own];
        let is_known = lists.iter().any(|keys| keys.contains(&key.as_str()));
        require!(is_known => STRUCTURE, "{key} is not a key of this record");
    }
    Ok(())
}

/// What the keys of events and profiles have in common.
fn check_key(key: &str) -> Result<(), Refusal> {
    require!(!key.trim().is_empty() => STRUCTURE, "a key is empty");
    let is_forbidden = key.contains(FORBIDDEN_CHARACTERS);
    require!(!is_forbidden => STRUCTURE, "the key {key} has a forbidden character");
    Ok(())
}

/// Keys that differ only in surrounding white space would be one property.
fn check_distinct(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for key in properties.keys() {
        require!(seen.insert(key.trim()) => STRUCTURE, "the key {key} is there twice");
    }
    Ok(())
}

/// A flat value: text, boolean, number or date. null is undocumented, and so refused.
fn check_value(key: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => {
            require!(text.len() <= MAX_VALUE_BYTES => STRUCTURE, "the text of {key} is too long");
            let is_valid = text.strip_prefix(DATE_PREFIX).is_none_or(is_seconds);
            require!(is_valid => STRUCTURE, "the date of {key} is not in whole seconds");
            Ok(())
        }
        _ => Err(Refusal::because(format!("{key} is not a flat value"))),
    }
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

    /// A record, a pointer into it, the value that is put there (none: it is removed), and the code of the
    /// refusal (null: accepted).
    const CASES: &str = r##"[
        [523, "event", "/identity"],
        [523, "event", "/identity", ""],
        [523, "event", "/identity", 1842],
        [523, "event", "/objectId", "__h1"],
        [526, "profile", "/objectId", ""],
        [526, "profile", "/objectId", "__h"],
        [526, "profile", "/objectId", "__ha b"],
        [526, "profile", "/objectId", "-ha.b"],
        [526, "profile", "/objectId", "-hé"],
        [null, "profile", "/objectId", "-haZ09()!:@$_-"],
        [null, "profile", "/objectId", "__g1"],
        [524, "event", "/type"],
        [524, "event", "/type", "token"],
        [null, "event", "/ts"],
        [525, "event", "/ts", 0],
        [525, "event", "/ts", -1],
        [525, "event", "/ts", 1.5],
        [525, "event", "/ts", "1772439330"],
        [525, "event", "/ts", null],
        [525, "event", "/ts", 1772439330000],
        [509, "event", "/evtName"],
        [509, "event", "/evtName", ""],
        [512, "event", "/evtName", "Plan: yearly"],
        [513, "event", "/evtName", "App Launched"],
        [513, "event", "/evtName", "applaunched"],
        [513, "event", "/evtName", "WEB PAGEVIEWED"],
        [513, "event", "/evtName", "Wzrk_x"],
        [512, "event", "/evtData"],
        [512, "event", "/evtData", []],
        [512, "event", "/evtdata", {}],
        [512, "event", "/profileData", {}],
        [512, "profile", "/evtData", {}],
        [512, "event", "/evtData", { "": 1 }],
        [512, "event", "/evtData", { " ": 1 }],
        [512, "event", "/evtData", { "a.b": 1 }],
        [512, "event", "/evtData", { "a$": 1 }],
        [512, "event", "/evtData", { "it's": 1 }],
        [null, "event", "/evtData", { "#": 1 }],
        [512, "event", "/evtData", { "plan": "a", "plan ": "b" }],
        [512, "event", "/evtData/offer", { "id": 1 }],
        [512, "event", "/evtData/offers", ["a"]],
        [512, "event", "/evtData/Items", [{ "id": 1 }]],
        [512, "event", "/evtData/plan", null],
        [null, "event", "/evtData/at", "$D_1803975300"],
        [512, "event", "/evtData/at", "$D_"],
        [512, "event", "/evtData/at", "$D_soon"],
        [512, "event", "/evtData/at", "$D_-1"],
        [512, "event", "/evtData/at", "$D_+1"],
        [512, "event", "/evtData/at", "$D_1.5"],
        [512, "event", "/evtData/at", "$D_1803975300000"],
        [512, "charged", "/evtData/Amount"],
        [512, "charged", "/evtData/Amount", "9.99"],
        [512, "charged", "/evtData/Items", [1]],
        [512, "charged", "/evtData/Items", [{ "a": {} }]],
        [512, "profile", "/profileData"],
        [512, "profile", "/profileData", "yearly"],
        [512, "profile", "/profileData/plans", ["a"]],
        [512, "profile", "/profileData/plan", null],
        [512, "profile", "/profileData/Name", "Ada"],
        [515, "profile", "/profileData/email", "a@example.com"],
        [512, "profile", "/profileData/MSG-push", true],
        [512, "profile", "/profileData", { "plan#": 1 }],
        [512, "profile", "/profileData", { "a.b": 1 }],
        [512, "profile", "/profileData", { "": 1 }],
        [512, "profile", "/profileData", { "plan": "a", "plan ": "b" }],
        [512, "profile", "/profileData/plans", {}],
        [512, "profile", "/profileData/plans", { "$add": [] }],
        [512, "profile", "/profileData/plans", { "$add": "a" }],
        [512, "profile", "/profileData/plans", { "$add": [1] }],
        [512, "profile", "/profileData/plans", { "$set": ["a"] }],
        [512, "profile", "/profileData/plans", { "$add": ["a"], "$remove": ["b"] }],
        [null, "profile", "/profileData/renewals", { "$incr": 1 }],
        [512, "profile", "/profileData/renewals", { "$incr": "1" }]
    ]"##;

    #[test]
    fn refuses_what_the_documentation_does_not_allow() {
        let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
        for case in cases {
            let name = case[1].as_str().unwrap();
            let record = with(name, case[2].as_str().unwrap(), case.get(3).cloned());
            assert_eq!(json!(code(&record)), case[0], "{case}");
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
        for refused in [
            body(0),
            body(1001),
            json!({ "d": [1] }),
            json!({ "d": [{}], "e": 1 }),
            json!([{}]),
        ] {
            assert_eq!(count(refused), None);
        }
        assert_eq!(records(b"{"), None);
    }

    #[test]
    fn words_refusals_as_recorded() {
        let worded = |code| Refusal::new(code).into_answer(2, Map::new())["error"].clone();
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
        check(record.as_object().unwrap()).err().map(|refusal| refusal.code)
    }
}
