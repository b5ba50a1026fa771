//! Writes the generated tables of the documentation, and checks the pages' links. It does not know what a page says in
//! its own words: a cell that has no source in the code stays as it is written.

mod tables;

use crate::start;
use crate::template::template;
use crate::tidy::{code, files};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tables::{costs, tables};
use testkit::harness::{World, answered};
use testkit::sockets::resources::Resources;
use testkit::sockets::servers::aws_service;
use testkit::world::clevertap::Reply;

const PAGES: [&str; 13] = [
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/app.md",
    "docs/architecture.md",
    "docs/costs.md",
    "docs/deploy.md",
    "docs/mapping.md",
    "docs/operations.md",
    "docs/reference.md",
    "docs/settings.md",
    "docs/threat-model.md",
    "docs/tools.md",
];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[track_caller]
fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A generated table. The columns after those of a row are written by hand, and belong to its first cell.
struct Table {
    header: &'static str,
    /// Cells between ` | `.
    rows: Vec<String>,
}

impl Table {
    fn render(&self, written: &str) -> String {
        let columns = self.header.split(" | ").count();
        let by_hand: BTreeMap<_, Vec<_>> = written
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim))
            .map(|mut cells| (cells.next().unwrap_or_default(), cells.collect()))
            .collect();
        let mut text = format!("| {} |\n|{}\n", self.header, "---|".repeat(columns));
        for row in &self.rows {
            let cells: Vec<_> = row.split(" | ").collect();
            let written = by_hand.get(cells[0]).into_iter().flatten().copied();
            let missing = columns - cells.len();
            let written = written.skip(cells.len() - 1).chain(std::iter::repeat(""));
            let cells: Vec<_> = cells.iter().copied().chain(written.take(missing)).collect();
            text.extend(["| ", &cells.join(" | "), " |\n"]);
        }
        text
    }
}

#[test]
fn the_generated_tables_are_up_to_date() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let demo = std::env::var("DEMO_OUTPUT").ok().map(|file| read(&file));
    let mut tables = tables();
    let mut problems = Vec::new();
    for page in PAGES {
        let text = read(page);
        let mut parts = text.split("<!-- generated: ");
        let mut fresh = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(" -->\n").expect("a name");
            let (written, rest) = rest.split_once("<!-- end -->").expect("an end");
            let table = tables.remove(name);
            let table = table.unwrap_or_else(|| panic!("{page}: no table {name}"));
            let table = table.render(written);
            let empty = table.lines().filter(|line| line.contains("|  |"));
            problems.extend(empty.map(|line| format!("{page}: fill in {line}")));
            fresh.extend(["<!-- generated: ", name, " -->\n", &table, "<!-- end -->", rest]);
        }
        let (start, end) = ("<!-- demo output -->\n", "<!-- end -->");
        if let (Some(output), Some((before, rest))) = (&demo, fresh.split_once(start)) {
            let (_, after) = rest.split_once(end).expect("an end");
            fresh = format!("{before}{start}{}{end}{after}", demo_output(output));
        }
        if update {
            std::fs::write(path(page), &fresh).expect(page);
        } else if fresh != text {
            problems.push(format!("{page} is stale: run `make docs`"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(tables.is_empty(), "on no page: {:?}", tables.keys());
}

/// Each parameter with its description and its default, as `relay deploy` and SAM read it. Who deploys must see the
/// ones in [`UNCOMMENTED`] as well as those that have no default.
#[test]
fn the_example_of_the_parameters_is_up_to_date() {
    const UNCOMMENTED: &str = "AlarmEmail";
    let template = template();
    let mut parameters = template["Parameters"].as_object().expect("a map").clone();
    let mut example = "# Copy this file to params.yaml, replace what is in <>, and remove the # before what you change.\n\
                       # Keep the quotes: without them, SAM reads false and off as something else.\n\
                       # A long list may be block text, one pair a line. `EventNames: |`, and the pairs below, indented.\n"
        .to_owned();
    let groups = &template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"];
    for group in groups.as_array().expect("a list of groups") {
        let label = group["Label"]["default"].as_str().expect("a label");
        example.extend(["\n## ", label, "\n"]);
        for name in group["Parameters"].as_array().expect("a list of names") {
            let name = name.as_str().expect("a name");
            let parameter = parameters.remove(name).unwrap_or_else(|| panic!("{name}: no such"));
            let description = parameter["Description"].as_str().expect("a description");
            let values = parameter["ConstraintDescription"].as_str().map(|text| {
                let text = text.trim_start_matches("must be ").trim_end_matches('.');
                format!("\"<{text}>\"")
            });
            let value = match (parameter.get("Default"), values) {
                (Some(default), _) if name != UNCOMMENTED => format!("#{name}: {default}"),
                (_, values) => format!("{name}: {}", values.expect("what it must be")),
            };
            example.extend(["\n# ", description, "\n", &value, "\n"]);
        }
    }
    assert!(parameters.is_empty(), "in no group of the template: {:?}", parameters.keys());
    let file = "params.example.yaml";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(file), &example).expect(file);
    } else {
        assert!(read(file) == example, "{file} is stale: run `make docs`");
    }
}

