//! The page of `cargo relay dev` in a browser, with the real function behind it.
//! It does not know the page's API.

mod browser;
mod dev;

use crate::dev::Dev;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use browser::{Browser, axe};
use serde_json::Value;
use testkit::process::repository;
use testkit::tool;

const DESKTOP: (u32, u32) = (1280, 800);
/// The narrowest phone that is common.
const PHONE: (u32, u32) = (360, 740);
/// One that becomes a property of the event and of the profile.
const FIELD: &str = "[...document.querySelectorAll('button.part')].find((field) => field.textContent.startsWith('store: '))";

#[tokio::test]
async fn the_page_shows_provokes_reads_and_tries() {
    let dev = Dev::start(&["--backend"]).await;
    let browser = Browser::start().await;
    browser.show(DESKTOP.0, DESKTOP.1, "light").await;
    browser.open(&dev.origin).await;
    browser
        .wait_for("document.querySelector('#connection').textContent === '● Live'")
        .await;

    the_list_follows_what_a_terminal_sends(&dev, &browser).await;
    a_line_leads_from_a_field_to_its_property(&browser).await;
    a_webhook_is_sent_again(&browser).await;
    a_failing_clevertap_blocks_a_user_until_it_recovers(&browser).await;
    a_user_has_revenue(&browser).await;
    a_setting_shows_what_it_changes(&browser).await;
    everyone_can_use_each_scene(&browser).await;
    write_screenshots(&browser).await;

    assert_eq!(browser.console().await, [] as [Value; 0]);
    let requests = browser.requests().await;
    assert!(requests.iter().any(|url| url.ends_with("/api/events")), "{requests:?}");
    // The browser's own first page has addresses of the browser's.
    let is_own =
        |url: &&String| [&*dev.origin, "data:", "chrome:"].iter().any(|own| url.starts_with(own));
    let others: Vec<_> = requests.iter().filter(|url| !is_own(url)).collect();
    assert!(others.is_empty(), "requests that leave the page: {others:?}");
}

async fn the_list_follows_what_a_terminal_sends(dev: &Dev, browser: &Browser) {
    browser.wait_for("!document.querySelector('#none').hidden").await;
    let state = dev.get("/api/state").await;
    let url = state["function_url"].as_str().expect("a URL");
    for sample in ["TRIAL_STARTED", "TRIAL_CONVERTED"] {
        let sent = tool::run(&format!("send events/{sample}.json --to {url}"), &[]).await;
        assert_eq!(sent.code, Some(0), "{}", sent.stdout);
    }
    let line = browser
        .wait_for("document.querySelectorAll('#list .good')[1]?.closest('a').innerText")
        .await;
    let line = line.as_str().expect("a text");
    for part in ["TRIAL_STARTED", "Relayed", "u-1842", "200", " ms", "1 attempt"] {
        assert!(line.contains(part), "{line}");
    }
    browser.write("#filter", "converted").await;
    browser.wait_for("document.querySelectorAll('#list li').length === 1").await;
    browser.write("#filter", "trial").await;
    browser.wait_for("document.querySelectorAll('#list li').length === 2").await;
}

