//! What is written for people, and the template, held against the code.

use testkit::moto::Resources;
use testkit::clevertap::Reply;
use crate::template::Template;
use testkit::harness::World;
use purchasely_clevertap::aws::claims;
use purchasely_clevertap::clevertap::REGIONS;
use purchasely_clevertap::config::SETTINGS;
use purchasely_clevertap::mapping::{Ignored, Unmappable};
use purchasely_clevertap::outcome::{Class, Failure, Outcome, Permanent};
use purchasely_clevertap::purchasely::Unreadable;
use purchasely_clevertap::purchasely::catalogue::{Category, EVENTS};
use purchasely_clevertap::purchasely::signature::InvalidSignature;
use purchasely_clevertap::telemetry::METRICS;
use std::collections::BTreeSet;
use std::path::Path;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

const PAGES: [&str; 4] = [
    "README.md",
    "docs/architecture.md",
    "docs/mapping.md",
    "docs/operations.md",
];

/// The rows of the one table with this header, each as its cells.
#[track_caller]
fn table(header: &str) -> Vec<Vec<String>> {
    let pages = PAGES.map(read).join("\n");
    assert_eq!(
        pages.lines().filter(|line| *line == header).count(),
        1,
        "{header}"
    );
    let rows: Vec<_> = pages
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "the table {header} is empty");
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// One outcome of every kind.
fn outcomes() -> Vec<Outcome> {
    let mut outcomes = vec![
        Outcome::Relayed,
        Outcome::Duplicate,
        Outcome::DeadLettered(Permanent::Refused(513)),
        Outcome::DryRun,
        Outcome::MethodNotAllowed,
        Outcome::PayloadTooLarge,
    ];
    let ignored = [Ignored::EventDisabled, Ignored::Sandbox, Ignored::Anonymous];
    outcomes.extend(ignored.map(Outcome::Ignored));
    let refusals = [
        InvalidSignature::Missing,
        InvalidSignature::Deprecated,
        InvalidSignature::Repeated,
        InvalidSignature::Malformed,
        InvalidSignature::Mismatch,
        InvalidSignature::OutsideTolerance,
    ];
    outcomes.extend(refusals.map(Outcome::Unauthorized));
    let failures = [
        Failure::NotKept(Permanent::Unreadable(Unreadable::NotJson)),
        Failure::NotKept(Permanent::Unreadable(Unreadable::NotAnObject)),
        Failure::NotKept(Permanent::Unreadable(Unreadable::VersionTwo)),
        Failure::NotKept(Permanent::Unreadable(Unreadable::NoEventName)),
        Failure::NotKept(Permanent::Unmappable(Unmappable::NoIdentity)),
        Failure::NotKept(Permanent::Unmappable(Unmappable::IdentityTooLong)),
        Failure::NotKept(Permanent::Unmappable(Unmappable::UnusableName)),
        Failure::NotKept(Permanent::Unmappable(Unmappable::UnfitChargedId)),
        Failure::NoSandboxPasscode,
        Failure::NotKept(Permanent::Refused(513)),
        Failure::InProgress,
        Failure::Held,
        Failure::NotAccepted(401),
        Failure::SecretUnavailable,
        Failure::Busy(429),
        Failure::Unreachable,
        Failure::ConnectionLost,
        Failure::TimedOut,
        Failure::NotUnderstood(200),
        Failure::Panicked,
        Failure::UnknownInvocation,
    ];
    outcomes.extend(failures.map(Outcome::Failed));
    outcomes
}

/// A heading as the anchor that links to it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars();
    kept.filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| {
            if c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let anchors = |page: &str| -> BTreeSet<String> {
        let text = read(page);
        let prose: String = text.split("```").step_by(2).collect();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(anchor).collect()
    };
    for page in PAGES {
        let text = read(page);
        let folder = Path::new(page).parent().unwrap();
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("a closing bracket");
            if target.starts_with("http") {
                continue;
            }
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.to_owned(),
                "../README.md" => "README.md".to_owned(),
                other => folder.join(other).display().to_string(),
            };
            let text = read(&file);
            assert!(!text.is_empty(), "{page}: {target}");
            assert!(
                wanted.is_empty() || anchors(&file).contains(wanted),
                "{page}: {target}"
            );
        }
    }
}