/// IAM's action for an operation of the AWS CLI, if it needs one.
fn action(service: &str, operation: &str) -> Option<String> {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let name: String = operation.split('-').map(capital).collect();
    match (service, operation) {
        ("sts", _) => None,
        ("s3api", "head-bucket") => Some("s3:ListBucket".to_owned()),
        ("s3api", "head-object") => Some("s3:GetObject".to_owned()),
        ("s3api", "put-public-access-block") => Some("s3:PutBucketPublicAccessBlock".to_owned()),
        ("s3api", _) => Some(format!("s3:{name}")),
        _ => Some(format!("{service}:{name}")),
    }
}

/// What the AWS CLI needs for the operations in the tool's code: texts that begin with a service and an operation.
fn actions_of_the_tool() -> BTreeSet<String> {
    const SERVICES: &str =
        "cloudformation cloudwatch dynamodb lambda logs s3api secretsmanager sns sqs sts";
    let code: String = files("tools/src", "rs").iter().map(|file| code(file)).collect();
    let code = code.replace("\", \"", " ");
    let actions = code.split('"').filter_map(|text| {
        let mut words = text.split(' ');
        let service = words.next().filter(|word| SERVICES.split(' ').any(|it| it == *word))?;
        let operation = words.next().filter(|word| word.starts_with(char::is_lowercase))?;
        action(service, operation)
    });
    actions.collect()
}

#[test]
fn the_deployers_policy_has_what_the_tool_calls_and_every_service_of_the_template() {
    let file = "docs/deployer-policy.json";
    let mut policy: Value = serde_json::from_str(&read(file)).expect(file);
    let expected = json!(actions_of_the_tool());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        policy["Statement"][0]["Action"] = expected.clone();
        let text = serde_json::to_string_pretty(&policy).expect(file) + "\n";
        std::fs::write(path(file), text).expect(file);
    }
    assert!(policy["Statement"][0]["Action"] == expected, "{file} is stale: run `make docs`");
    let text = policy.to_string();
    for (name, resource) in crate::template::resources() {
        let kind = resource["Type"].as_str().expect("a type").to_lowercase();
        let service = match kind.split("::").nth(1).expect("a service") {
            "serverless" => "lambda",
            "apigatewayv2" => "apigateway",
            service => service,
        };
        assert!(text.contains(&format!("\"{service}:")), "{file}: nothing for {name}");
    }
    assert!(
        text.len() <= 6144,
        "{file}: IAM takes 6,144 characters, and these are {}",
        text.len()
    );
}

/// The demo's output as the README shows it: some of its lines, the last profile record and the sum.
fn demo_output(output: &str) -> String {
    let shown = ["SUBSCRIPTION_RENEWED", "TRANSACTION_PROCESSED", "TRIAL_STARTED"];
    let is_shown =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|it| shown.contains(&it));
    let lines = output.lines().filter(is_shown);
    let profile = output.split("\n\n").nth(1).expect("a profile record");
    let sum = output.lines().last().expect("a last line");
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("```\n...\n{lines}\n{profile}\n...\n\n{sum}\n```\n")
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let letters = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    letters.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let prose: String = text.split("```").step_by(2).collect();
    prose.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in PAGES {
        let text = read(page);
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("a closing bracket");
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path(page),
                file => path(page).parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{page}: {target}");
            let found = anchor.is_empty() || anchors(&file).contains(anchor);
            assert!(found, "{page}: {target}");
        }
    }
}

