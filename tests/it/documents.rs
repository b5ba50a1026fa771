//! Writes the tables of the documentation from the code and the template, and checks the pages' links.
//! It does not know what a page says in its own words: a cell without a source in the code stays as it is written.

use crate::template::{of_type, template};
use purchasely_clevertap::clevertap::REGIONS;
use purchasely_clevertap::config::VARIABLES;
use purchasely_clevertap::mapping::profile::{DEFAULT_PROPERTIES, Plans, Written, effect};
use purchasely_clevertap::mapping::{Fate, Ignored, Unmappable};
use purchasely_clevertap::outcome::{Failure, Outcome, Permanent};
use purchasely_clevertap::purchasely::catalogue::{Category, EVENTS, FIELDS, Kind, MONEY_PREFIXES};
use purchasely_clevertap::purchasely::signature::Refusal;
use purchasely_clevertap::purchasely::{Event, Unreadable, Verified};
use purchasely_clevertap::telemetry::METRICS;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const PAGES: [&str; 6] = [
    "README.md",
    "docs/architecture.md",
    "docs/deploy.md",
    "docs/mapping.md",
    "docs/operations.md",
    "docs/settings.md",
];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[track_caller]
fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A generated table. Columns beyond the cells of a row are written by hand and stay with the row's first cell.
struct Table {
    header: &'static str,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn render(&self, written: &str) -> String {
        let columns = cells(self.header).len();
        let by_hand: BTreeMap<_, _> = written
            .lines()
            .map(cells)
            .map(|row| (row[0].clone(), row))
            .collect();
        let mut text = format!("{}\n|{}\n", self.header, "---|".repeat(columns));
        for row in &self.rows {
            let written = by_hand.get(&row[0]);
            let rest = (row.len()..columns).map(|column| {
                written
                    .and_then(|row| row.get(column))
                    .map_or("", String::as_str)
            });
            let row: Vec<_> = row.iter().map(String::as_str).chain(rest).collect();
            text += &format!("| {} |\n", row.join(" | "));
        }
        text
    }
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    let line = line.replace("\\|", "\u{0}");
    line.split('|')
        .map(|cell| cell.trim().replace('\u{0}', "\\|"))
        .collect()
}

#[test]
fn the_generated_tables_are_up_to_date() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut tables = tables();
    let mut problems = Vec::new();
    for page in PAGES {
        let text = read(page);
        let mut parts = text.split("<!-- generated: ");
        let mut fresh = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(" -->\n").expect("a name");
            let (written, rest) = rest.split_once("<!-- end -->").expect("an end");
            let table = tables
                .remove(name)
                .unwrap_or_else(|| panic!("{page}: no table {name}"));
            let table = table.render(written);
            let empty = table.lines().filter(|line| line.contains("|  |"));
            problems.extend(empty.map(|line| format!("{page}: describe {line}")));
            fresh += &format!("<!-- generated: {name} -->\n{table}<!-- end -->{rest}");
        }
        if update {
            std::fs::write(path(page), &fresh).unwrap();
        } else if fresh != text {
            problems.push(format!("{page} is stale: run `make docs`"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(tables.is_empty(), "on no page: {:?}", tables.keys());
}

fn tables() -> BTreeMap<&'static str, Table> {
    let table = |name, header, rows| (name, Table { header, rows });
    BTreeMap::from([
        table(
            "settings",
            "| variable | parameter | default | meaning |",
            settings(),
        ),
        table(
            "parameters",
            "| parameter | default | meaning |",
            parameters(),
        ),
        table("outputs", "| output | meaning |", outputs()),
        table("alarms", "| alarm | description | more |", alarms()),
        table("regions", "| region | code | host |", regions()),
        table("metrics", "| metric | unit | meaning |", metrics()),
        table(
            "answers",
            "| word | HTTP status | metric | when |",
            answers(),
        ),
        table(
            "reasons",
            "| reason | answer | class | level | cause | action |",
            reasons(),
        ),
        table("adjustments", "| outcome | meaning |", adjustments()),
        table("events", "| category | events |", events()),
        table("fields", "| type | fields |", fields()),
        table(
            "profile-properties",
            "| profile property | type | value |",
            profile_properties(),
        ),
        table(
            "profile-rules",
            "| row | event | has_active_subscription | others | active_plans | condition |",
            profile_rules(),
        ),
        table("revenue", "| property | value |", revenue()),
        table("source", "| file | what it does |", source()),
    ])
}

fn code(text: impl AsRef<str>) -> String {
    format!("`{}`", text.as_ref())
}

fn list<'t>(words: impl IntoIterator<Item = &'t str>) -> String {
    words.into_iter().map(code).collect::<Vec<_>>().join(", ")
}