async fn a_line_leads_from_a_field_to_its_property(browser: &Browser) {
    browser.click("#list a[href='#watch/1']").await;
    browser
        .wait_for("document.querySelector('#detail-title').textContent === 'TRIAL_STARTED'")
        .await;
    browser.run(&format!("{FIELD}.focus()")).await;
    let lit = browser.wait_for("[...document.querySelectorAll('.record .part.on')].map((part) => part.textContent).join()").await;
    // The event's property and the profile's.
    assert_eq!(lit, r#"store: "APPLE_APP_STORE",store: "APPLE_APP_STORE""#);
    let ends = format!(
        "(() => {{
            const line = document.querySelector('.map path.on'), box = line.ownerSVGElement.getBoundingClientRect();
            const middle = (node) => {{ const {{ top, height }} = node.getBoundingClientRect(); return top + height / 2 - box.top; }};
            const [from, to] = [line.getPointAtLength(0), line.getPointAtLength(line.getTotalLength())];
            return [from.y - middle({FIELD}), to.y - middle(document.querySelector('.record .part.on'))];
        }})()"
    );
    let ends = browser.wait_for(&ends).await;
    let is_close = |end: &Value| end.as_f64().is_some_and(|end| end.abs() < 1.0);
    assert!(ends.as_array().expect("two ends").iter().all(is_close), "{ends}");
    let why = browser.run("return document.querySelector('#why').textContent").await;
    assert_eq!(why, "store → store, under the same name");
    let answer = browser.run("return document.querySelector('#uploads pre').textContent").await;
    assert!(answer.as_str().expect("a text").contains(r#""status":"success""#), "{answer}");
}

async fn a_webhook_is_sent_again(browser: &Browser) {
    browser.click("#resend").await;
    browser.click("#detail-done a").await;
    browser
        .wait_for("location.hash === '#watch/3' && document.querySelector('#detail-badge .good')")
        .await;
    // What a terminal sent was marked, this was not.
    browser.wait_for("document.querySelector('#forwards .good')").await;
}

async fn a_failing_clevertap_blocks_a_user_until_it_recovers(browser: &Browser) {
    browser.click("nav a[href='#provoke']").await;
    browser.write("#body", "{").await;
    browser
        .wait_for(
            "document.querySelector('#body-problem').textContent.startsWith('This is not JSON')",
        )
        .await;
    browser
        .run("return document.querySelector('#sample').dispatchEvent(new Event('change'))")
        .await;
    browser.write("#fault-times", "0").await;
    browser.click("#fault .main").await;
    browser
        .wait_for("document.querySelector('#fault output').textContent.includes('429')")
        .await;
    for _ in 0..2 {
        browser.run("document.querySelector('#send output').textContent = ''").await;
        browser.click("#send .main").await;
        browser.wait_for("document.querySelector('#send output a')").await;
    }
    let blocked = "document.querySelector('#blocked [data-user=\"u-1842\"]')?.innerText";
    let blocked = browser
        .wait_for(&format!("{blocked}?.includes('1 later event waits') && {blocked}"))
        .await;
    assert!(blocked.as_str().expect("a text").contains("last answer 503"), "{blocked}");
    browser.click("#fault-clear").await;
    browser.click("#speed [value='3600']").await;
    let released = browser.wait_for("document.querySelector('#released').textContent").await;
    assert!(
        released.as_str().expect("a text").starts_with("✓ u-1842 was released"),
        "{released}"
    );
}

async fn a_user_has_revenue(browser: &Browser) {
    browser.run("const sample = document.querySelector('#sample'); sample.value = 'TRANSACTION_PROCESSED'; sample.dispatchEvent(new Event('change'))").await;
    browser.click("#send .main").await;
    browser.click("nav a[href='#users']").await;
    browser.click("#user-list a[href='#users/u-1842']").await;
    let revenue = browser
        .wait_for("document.querySelector('#revenue b')?.parentNode.innerText")
        .await;
    assert_eq!(revenue, "10.84\nUSD revenue");
    browser.wait_for("document.querySelector('#events > li:last-child summary').textContent.startsWith('Charged')").await;
    browser
        .wait_for(
            "document.querySelector('#profile').innerText.includes('has_active_subscription')",
        )
        .await;
}

async fn a_setting_shows_what_it_changes(browser: &Browser) {
    browser.run("location.hash = '#settings/1'").await;
    browser.wait_for("document.querySelector('#tried').selectedOptions[0]?.textContent === 'Webhook 1: TRIAL_STARTED'").await;
    browser.write("#set-EVENT_NAMES", "TRIAL_STARTED").await;
    browser
        .wait_for("document.querySelector('#problem-EVENT_NAMES').textContent")
        .await;
    browser.write("#set-EVENT_NAMES", "TRIAL_STARTED=Trial Started").await;
    let added = browser.wait_for("document.querySelector('#diff .add')?.textContent").await;
    assert_eq!(added, r#"+       "evtName": "Trial Started","#);
    let line = browser.run("return document.querySelector('#params').textContent").await;
    assert_eq!(line, r#"EventNames: "TRIAL_STARTED=Trial Started""#);
}

/// On a desktop and a phone, in light and dark: nothing that axe-core calls serious, and nothing to scroll sideways.
async fn everyone_can_use_each_scene(browser: &Browser) {
    browser.run(&axe()).await;
    let mut problems = Vec::new();
    for scene in ["#watch", "#watch/1", "#provoke", "#users", "#users/u-1842", "#settings/1"] {
        browser.run(&format!("location.hash = '{scene}'")).await;
        if scene.contains('/') {
            browser.wait_for("document.querySelector('section:not([hidden]) article:not([hidden]), #diff span')").await;
        }
        for ((width, height), scheme) in
            [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
        {
            browser.show(width, height, scheme).await;
            let found = browser.run(
                "return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => {
                    const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
                    const isWide = document.documentElement.scrollWidth > innerWidth;
                    const wide = [...document.querySelectorAll('body *')].filter((node) => isWide && node.getBoundingClientRect().right > innerWidth);
                    return [...serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`), ...wide.map(({ outerHTML }) => `too wide: ${outerHTML.slice(0, 100)}`)];
                })",
            );
            let found = found.await;
            let found = found.as_array().expect("a list").iter();
            problems
                .extend(found.map(|found| format!("{scene}, {width} pixels, {scheme}: {found}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// For the pages of the documentation, if `UPDATE_DOCS` is set.
async fn write_screenshots(browser: &Browser) {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let focus = format!("{FIELD}.focus({{ preventScroll: true }})");
    let block = "for (const button of ['#speed [value=\"1\"]', '#fault .main', '#send .main', '#send .main']) document.querySelector(button).click()";
    let is_blocked =
        "document.querySelector('#blocked')?.innerText.includes('1 later event waits')";
    for (name, address, scheme, script, is_there) in [
        ("watch", "watch/1", "light", &*focus, "document.querySelector('.map path.on')"),
        ("provoke", "provoke", "dark", block, is_blocked),
    ] {
        browser.show(DESKTOP.0, DESKTOP.1, scheme).await;
        browser.run(&format!("location.hash = '{address}'; scrollTo(0, 0)")).await;
        browser.wait_for(&format!("!document.querySelector('#{name}').hidden")).await;
        browser.run(script).await;
        browser.wait_for(is_there).await;
        let image = STANDARD.decode(browser.screenshot().await).expect("base64");
        let path = repository().join(format!("docs/page-{name}.png"));
        std::fs::write(&path, image).expect("a file");
    }
}
