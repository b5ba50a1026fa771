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

#[tokio::test]
async fn a_soak_draws_its_first_seed_and_prints_it() {
    let mut seeds = Vec::new();
    for _ in 0..2 {
        let finished = tool::run("simulate --minutes 0", &[]).await;
        let seed = finished
            .stdout
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("The first seed is "));
        seeds.push(seed.expect("a seed").to_owned());
    }
    assert_ne!(seeds[0], seeds[1]);
}