/// The variables of the function in the template, with the parameter that each is set to.
fn variables() -> BTreeMap<String, String> {
    let (_, function) = of_type("AWS::Serverless::Function").remove(0);
    let variables = function["Environment"]["Variables"].as_object().unwrap();
    let parameter = |value: &Value| value["Ref"].as_str().unwrap_or_default().to_owned();
    variables
        .iter()
        .map(|(name, value)| (name.clone(), parameter(value)))
        .collect()
}

fn settings() -> Vec<Vec<String>> {
    let mut set = variables();
    let row = |(name, default): &(&str, &str)| {
        let parameter = set.remove(*name).unwrap_or_default();
        let words = parameter.is_empty() || name.replace('_', "") == parameter.to_uppercase();
        assert!(words, "{name} and {parameter} differ");
        let parameter = if parameter.is_empty() {
            "–".to_owned()
        } else {
            code(parameter)
        };
        vec![code(name), parameter, code(default)]
    };
    let rows = VARIABLES.iter().map(row).collect();
    assert!(
        set.is_empty(),
        "the function does not read {:?}",
        set.keys()
    );
    rows
}

fn parameters() -> Vec<Vec<String>> {
    let set: BTreeSet<_> = variables().into_values().collect();
    let parameters = template()["Parameters"].take();
    let others = parameters
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !set.contains(*name));
    let row = |(name, parameter): (&String, &Value)| {
        let default = match parameter.get("Default") {
            None => "must be set".to_owned(),
            Some(Value::String(text)) if text.is_empty() => "not set".to_owned(),
            Some(Value::String(text)) => code(text),
            Some(value) => code(value.to_string()),
        };
        vec![
            code(name),
            default,
            parameter["Description"].as_str().unwrap().to_owned(),
        ]
    };
    others.map(row).collect()
}

fn outputs() -> Vec<Vec<String>> {
    let outputs = template()["Outputs"].take();
    let row = |(name, output): (&String, &Value)| {
        vec![
            code(name),
            output["Description"].as_str().unwrap().to_owned(),
        ]
    };
    outputs.as_object().unwrap().iter().map(row).collect()
}

fn alarms() -> Vec<Vec<String>> {
    let row = |(_, alarm): (String, Value)| {
        let name = alarm["AlarmName"]["Fn::Sub"].as_str().unwrap();
        let name = name.trim_start_matches("${AWS::StackName}-");
        vec![
            code(name),
            alarm["AlarmDescription"].as_str().unwrap().to_owned(),
        ]
    };
    of_type("AWS::CloudWatch::Alarm")
        .into_iter()
        .map(row)
        .collect()
}

fn regions() -> Vec<Vec<String>> {
    let rows = REGIONS.iter();
    rows.map(|region| vec![region.name.to_owned(), code(region.code), code(region.host)])
        .collect()
}

fn metrics() -> Vec<Vec<String>> {
    METRICS
        .iter()
        .map(|(name, unit)| vec![code(name), (*unit).to_owned()])
        .collect()
}

/// A value of each variant. A new variant does not compile until it is listed.
macro_rules! each {
    ($type:ident: $($variant:ident $(($value:expr))?),+) => {{
        let _ = |value: $type| match value { $($type::$variant { .. } => {}),+ };
        [$($type::$variant $(($value))?),+]
    }};
}

