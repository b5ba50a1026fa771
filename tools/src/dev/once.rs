//! The samples once, without the page: what happened to each, and a record of each kind.
//! It does not know what the records should be: the stand-in CleverTap only refuses what CleverTap would.

use super::live::{Answer, Live, Output};
use crate::saved::Saved;
use crate::stand_ins::{Delivery, StandIns, json_lines, role};
use crate::{Interruption, Unusable, print};
use bytes::Bytes;
use http::{Response, StatusCode};
use purchasely_clevertap::clevertap::Role;
use std::fs;
use std::process::ExitCode;
use testkit::harness::now_seconds;
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::find_built;
use testkit::simulation::READ_TIMEOUT;
use testkit::webhook::{Front, SAMPLE_SHARED_SECRET, Webhook};

/// What the function prints.
const LOG: &str = "target/demo.log";

pub async fn run(
    samples: Vec<Saved>,
    delivery: Delivery,
    is_json: bool,
    mut interruption: Interruption,
) -> Result<ExitCode, Unusable> {
    let function = find_built("purchasely-clevertap")?;
    let stand_ins = StandIns::start(0, 0, delivery).await?;
    let api = RuntimeApi::start().await;
    let function = Function::spawn(function, &api, &stand_ins.variables());
    let output = if is_json { Output::Json } else { Output::Lines };
    let live = Live::new(stand_ins, String::new(), String::new(), Some(output))?;
    let code = tokio::select! {
        code = send_all(samples, &live, &api, is_json) => code,
        () = interruption.wait() => Interruption::exit_code(),
    };
    let log = fs::create_dir_all("target")
        .and_then(|()| fs::write(LOG, function.log().join("\n") + "\n"));
    log.map_err(|error| format!("{LOG}: {error}"))?;
    Ok(code)
}

async fn send_all(samples: Vec<Saved>, live: &Live, api: &RuntimeApi, is_json: bool) -> ExitCode {
    let sent = samples.len();
    let (mut relayed, mut accepted) = (0, Vec::new());
    for Saved { body, .. } in samples {
        let id = live.open(body.clone().into(), false);
        // The line says what the answer was.
        let _ = live.attempt(id, invoke(api, body), READ_TIMEOUT).await;
        live.stand_ins.deliver_queued(async |batch| api.invoke(batch).await).await;
        live.note_clevertap();
        let records =
            live.deliveries(|all| all.get(id).map(|delivery| delivery.accepted().to_vec()));
        let records = records.unwrap_or_default();
        relayed += usize::from(!records.is_empty());
        accepted.extend(records);
    }
    if !is_json {
        for wanted in [Role::Profile, Role::Event, Role::Revenue] {
            if let Some(last) = accepted.iter().rfind(|record| role(record) == wanted) {
                print(&format!("\n{}\n", json_lines(last)));
            }
        }
        let accepted = accepted.len();
        print(&format!("\n{sent} webhooks sent, {accepted} records accepted. Log: {LOG}\n"));
    }
    ExitCode::from(u8::from(relayed < sent))
}

/// Invokes the function as API Gateway does.
async fn invoke(api: &RuntimeApi, body: Vec<u8>) -> Answer {
    let webhook = Webhook::new(body, SAMPLE_SHARED_SECRET, now_seconds());
    let answer = api.invoke(webhook.envelope(Front::HttpApi)).await;
    let answer = answer
        .map_err(|error| format!("the function does not answer: {error}; its log is in {LOG}"))?;
    let status = answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let body = answer["body"].as_str().unwrap_or_default().to_owned();
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(answer)
}
