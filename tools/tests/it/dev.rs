//! `cargo relay dev` without its page. The page's own test is `tests/page`.

use serde_json::{Map, Value};
use std::process::Stdio;
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::{built, repository};
use testkit::tool;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(repository().join(path)).unwrap()).unwrap()
}

#[tokio::test]
async fn every_sample_is_relayed_once_and_one_record_of_each_kind_is_shown() {
    for delivery in ["direct", "queue"] {
        let once = tool::run(&format!("dev --once --delivery {delivery}"), &[]).await;
        assert_eq!(once.code, Some(0), "{}\n{}", once.stdout, once.stderr);
        let paragraphs: Vec<&str> = once.stdout.trim_end().split("\n\n").collect();
        let [lines, profile, event, revenue, summary] = paragraphs[..] else {
            panic!("{}", once.stdout);
        };
        let samples = std::fs::read_dir(repository().join("events")).unwrap();
        let samples = samples.filter(|sample| sample.as_ref().unwrap().path().is_file()).count();
        assert_eq!(lines.lines().count(), samples);
        for line in lines.lines() {
            assert!(line.starts_with("200  ") && line.contains(" event ("), "{line}");
        }
        let paid = lines.lines().find(|line| line.contains("TRANSACTION_PROCESSED")).unwrap();
        assert!(paid.contains(" properties), revenue Charged "), "{paid}");
        assert!(lines.contains("profile (") && profile.lines().all(|line| line.len() <= 100));
        let records =
            [profile, event, revenue].map(|json| serde_json::from_str::<Value>(json).unwrap());
        let [trial, paid] = ["TRIAL_STARTED", "TRANSACTION_PROCESSED"]
            .map(|sample| json(&format!("tests/golden/{sample}.json")));
        assert_eq!(records, [&trial["d"][0], &trial["d"][1], &paid["d"][1]].map(Value::clone));
        assert!(summary.starts_with(&format!("{samples} webhooks sent")), "{summary}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_not_relayed_is_a_failure() {
    let sample = "dev --once --json --samples fuzz/corpus/webhook/version-two";
    let once = tool::run(sample, &[]).await;
    let line: Map<String, Value> = serde_json::from_str(&once.stdout).unwrap();
    assert_eq!((once.code, &line["status"]), (Some(1), &Value::from(503)));
    tool::run("dev --once --samples none", &[]).await.check_unusable("none: ");
}

#[tokio::test]
async fn it_names_the_settings_with_which_the_signed_samples_are_relayed() {
    let mut relay = Command::new(built("examples/relay"));
    relay.args(["dev", "--no-function", "--clevertap-port", "0", "--secrets-manager-port", "0"]);
    relay.args(["--page-port", "0", "--function-port", "0"]);
    let mut relay = relay.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let mut settings = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(setting) = line.strip_prefix("export ") {
            let (name, value) = setting.split_once('=').unwrap();
            settings.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        } else if line.contains("Ctrl-C") {
            break;
        }
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let api = RuntimeApi::start().await;
    let _function = Function::spawn(built("purchasely-clevertap"), &api, &settings);
    api.wait_until_ready().await;
    for entry in std::fs::read_dir(repository().join("events/api-gateway")).unwrap() {
        let path = entry.unwrap().path();
        let answer = api.invoke(std::fs::read_to_string(&path).unwrap()).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{}: {answer}", path.display());
    }
}