fn outcomes() -> Vec<Outcome> {
    let unreadable = each!(Unreadable: NotJson, NotAnObject, VersionTwo, NoName);
    let unmappable = each!(Unmappable: NoIdentity, IdentityTooLong, UnusableName, UnfitChargedId);
    let [_, _, refused] = each!(Permanent: Unreadable(Unreadable::NotJson), Unmappable(Unmappable::NoIdentity), Refused(513));
    let permanent = unreadable.map(Permanent::Unreadable).into_iter();
    let permanent = permanent
        .chain(unmappable.map(Permanent::Unmappable))
        .chain([refused]);
    let ignored = each!(Ignored: EventDisabled, Sandbox, Anonymous);
    let unauthorized = each!(Refusal: Missing, Deprecated, Doubled, Malformed, Wrong, TooOld);
    let failed = each!(Failure: NotKept(refused), NotAccepted(401), NoSandboxPasscode, SecretUnavailable, InProgress, Held,
        Busy(429), Unreachable, ConnectionLost, TimedOut, NotUnderstood(200), Panicked, UnknownInvocation);
    let all = each!(Outcome: Relayed, Duplicate, DeadLettered(refused), DryRun, Ignored(ignored[0]),
        Unauthorized(unauthorized[0]), MethodNotAllowed, PayloadTooLarge, Failed(failed[1]));
    let of_all = all.into_iter().flat_map(move |outcome| match outcome {
        Outcome::DeadLettered(_) => permanent.clone().map(Outcome::DeadLettered).collect(),
        Outcome::Ignored(_) => ignored.map(Outcome::Ignored).to_vec(),
        Outcome::Unauthorized(_) => unauthorized.map(Outcome::Unauthorized).to_vec(),
        Outcome::Failed(_) => failed[1..].iter().copied().map(Outcome::Failed).collect(),
        outcome => vec![outcome],
    });
    of_all.collect()
}

fn answers() -> Vec<Vec<String>> {
    let rows = outcomes().into_iter().map(|outcome| outcome.row());
    let mut rows: Vec<_> = rows
        .map(|row| {
            vec![
                code(row.word),
                row.http_status.to_string(),
                code(row.metric),
            ]
        })
        .collect();
    rows.dedup();
    rows
}

fn reasons() -> Vec<Vec<String>> {
    let rows = outcomes().into_iter().map(|outcome| outcome.row());
    rows.filter_map(|row| {
        let class = row.class.map_or("–".to_owned(), |class| code(class.name()));
        let level = format!("{:?}", row.severity).to_uppercase();
        Some(vec![code(row.reason?), code(row.word), class, code(level)])
    })
    .collect()
}

fn adjustments() -> Vec<Vec<String>> {
    let name = || "name".into();
    let outcomes = each!(Fate: Sent(name()), SentAsDate(name()), Fitted(name()), Twin, Sensitive, Omitted, Unknown, Empty,
        WrongType, UnusableName, Collision(name()), OverLimit, NoAmount);
    let adjustments = outcomes.iter().filter(|outcome| outcome.is_adjustment());
    adjustments
        .map(|outcome| vec![code(outcome.code())])
        .collect()
}

fn events() -> Vec<Vec<String>> {
    let row = |category: Category| {
        let names = EVENTS
            .iter()
            .filter(|(_, of)| *of == category)
            .map(|(name, _)| *name);
        vec![format!("{category:?}").to_lowercase(), list(names)]
    };
    each!(Category: Entitlement, Lifecycle, Offer, Transactional)
        .map(row)
        .to_vec()
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "integer",
        Kind::Decimal => "decimal",
        Kind::Boolean => "boolean",
        Kind::Time => "date",
        Kind::Texts => "object of texts",
        Kind::Unspecified => "not documented",
    }
}

fn fields() -> Vec<Vec<String>> {
    let row = |kind: Kind| {
        let named = FIELDS
            .iter()
            .filter(|(_, of)| *of == kind)
            .map(|(name, _)| (*name).to_owned());
        let patterns = match kind {
            Kind::Decimal => MONEY_PREFIXES
                .iter()
                .map(|prefix| format!("{prefix}<currency>"))
                .collect(),
            Kind::Unspecified => vec!["commitment_<name>".to_owned()],
            _ => Vec::new(),
        };
        let names: Vec<_> = named.chain(patterns).collect();
        vec![
            type_name(kind).to_owned(),
            list(names.iter().map(String::as_str)),
        ]
    };
    each!(Kind: Text, Integer, Decimal, Boolean, Time, Texts, Unspecified)
        .map(row)
        .to_vec()
}

