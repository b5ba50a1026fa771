//! `cargo relay simulate`. It does not know the guarantees; the simulation's own tests do.

use serde_json::Value;
use testkit::tool;

async fn worlds(arguments: &str) -> Vec<Value> {
    let finished = tool::run(&format!("simulate --json {arguments}"), &[]).await;
    assert_eq!(finished.code, Some(0), "{}{}", finished.stdout, finished.stderr);
    finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn each_world_is_a_line_whose_command_repeats_it() {
    let both = worlds("--worlds 2").await;
    assert_eq!(both.len(), 2);
    for world in both {
        let command = world["command"].as_str().expect("a command");
        let (_, arguments) = command.split_once("simulate ").expect("arguments");
        let again = worlds(&arguments.replace("--trace", "")).await;
        assert_eq!(again, [world]);
    }
}