#[tokio::test]
async fn the_pages_explain_every_part_of_a_log_line_and_of_a_dead_letter() {
    let resources = Resources::make().await;
    let world = start(&resources.settings()).await;
    let refused = json!({
        "event_name": "TRANSACTION_PROCESSED",
        "event_id": "e-1",
        "user_id": "u-1842",
        "presentation": "x".repeat(600),
    });
    world.clevertap.script([Reply::RefuseRecord { number: 1, code: 513 }]);
    world.post(refused.to_string().as_bytes()).await;
    world.post(b"\x00").await;

    let lines = world.function.log().into_iter();
    let lines = lines.filter_map(|line| serde_json::from_str::<Map<String, Value>>(&line).ok());
    let lines = lines.filter(|line| line.contains_key("outcome"));
    let letters = resources.letters().into_iter();
    let letters =
        letters.map(|letter| letter["attributes"].as_object().expect("attributes").clone());
    let parts: BTreeSet<_> = lines
        .chain(letters)
        .flat_map(|part| part.into_iter().map(|(name, _)| name))
        .collect();
    for name in ["reason", "clevertap_status", "adjusted", "code", "event_id", "encoding"] {
        assert!(parts.contains(name), "{name} is not in {parts:?}");
    }
    let page = read("docs/reference.md");
    let unexplained: Vec<_> =
        parts.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(unexplained.is_empty(), "docs/reference.md does not explain {unexplained:?}");
}

/// In a comment below a command that sends a sample, with `"..."` for the id: `# 200  FILE  {"status":"relayed"}`.
#[tokio::test]
async fn the_answers_that_the_pages_show_are_the_functions() {
    // With the default settings, as the pages say.
    let world = World::start(&[]).await;
    let mut count = 0;
    for page in PAGES {
        let mut sample = String::new();
        for line in read(page).lines() {
            let mut words = line.split_whitespace();
            if let Some(path) = words.find(|word| word.starts_with("events/")) {
                let is_sandbox = line.contains("s/PRODUCTION/SANDBOX/");
                let environment = if is_sandbox { "SANDBOX" } else { "PRODUCTION" };
                sample = std::fs::read_to_string(self::path(path)).unwrap_or_default();
                sample = sample.replace("PRODUCTION", environment);
            }
            let shown = line.strip_prefix("# ").and_then(|shown| {
                let (status, body) = shown.split_once("  ")?;
                Some((status.parse().ok()?, &body[body.find('{').expect(line)..]))
            });
            if let Some((status, body)) = shown {
                let shown: Value = serde_json::from_str(body).expect(line);
                let mut answer = world.post(sample.as_bytes()).await;
                if shown["event_id"] == "..." {
                    answer.body["event_id"] = json!("...");
                }
                assert_eq!(answer, answered(status, shown), "{page}");
                count += 1;
            }
        }
    }
    assert!(count > 0);
}

#[tokio::test]
async fn the_costs_count_what_the_function_writes() {
    let (url, seen) = aws_service().await;
    let settings = [("DEDUPLICATION_TABLE", "claims"), ("AWS_ENDPOINT_URL_DYNAMODB", &*url)];
    let world = start(&settings).await;
    let warm_up = json!({ "event_name": "ACTIVATE", "event_id": "e-0", "user_id": "u" });
    world.post(warm_up.to_string().as_bytes()).await;
    seen.lock().unwrap().clear();
    world.post(read("events/TRIAL_STARTED.json").as_bytes()).await;
    let line = world.function.wait_for_log(|line| line.contains(r#""TRIAL_STARTED""#)).await;
    let expected = costs::LINE_BYTES - 200..=costs::LINE_BYTES;
    assert!(expected.contains(&line.len()), "{} bytes: {line}", line.len());
    assert_eq!(seen.lock().unwrap().len(), costs::CLAIM_WRITES);
}