fn profile_properties() -> Vec<Vec<String>> {
    use purchasely_clevertap::mapping::profile::{
        ACTIVE_PLANS, HAS_ACTIVE_SUBSCRIPTION, SUBSCRIPTION_STARTED_AT,
    };
    use purchasely_clevertap::purchasely::catalogue::kind;
    let row = |name: &&str| {
        let kind = match *name {
            HAS_ACTIVE_SUBSCRIPTION => "boolean",
            ACTIVE_PLANS => "multi-value text",
            SUBSCRIPTION_STARTED_AT => "date",
            field => type_name(kind(field).expect("a documented field")),
        };
        vec![code(name), kind.to_owned()]
    };
    DEFAULT_PROPERTIES.iter().map(row).collect()
}

/// What each row of the profile rules does for an active, an inactive and an unknown status.
fn profile_rules() -> Vec<Vec<String>> {
    let statuses = ["AUTO_RENEWING", "CANCELED", "ON_HOLD", ""];
    let mut rows: BTreeMap<u8, (Vec<&str>, [Vec<&str>; 3])> = BTreeMap::new();
    for (name, status) in EVENTS
        .iter()
        .flat_map(|(name, _)| statuses.map(|status| (*name, status)))
    {
        let body =
            format!(r#"{{"event_name":"{name}","user_id":"u","subscription_status":"{status}"}}"#);
        let effect = effect(&Event::parse(Verified::unsigned(body.as_bytes())).unwrap());
        let (names, cells) = rows.entry(effect.row).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
        let active = effect
            .active
            .map_or("–", |active| if active { "`true`" } else { "`false`" });
        let written = match effect.written {
            Written::All => "all",
            Written::Status => "only `subscription_status`",
            Written::Nothing => "–",
        };
        let plans = match effect.plans {
            Plans::Add => "plan added",
            Plans::Remove => "plan removed",
            Plans::Keep => "–",
        };
        for (cell, value) in cells.iter_mut().zip([active, written, plans]) {
            cell.push(value);
        }
    }
    let by_status = |values: Vec<&str>| {
        if values.iter().all(|value| *value == values[0]) {
            return values[0].to_owned();
        }
        let (active, inactive, unknown) = (values[0], values[1], values[values.len().min(4) - 1]);
        format!("active: {active}; inactive: {inactive}; unknown: {unknown}")
    };
    rows.into_iter()
        .map(|(row, (names, cells))| {
            let facts = cells.map(|values| by_status(values));
            [row.to_string(), list(names)]
                .into_iter()
                .chain(facts)
                .collect()
        })
        .collect()
}

fn revenue() -> Vec<Vec<String>> {
    let upload: Value =
        serde_json::from_str(&read("tests/golden/TRANSACTION_PROCESSED.json")).unwrap();
    let mut records = upload["d"].as_array().unwrap().iter();
    let charged = records
        .find(|record| record["evtName"] == "Charged")
        .unwrap();
    charged["evtData"]
        .as_object()
        .unwrap()
        .keys()
        .map(|name| vec![code(name)])
        .collect()
}

fn source() -> Vec<Vec<String>> {
    let entries = std::fs::read_dir(path("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let parts = entries.filter(|path| path.is_file() || !path.with_extension("rs").exists());
    let names: BTreeSet<_> = parts
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            format!("src/{name}{}", if path.is_dir() { "/" } else { "" })
        })
        .collect();
    let names = names.into_iter().filter(|name| name != "src/lib.rs");
    names.map(|name| vec![code(name)]).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let anchors = |page: &str| -> BTreeSet<String> {
        let text = read(page);
        let prose: String = text.split("```").step_by(2).collect();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let letters = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            letters.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    };
    for page in PAGES {
        for link in read(page).split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("a closing bracket");
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.starts_with("http") {
                continue;
            }
            let folder = if file.starts_with("../") {
                ""
            } else {
                page.rsplit_once('/').map_or("", |(folder, _)| folder)
            };
            let file = match file {
                "" => page.to_owned(),
                file => path(folder)
                    .join(file.trim_start_matches("../"))
                    .display()
                    .to_string(),
            };
            assert!(path(&file).exists(), "{page}: {target}");
            assert!(
                anchor.is_empty() || anchors(&file).contains(anchor),
                "{page}: {target}"
            );
        }
    }
}
