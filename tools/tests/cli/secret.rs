//! `cargo relay secret`: what it stores, what it refuses, and that it shows no value.

use crate::deployed::Stack;
use serde_json::{Value, json};
use testkit::tool::{self, Finished};

const ACCOUNT: &str = "123456789012";

fn secret() -> Value {
    json!({ "clevertap_passcode": "hidden-1", "purchasely_shared_secret": "hidden-2" })
}

/// Runs the command, and checks its exit code and its words.
async fn check(stack: &Stack, arguments: &str, input: &str, code: i32, words: &str) {
    let finished = stack.run(&format!("secret {arguments}"), input).await;
    let output = format!("{}{}", finished.stdout, finished.stderr);
    assert!(output.contains(words), "{arguments}: {words}: {output}");
    assert!(!output.contains("hidden"), "{output}");
    assert_eq!(finished.code, Some(code), "{output}");
}

#[tokio::test]
async fn a_file_is_stored_only_in_the_stack_that_it_is_for() {
    let stack = Stack::make("secret-file", "").await;
    let empty = stack.stored().await;
    let with = |key: &str, value: &str| {
        let mut secret = secret();
        secret[key] = json!(value);
        secret
    };
    for (content, words) in [
        (
            with("stack", "production").to_string(),
            "is for the stack \"production\", and this is secret-file",
        ),
        (with("account", "210987654321").to_string(), "and this is 123456789012"),
        (
            with("hidden-1", "clevertap_passcode").to_string(),
            "1 keys of secret.json are not read",
        ),
        ("hidden".to_owned(), "the secret is not a JSON object"),
    ] {
        stack.file("secret.json", content);
        check(&stack, "--yes", "", 1, words).await;
    }
    let mut own = with("stack", "secret-file");
    own["account"] = json!(ACCOUNT);
    stack.file("secret.json", own);
    check(&stack, "", "", 2, "there is no terminal to ask on: add --yes").await;
    assert_eq!(stack.stored().await, empty);
    check(&stack, "--yes --json", "", 0, r#""stored":true"#).await;
    assert_eq!(stack.stored().await, secret());
}

#[tokio::test]
async fn one_key_is_changed_and_the_others_are_kept() {
    let sandbox = "--parameters ParameterKey=ClevertapSandboxAccountId,ParameterValue=TEST-1";
    let stack = Stack::make("secret-set", sandbox).await;
    let both = "--yes --set clevertap_passcode --set purchasely_shared_secret";
    check(&stack, both, "hidden-1\nhidden-2\n", 1, "no `clevertap_sandbox_passcode`").await;
    let all = format!("{both} --set clevertap_sandbox_passcode");
    check(&stack, &all, "hidden-1\nhidden-2\nhidden-3\n", 0, "Stored.").await;
    check(&stack, "--yes --rotate", "hidden-2\n", 1, "is the present one").await;
    check(&stack, "--yes --rotate", "hidden-4\n", 0, ACCOUNT).await;
    let mut expected = secret();
    expected["clevertap_sandbox_passcode"] = json!("hidden-3");
    expected["purchasely_shared_secret_previous"] = expected["purchasely_shared_secret"].take();
    expected["purchasely_shared_secret"] = json!("hidden-4");
    assert_eq!(stack.stored().await, expected);
    // An empty value removes an optional key.
    check(&stack, "--yes --set purchasely_shared_secret_previous", "", 0, "Stored.").await;
    check(&stack, "--yes --set clevertap_passcode", "\n", 1, "`clevertap_passcode`").await;
    expected.as_object_mut().unwrap().remove("purchasely_shared_secret_previous");
    assert_eq!(stack.stored().await, expected);
}

#[tokio::test]
async fn a_terminal_does_not_show_the_value_and_must_agree() {
    let stack = Stack::make("secret-ask", "").await;
    stack.store(&secret()).await;
    for (answers, code, passcode) in [
        (&[("(not shown): ", "hidden-5\n"), ("[y/N]: ", "n\n")], 1, "hidden-1"),
        (&[("(not shown): ", "hidden-5\n"), ("[y/N]: ", "y\n")], 0, "hidden-5"),
    ] {
        let command = stack.relay("secret --set clevertap_passcode");
        let Finished { code: ended, stderr: shown, .. } =
            tool::finish_on_a_terminal(command, answers).await;
        assert_eq!(ended, Some(code), "{shown}");
        let target =
            format!("clevertap_passcode of the stack secret-ask in account {ACCOUNT}, eu-west-1: ");
        assert!(shown.contains(&target) && !shown.contains("hidden"), "{shown}");
        assert_eq!(stack.stored().await["clevertap_passcode"], passcode);
    }
}