/// What the rows of a table name in their first cell.
#[track_caller]
fn named_in(header: &str) -> BTreeSet<String> {
    table(header)
        .iter()
        .flat_map(|row| quoted(&row[0]))
        .collect()
}

#[test]
fn the_documents_explain_every_property_of_the_revenue_event() {
    let upload: serde_json::Value =
        serde_json::from_str(&read("tests/golden/TRANSACTION_PROCESSED.json")).unwrap();
    let records = upload["d"].as_array().unwrap().iter();
    let sent: BTreeSet<_> = records
        .filter(|record| record["evtName"] == "Charged")
        .flat_map(|record| record["evtData"].as_object().unwrap().keys().cloned())
        .collect();
    assert_eq!(named_in("| property | holds |"), sent);
}

#[tokio::test]
async fn the_documents_explain_every_field_of_the_line_and_every_attribute_of_a_dead_letter() {
    let resources = Resources::make().await;
    let world = World::start(&resources.settings()).await;
    let refused = serde_json::json!({
        "event_name": "TRANSACTION_PROCESSED",
        "event_id": "e-1",
        "user_id": "u-1842",
        "presentation": "x".repeat(600),
    });
    world.clevertap.script([Reply::RefuseRecord {
        number: 1,
        code: 513,
    }]);
    world.post(refused.to_string().as_bytes()).await;
    world.post(b"\x00").await;

    let mut written = BTreeSet::new();
    for line in world.function.log() {
        let line: serde_json::Map<_, _> = serde_json::from_str(&line).unwrap();
        if line.contains_key("outcome") {
            written.extend(line.keys().cloned());
        }
    }
    let explained = named_in("| field | meaning |");
    let metrics: BTreeSet<_> = METRICS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unexplained: Vec<_> = written
        .iter()
        .filter(|field| !explained.contains(*field))
        .collect();
    assert!(
        unexplained.iter().all(|field| metrics.contains(*field)),
        "{unexplained:?}"
    );
    for field in ["outcome", "reason", "clevertap_status", "adjusted"] {
        assert!(written.contains(field), "{field}");
    }

    let explained = named_in("| in a dead letter | what it is |");
    let letters = resources.letters().await;
    let kept: BTreeSet<_> = letters
        .iter()
        .flat_map(|letter| letter["attributes"].as_object().unwrap().keys().cloned())
        .collect();
    assert!(kept.is_subset(&explained), "{kept:?}");
    assert!(
        ["reason", "code", "event_id", "encoding"]
            .iter()
            .all(|name| kept.contains(*name)),
        "{kept:?}"
    );
}

#[test]
fn the_documents_name_every_part_of_the_source() {
    let named = named_in("| file | what it knows |");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let parts: BTreeSet<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() || !path.with_extension("rs").exists())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            format!("src/{name}{}", if path.is_dir() { "/" } else { "" })
        })
        .filter(|name| name != "src/lib.rs")
        .collect();
    assert_eq!(named, parts);
}

