//! `cargo relay dev`: the function on this machine with stand-ins for everything around it, and a page that shows each
//! webhook, until Ctrl-C; or the samples once, without the page. It does not know where webhooks come from.

mod api;
mod deliveries;
mod live;
mod once;
mod proxy;
mod purchasely;
mod settings;
mod users;

use crate::saved::{Saved, read_all};
use crate::stand_ins::{Delivery, StandIns, listen};
use crate::{Interruption, Unusable};
use api::Sample;
use live::{Live, Output};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use testkit::cargo_lambda::{PATH, Watched, invoke};
use testkit::process::free_port;
use tokio::net::TcpListener;

/// Run the function on this machine, with a page that shows each webhook and what happened to it.
///
/// With `--once`, send every sample webhook once instead, print what CleverTap accepted, and end. Exit code 1: at least
/// one webhook was not relayed.
///
/// The page shows why each field became what it is, what the stand-ins for CleverTap and for your own backend got and
/// what they answered. It can send webhooks as Purchasely does, provoke faults, and try settings. Explanations are those of the code that `cargo
/// relay` was built from: start it again after a change of the mapping.
///
/// The function runs under `cargo lambda watch`, which compiles it again after each change; its log goes to
/// standard error. Webhooks pass through a proxy on the function's port. Ctrl-C ends all of it with exit code 0.
/// Exit code 1: the function ended.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay dev
  cargo relay send events/TRIAL_STARTED.json --to http://localhost:9000/    # in another terminal
  cargo relay dev --delivery queue
  cargo relay dev --backend
  cargo relay dev --once
  cargo relay dev --no-function    # prints the variables for a function that you start yourself")]
pub struct Options {
    /// Without the page: send each of the samples once, and end. Cargo builds the function first, if it must.
    #[arg(long, conflicts_with = "no_function")]
    once: bool,
    /// The sample webhooks, as `send` reads them.
    #[arg(long, value_name = "FILE", default_value = "events")]
    samples: PathBuf,
    /// Do not start the function: print the variables for one that you start yourself, and where the proxy
    /// expects it. The page works as well.
    #[arg(long)]
    no_function: bool,
    /// Whether the function relays a webhook before it answers, or puts it into a queue.
    #[arg(long, default_value = "direct")]
    delivery: Delivery,
    /// Forward each webhook to a stand-in for your own backend first, as with `FORWARD_URL`; at any free
    /// port, unless you say which. What `send` and `replay` send is not forwarded.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0", conflicts_with = "once")]
    backend: Option<u16>,
    /// Port of the page; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9102)]
    page_port: u16,
    /// Port of the function; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    function_port: u16,
    /// Port of the function behind the proxy; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    watch_port: u16,
    /// Port of CleverTap; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9100)]
    clevertap_port: u16,
    /// Port of Secrets Manager; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9101)]
    secrets_manager_port: u16,
    /// The `cargo-lambda` executable.
    #[arg(
        long,
        value_name = "PATH",
        env = "CARGO_LAMBDA",
        default_value = "cargo-lambda"
    )]
    cargo_lambda: PathBuf,
    /// Print one JSON object for each webhook that settles, and nothing else.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let mut interruption = Interruption::new()?;
    // They are the repository's; elsewhere there are none.
    let samples = if options.once || options.samples.exists() {
        read_all(std::slice::from_ref(&options.samples))?
    } else {
        Vec::new()
    };
    if options.once {
        return once::run(samples, options.delivery, options.json, interruption).await;
    }
    let (clevertap, secrets_manager) = (options.clevertap_port, options.secrets_manager_port);
    let mut stand_ins = StandIns::start(clevertap, secrets_manager, options.delivery).await?;
    if let Some(port) = options.backend {
        stand_ins.start_backend(port).await?;
    }
    let (page, page_url) = listen(options.page_port).await?;
    let (proxy, proxy_url) = listen(options.function_port).await?;
    let (page_port, proxy_port) = (port(&page)?, port(&proxy)?);
    let behind = if options.watch_port == 0 {
        free_port().await
    } else {
        options.watch_port
    };
    let output = options.json.then_some(Output::Json);
    let url = format!("http://localhost:{proxy_port}{PATH}");
    let function_origin = format!("http://127.0.0.1:{behind}");
    let live = Live::new(stand_ins, url.clone(), function_origin.clone(), output)?;
    let variables = live.stand_ins.variables();
    let mut function = None;
    if !options.no_function {
        function = Some(Watched::start(&options.cargo_lambda, behind, &variables)?);
    }
    serve(
        page,
        api::router(Arc::clone(&live), samples.into_iter().map(sample).collect(), page_port),
    );
    // `localhost` is this address as well, and `cargo lambda invoke` uses it.
    if let Ok(proxy) = TcpListener::bind((Ipv6Addr::LOCALHOST, proxy_port)).await {
        serve(proxy, proxy::router(Arc::clone(&live)));
    }
    serve(proxy, proxy::router(Arc::clone(&live)));
    if !options.json {
        if options.no_function {
            println!("Start the function with these variables:\n");
            for (name, value) in &variables {
                println!("export {name}='{value}'");
            }
            println!("\nand serve it where the proxy at {proxy_url} expects it:\n");
            println!("  cargo lambda watch --invoke-address 127.0.0.1 --invoke-port {behind}\n");
        }
        println!(
            "Page: {page_url}/\n\nOnce it is compiled, the function answers at {url}. In another terminal:\n\n  \
             cargo relay send events/TRIAL_STARTED.json --to {url}\n\n\
             Ctrl-C ends all of it."
        );
    }
    let code = tokio::select! {
        () = Arc::clone(&live).run() => ExitCode::SUCCESS,
        () = live.stand_ins.deliver(async |batch| invoke(&live.http, &function_origin, batch).await) => ExitCode::SUCCESS,
        () = interruption.wait() => ExitCode::SUCCESS,
        reason = ended(&mut function) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    };
    if let Some(function) = function {
        function.end().await;
    }
    Ok(code)
}

/// Why the function ended; for ever, if it is not this command's.
async fn ended(function: &mut Option<Watched>) -> String {
    match function {
        Some(function) => function.ended().await,
        None => std::future::pending().await,
    }
}

fn serve(listener: TcpListener, router: axum::Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn port(listener: &TcpListener) -> Result<u16, Unusable> {
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.port())
}

fn sample(Saved { source, body, .. }: Saved) -> Sample {
    let file = Path::new(&source).file_name().unwrap_or_default().to_string_lossy();
    Sample {
        name: file.trim_end_matches(".json").to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