#[test]
fn the_documents_list_every_metric_with_its_unit() {
    let told: Vec<_> = table("| metric | unit | what it tells |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let known: Vec<_> = METRICS
        .iter()
        .map(|(name, unit)| (format!("`{name}`"), (*unit).to_owned()))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_documents_list_every_alarm() {
    let told: BTreeSet<_> = table("| alarm | when | what to do |")
        .into_iter()
        .map(|row| format!("{}Alarm", row[0].trim_matches('`')))
        .collect();
    let resources = Template::with(&[]).resources().into_iter();
    let known: BTreeSet<_> = resources
        .filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(told, known);
}

#[test]
fn each_outcome_has_a_metric_and_each_failure_its_class() {
    let told = table("| class | who must act | reasons |");
    let counted: BTreeSet<_> = METRICS[..8].iter().map(|(name, _)| *name).collect();
    for row in outcomes().iter().map(Outcome::row) {
        assert!(counted.contains(row.metric), "{row:?}");
        assert_eq!(row.class.is_some(), row.metric == "Failed", "{row:?}");
        let (Some(class), Some(reason)) = (row.class, row.reason) else {
            continue;
        };
        let named = told
            .iter()
            .find(|cells| cells[0] == format!("`{}`", class.name()))
            .unwrap_or_else(|| panic!("no class {}", class.name()));
        let listed = quoted(&named[2]).iter().any(|listed| listed == reason);
        assert_eq!(listed, class != Class::Event, "{row:?}");
    }
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let told: Vec<_> = table("| variable | default | meaning |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let known: Vec<_> = SETTINGS
        .iter()
        .map(|setting| {
            (
                format!("`{}`", setting.name),
                format!("`{}`", setting.default),
            )
        })
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_readme_lists_every_region() {
    let told = table("| region | code | host |");
    let known: Vec<_> = REGIONS
        .iter()
        .map(|region| {
            let (code, host) = (format!("`{}`", region.code), format!("`{}`", region.host));
            vec![region.name.to_owned(), code, host]
        })
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_readme_lists_every_answer_and_every_reason() {
    let told: BTreeSet<_> = table("| HTTP status | word | when |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let rows: Vec<_> = outcomes().iter().map(Outcome::row).collect();
    let known: BTreeSet<_> = rows
        .iter()
        .map(|row| (row.http_status.to_string(), format!("`{}`", row.word)))
        .collect();
    assert_eq!(told, known);

    let told: Vec<_> = table("| reason | what happened | what to do |");
    let listed: BTreeSet<_> = told.iter().flat_map(|row| quoted(&row[0])).collect();
    let known: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.reason)
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_readme_lists_every_event_in_its_category() {
    let told = table("| category | events |");
    for (category, word) in [
        (Category::Entitlement, "entitlement"),
        (Category::Lifecycle, "lifecycle"),
        (Category::Offer, "offer"),
        (Category::Transactional, "transactional"),
    ] {
        let row = told.iter().find(|row| row[0] == word).expect(word);
        let listed: BTreeSet<_> = quoted(&row[1]).into_iter().collect();
        let known: BTreeSet<_> = EVENTS
            .iter()
            .filter(|(_, of)| *of == category)
            .map(|(name, _)| (*name).to_owned())
            .collect();
        assert_eq!(listed, known, "{word}");
    }
}

/// The function's environment in the template: each variable and what it is set to.
fn template_environment(template: &str) -> Vec<(String, String)> {
    let indent = " ".repeat(10);
    template
        .lines()
        .skip_while(|line| line.trim() != "Variables:")
        .skip(1)
        .take_while(|line| line.starts_with(&indent))
        .map(|line| {
            let (name, value) = line.trim().split_once(": ").expect("a variable");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn the_template_sets_every_variable_by_a_parameter_of_its_name() {
    let template = read("template.yaml");
    let environment = template_environment(&template);
    let set: BTreeSet<_> = environment.iter().map(|(name, _)| name.as_str()).collect();
    // A file of certificates has no place in a deployment whose only file is the function.
    let known: BTreeSet<_> = SETTINGS
        .iter()
        .map(|setting| setting.name)
        .filter(|name| *name != "SSL_CERT_FILE")
        .collect();
    assert_eq!(set, known);
    for (name, value) in environment {
        let resource = match name.as_str() {
            "SECRET_ID" => Some("!If [CreateSecret, !Ref Secret, !Ref SecretArn]"),
            "EVENT_QUEUE_URL" => Some(r#"!If [CreateQueues, !Ref EventQueue, ""]"#),
            "DEAD_LETTER_QUEUE_URL" => Some(r#"!If [CreateQueues, !Ref DeadLetterQueue, ""]"#),
            "DEDUPLICATION_TABLE" => Some(r#"!If [CreateQueues, !Ref ClaimsTable, ""]"#),
            _ => None,
        };
        if let Some(resource) = resource {
            assert_eq!(value, resource, "{name}");
            continue;
        }
        let parameter: String = name
            .split('_')
            .map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()))
            .collect();
        assert_eq!(value, format!("!Ref {parameter}"), "{name}");
        assert!(
            template.contains(&format!("\n  {parameter}:\n")),
            "{parameter}"
        );
    }
}

/// A resource of the template, as its text.
#[track_caller]
fn resource(name: &str) -> String {
    let template = read("template.yaml");
    let heading = format!("  {name}:");
    let lines: Vec<_> = template
        .lines()
        .skip_while(|line| *line != "Resources:")
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("   "))
        .map(str::trim)
        .collect();
    assert!(!lines.is_empty(), "the template has no resource {name}");
    lines.join("\n")
}

/// The number that a key has in a resource's text.
#[track_caller]
fn number(resource: &str, key: &str) -> u64 {
    let mut words = resource.split([' ', '\n']);
    words.find(|word| *word == key).expect(key);
    words.next().unwrap().parse().expect(key)
}

#[test]
fn each_stage_ends_before_the_one_that_waits_for_it() {
    let function = resource("Function");
    let work = purchasely_clevertap::relay::WORK.as_millis();
    let lambda = u128::from(number(&function, "Timeout:")) * 1000;
    let gateway = u128::from(number(&function, "TimeoutInMillis:"));
    assert!(work < lambda && lambda < gateway && gateway < 10_000);
}

#[test]
fn the_templates_queues_keep_what_the_code_relies_on() {
    let function = resource("Function");
    let fourteen_days = 14 * 24 * 60 * 60;
    let [events, dead_letters] = ["EventQueue", "DeadLetterQueue"].map(resource);
    for queue in [&events, &dead_letters] {
        for property in [
            "FifoQueue: true",
            "ContentBasedDeduplication: false",
            "DeduplicationScope: messageGroup",
            "FifoThroughputLimit: perMessageGroupId",
            "SqsManagedSseEnabled: true",
        ] {
            assert!(queue.lines().any(|line| line == property), "{property}");
        }
        assert_eq!(number(queue, "MessageRetentionPeriod:"), fourteen_days);
    }
    // Lambda asks for six times the timeout; a claim in progress lasts 10 s.
    let visibility = number(&events, "VisibilityTimeout:");
    assert!(visibility >= 6 * number(&function, "Timeout:") && visibility > 10);
    assert!(events.contains("deadLetterTargetArn: !GetAtt DeadLetterQueue.Arn"));
    // SQS takes no more tries, and a message must not expire before the last of them.
    let tries = number(&events, "maxReceiveCount:");
    let longest_wait = 20 * 60 + number(&function, "Timeout:");
    assert!(tries <= 1000 && tries * longest_wait < fourteen_days);

    let mapping = resource("EventQueueMapping");
    assert!(mapping.contains("EventSourceArn: !GetAtt EventQueue.Arn"));
    assert!(mapping.contains("FunctionResponseTypes: [ReportBatchItemFailures]"));
    assert!(number(&mapping, "BatchSize:") <= 10);
    assert!((2..=1000).contains(&number(&mapping, "MaximumConcurrency:")));
}

#[test]
fn the_templates_table_has_the_keys_that_claims_are_written_with() {
    let table = resource("ClaimsTable");
    for text in [
        format!("AttributeName: {}, AttributeType: S", claims::KEY),
        format!("AttributeName: {}, KeyType: HASH", claims::KEY),
        format!("AttributeName: {}, Enabled: true", claims::EXPIRES_AT),
    ] {
        assert!(table.contains(&text), "{text}");
    }
}

#[test]
fn the_template_makes_all_of_the_queues_and_the_table_or_none() {
    for name in [
        "DeadLetterQueue",
        "DeadLetterQueuePolicy",
        "EventQueue",
        "EventQueuePolicy",
        "EventQueueMapping",
        "ClaimsTable",
    ] {
        assert!(
            resource(name).contains("Condition: CreateQueues\n"),
            "{name}"
        );
    }
}

#[test]
fn the_readmes_make_targets_exist() {
    let makefile = read("Makefile");
    let readme = read("README.md");
    let named: BTreeSet<_> = readme
        .match_indices("make ")
        .filter(|(at, _)| matches!(readme.as_bytes()[at.saturating_sub(1)], b'`' | b'\n'))
        .map(|(at, _)| {
            let rest = &readme[at + 5..];
            rest.split(|c: char| !c.is_ascii_lowercase())
                .next()
                .unwrap()
        })
        .collect();
    assert!(named.contains("demo") && named.contains("test"));
    for target in named {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}

#[test]
fn the_profile_table_has_each_event_in_its_row() {
    use purchasely_clevertap::mapping::profile::{DEFAULT_PROPERTIES, Plans, Written, effect};
    use purchasely_clevertap::purchasely::{Event, Verified};
    let rows = table("| row | event | has_active_subscription | other properties | active_plans |");
    assert_eq!(
        rows.iter().map(|r| r[0].clone()).collect::<Vec<_>>(),
        (1..=10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    for (name, _) in EVENTS {
        let in_rows: BTreeSet<String> = rows
            .iter()
            .filter(|r| quoted(&r[1]).iter().any(|q| q == name))
            .map(|r| r[0].clone())
            .collect();
        let mut coded = BTreeSet::new();
        for status in [
            "",
            "AUTO_RENEWING",
            "AUTO_RENEWING_CANCELED",
            "AUTO_RENEWING_CANCELLED",
            "IN_GRACE_PERIOD",
            "ON_HOLD",
            "PAUSED",
            "UNPAID",
            "REVOKED",
            "DEACTIVATED",
            "CANCELED",
            "X",
        ] {
            let body = format!(
                r#"{{"event_name":"{name}","user_id":"u","purchase_type":"RENEWING_SUBSCRIPTION","subscription_status":"{status}"}}"#
            );
            let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
            let e = effect(&event);
            coded.insert(e.row.to_string());
            let row = &rows[usize::from(e.row) - 1];
            let kind = if status.contains("AUTO") || status == "IN_GRACE_PERIOD" {
                "active"
            } else if ["", "X"].contains(&status) {
                "unknown"
            } else {
                "inactive"
            };
            let pick = |cell: &str| -> String {
                if !cell.starts_with("status ") {
                    return cell.trim_matches('`').to_owned();
                }
                let cell = &cell["status ".len()..];
                for part in cell.split("; ") {
                    if part == "else –" {
                        return "–".into();
                    }
                    let (kinds, value) = part.split_once(": ").unwrap();
                    if kinds.split(" or ").any(|k| k == kind) {
                        return value.trim_matches('`').to_owned();
                    }
                }
                panic!("{cell} {kind}")
            };
            let active = match e.active {
                Some(true) => "true",
                Some(false) => "false",
                None => "–",
            };
            let written = match e.written {
                Written::All => "all",
                Written::Status => "subscription_status` only",
                Written::Nothing => "–",
            };
            let plans = match e.plans {
                Plans::Add => "plan added",
                Plans::Remove => "plan removed",
                Plans::Keep => "–",
            };
            assert_eq!(
                (
                    pick(&row[2]).as_str(),
                    pick(&row[3]).as_str(),
                    pick(&row[4]).as_str()
                ),
                (active, written, plans),
                "{name} {status}"
            );
        }
        assert_eq!(in_rows, coded, "{name}");
    }
    let told: Vec<String> = table("| profile property | type | holds |")
        .iter()
        .flat_map(|r| quoted(&r[0]))
        .collect();
    assert_eq!(told, DEFAULT_PROPERTIES);
}
