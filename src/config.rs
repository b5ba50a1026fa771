//! The environment, read once into settings that hold. The only code that knows variable names.
//!
//! It reads through a lookup closure, so tests never touch the process environment, and it reports
//! every mistake at once. It does not know what the settings are used for.

use crate::clevertap::{Region, limits};
use crate::mapping::identity::{IdentityRules, UserIdAs};
use crate::mapping::profile::{self, ProfileRules};
use crate::mapping::properties::PropertyRules;
use crate::mapping::revenue::{CHARGED, RevenueCurrency, RevenueRules};
use crate::mapping::{EventSwitches, Rules, SandboxRule};
use crate::purchasely::catalogue;
use http::HeaderValue;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// An environment variable of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    /// The value that an absent or empty variable stands for, or `must be set` or `not set`.
    pub default: &'static str,
    /// Markdown: what it decides, what it takes, and what follows if it is not set.
    pub meaning: &'static str,
}

/// Every variable that the function reads. `docs/settings.md` is generated from this table.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting("CLEVERTAP_REGION", "must be set",
        "Region of the CleverTap account: a code (`in1`), a name (`India`), the API host, or the dashboard's address as the browser shows it. CleverTap answers a wrong region like a wrong passcode: 401."),
    setting("CLEVERTAP_ACCOUNT_ID", "must be set",
        "Account id, also called project id, from CleverTap's **Settings → Project**. The id of a test account starts with `TEST-`."),
    setting("SECRET_ID", "must be set",
        "Name or ARN of the secret in Secrets Manager: one JSON object with `clevertap_passcode`, `purchasely_shared_secret` and, where needed, `purchasely_shared_secret_previous` and `clevertap_sandbox_passcode`."),
    setting("PURCHASELY_SIGNATURE", "required",
        "`required`: a webhook without a valid signature is answered 401. `off`: no signature is checked, for a sender that cannot sign; anyone who knows the address can then raise events, and the log warns of it at each start."),
    setting("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "0",
        "Maximum age of a signature in whole seconds; `0` is no limit. Purchasely does not document whether it signs a retry again, so a limit below 21 days may reject retries."),
    setting("EVENTS_ENABLED", "all",
        "Events to raise in CleverTap: Purchasely's names, separated by commas, semicolons or white space, or `all`. Profile and revenue records of other events are still sent."),
    setting("EVENTS_DISABLED", "none",
        "Events not to raise, even if enabled: a list as above, or `none`. Their profile and revenue records are still sent."),
    setting("EVENT_NAMES", "not set",
        "Other names for events: `TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial Converted`, separated by semicolons or line breaks. A name that CleverTap reserves or forbids is an error. An event without an entry keeps Purchasely's name."),
    setting("USER_PROPERTIES", "the default set",
        "Profile properties to update, instead of the default set: a list of any payload fields, each by its name as an event property. `none`: no profile records."),
    setting("USER_PROPERTY_NAMES", "not set",
        "Other names for profile properties: `plan=Current Plan;store=Shop`. A system field of CleverTap's (Name, Identity, Email, Phone, MSG-push, ...), a name that CleverTap forbids, and two properties with one name are errors."),
    setting("REVENUE_EVENT", "none",
        "Event that records revenue: `Charged`, or a name of your own. `none`: no revenue event, because an app that records `Charged` itself would count its revenue twice."),
    setting("REVENUE_CURRENCY", "integration",
        "`integration`: revenue is the amount in the app's integration currency. `customer`: it is the amount in the buyer's currency; CleverTap sums without converting, so this is for apps with one market."),
    setting("USER_ID_AS", "identity",
        "What Purchasely's `user_id` is in CleverTap. `identity`: the app gives both SDKs one id. `object_id`: the app gives Purchasely the CleverTap ID as its user id."),
    setting("ANONYMOUS_USER_ID_AS", "ignore",
        "`ignore`: an event with only an anonymous id is not sent. `identity`: the anonymous id is the Identity, for apps that give it to CleverTap; otherwise each becomes a billed profile."),
    setting("CLEVERTAP_ID_FIELD", "clevertap_id",
        "Payload field that contains the CleverTap ID, at the top or one level down. Where it is present, it is sent as `objectId` instead of the user id."),
    setting("PROPERTIES_OMITTED", "none",
        "Payload fields that are never sent, such as `device_id`, or parts of an object, such as `attribution_utm_term`; a list separated by commas, semicolons or white space. They are also missing from the profile, and without its amount a transaction raises no revenue event. `purchase_token` is never sent."),
    setting("UNKNOWN_FIELDS", "send",
        "`send`: payload fields that Purchasely does not document are sent as they are. `drop`: they are not sent."),
    setting("SANDBOX_EVENTS", "drop",
        "Events of testers' purchases. `drop`: they are not sent. `relay`: they go to the main account without profile and revenue records. The default is `relay` if the account id starts with `TEST-`, and then all records are sent."),
    setting("CLEVERTAP_SANDBOX_ACCOUNT_ID", "not set",
        "Another account of the same region that gets all records of testers' purchases, instead of `SANDBOX_EVENTS`, which must then not be `drop`. Its passcode is `clevertap_sandbox_passcode` in the secret."),
    setting("EVENT_QUEUE_URL", "not set",
        "URL of the FIFO queue whose messages the function relays: redriven dead letters and replays. Without it messages that fail are not delayed before they come back."),
    setting("DEAD_LETTER_QUEUE_URL", "not set",
        "URL of the FIFO queue that takes events which can never be relayed. Without it such an event is answered 503 and blocks that user's later events for 20 days."),
    setting("DEDUPLICATION_TABLE", "not set",
        "DynamoDB table of the events that CleverTap has accepted. Without it an event that Purchasely sends again is raised again."),
    setting("CLEVERTAP_DRY_RUN", "false",
        "`true`: CleverTap checks each upload and stores nothing. For a second account or copied traffic: Purchasely does not send these events again."),
    setting("CLEVERTAP_API_URL", "from the region",
        "Address for uploads instead of the region's: scheme and host only, `https`, or `http` on a loopback address. The passcode is sent there."),
    setting("SSL_CERT_FILE", "compiled-in roots",
        "PEM file of root certificates that replace the compiled-in ones."),
];

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        default,
        meaning,
    }
}

/// Accounts that CleverTap makes for tests carry this before their id.
const TEST_ACCOUNT_PREFIX: &str = "TEST-";

/// What the function runs by.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where uploads go: scheme and authority, no path.
    pub upload_url: String,
    /// The region that was named; the address may be overridden.
    pub region: Region,
    /// Goes into each upload's header.
    pub account_id: HeaderValue,
    /// The account, in the same region, that testers' purchases go to.
    pub sandbox_account_id: Option<HeaderValue>,
    /// Whether CleverTap only checks what it is sent and stores nothing.
    pub dry_run: bool,
    /// The FIFO queue whose messages the function relays.
    pub event_queue_url: Option<String>,
    /// The FIFO queue that keeps what can never be relayed.
    pub dead_letter_queue_url: Option<String>,
    /// The table of what CleverTap has accepted.
    pub deduplication_table: Option<String>,
    /// Name or ARN of the secret.
    pub secret_id: String,
    /// Whether and how signatures are checked.
    pub signature: SignaturePolicy,
    /// How events are mapped.
    pub rules: Rules,
    /// Root certificates that replace the compiled-in ones, in PEM.
    pub root_certificates: Option<PathBuf>,
    /// What is worth saying at start though it is no mistake.
    pub warnings: Vec<String>,
}

/// Whether and how signatures are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// Each webhook must be signed; with a tolerance, recently.
    Required {
        /// The greatest distance between signing and now; `None` is no limit.
        tolerance: Option<Duration>,
    },
    /// For a sender that cannot sign.
    Off,
}

/// One variable that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong, what is allowed, how to mend it.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.problem)
    }
}

impl Config {
    /// Reads the settings through `lookup`; an empty variable is an absent one. All mistakes come at once.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader {
            lookup,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        let region = reader.region();
        let account_id = reader.account_id("CLEVERTAP_ACCOUNT_ID");
        if account_id.is_none() && reader.value("CLEVERTAP_ACCOUNT_ID").is_none() {
            reader.mistake(
                "CLEVERTAP_ACCOUNT_ID",
                "is not set; it takes the account id (project id) of CleverTap's Settings, Project",
            );
        }
        let secret_id = reader.required(
            "SECRET_ID",
            "the name or ARN of the secret in Secrets Manager",
        );
        let signature = reader.signature();
        let sandbox_account_id = reader.account_id("CLEVERTAP_SANDBOX_ACCOUNT_ID");
        let sandbox = reader.sandbox(account_id.as_ref(), sandbox_account_id.as_ref());
        let rules = Rules {
            events: reader.switches(),
            event_names: reader.event_names(),
            sandbox,
            identity: IdentityRules {
                user_id_as: reader.choice(
                    "USER_ID_AS",
                    &[
                        ("identity", UserIdAs::Identity),
                        ("object_id", UserIdAs::ObjectId),
                    ],
                    UserIdAs::Identity,
                ),
                anonymous_is_identity: reader.choice(
                    "ANONYMOUS_USER_ID_AS",
                    &[("ignore", false), ("identity", true)],
                    false,
                ),
                clevertap_id_field: reader
                    .value("CLEVERTAP_ID_FIELD")
                    .unwrap_or(IdentityRules::default().clevertap_id_field),
            },
            properties: PropertyRules {
                omitted: reader.list("PROPERTIES_OMITTED").unwrap_or_default(),
                drop_unknown: reader.choice(
                    "UNKNOWN_FIELDS",
                    &[("send", false), ("drop", true)],
                    false,
                ),
            },
            profile: reader.profile(),
            revenue: reader.revenue(),
        };
        let dry_run = reader.dry_run();
        let event_queue_url = reader.queue_url("EVENT_QUEUE_URL");
        let dead_letter_queue_url = reader.queue_url("DEAD_LETTER_QUEUE_URL");
        let deduplication_table = reader.value("DEDUPLICATION_TABLE");
        let override_url = reader.api_url();
        let root_certificates = reader.value("SSL_CERT_FILE").map(PathBuf::from);
        let (Some(region), Some(account_id), Some(secret_id), []) =
            (region, account_id, secret_id, &reader.mistakes[..])
        else {
            return Err(reader.mistakes);
        };
        Ok(Self {
            upload_url: override_url.unwrap_or_else(|| format!("https://{}", region.host)),
            region,
            account_id,
            sandbox_account_id,
            dry_run,
            event_queue_url,
            dead_letter_queue_url,
            deduplication_table,
            secret_id,
            signature,
            rules,
            root_certificates,
            warnings: reader.warnings,
        })
    }

    /// What the function cannot promise for want of a resource.
    #[must_use]
    pub fn missing_guarantees(&self) -> Vec<String> {
        let mut lost = Vec::new();
        if self.deduplication_table.is_none() {
            lost.push(
                "DEDUPLICATION_TABLE is not set: an event whose answer is lost is relayed twice"
                    .to_owned(),
            );
        }
        if self.dead_letter_queue_url.is_none() {
            lost.push(
                "DEAD_LETTER_QUEUE_URL is not set: an event that can never be relayed holds its user's later events for 20 days"
                    .to_owned(),
            );
        }
        if self.event_queue_url.is_none() {
            lost.push(
                "EVENT_QUEUE_URL is not set: dead letters cannot be redriven, and messages that fail are not held back"
                    .to_owned(),
            );
        }
        lost
    }
}

/// The level of the function's own lines, from Lambda's setting; `INFO` if it says nothing known.
#[must_use]
pub fn log_level(lookup: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let level = lookup("AWS_LAMBDA_LOG_LEVEL").unwrap_or_default();
    match level.to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Looks a variable up in the process's environment.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

struct Reader<L> {
    lookup: L,
    mistakes: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn value(&self, variable: &str) -> Option<String> {
        let value = (self.lookup)(variable)?;
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    fn mistake(&mut self, variable: &'static str, problem: impl Into<String>) {
        self.mistakes.push(ConfigError {
            variable,
            problem: problem.into(),
        });
    }

    fn required(&mut self, variable: &'static str, what: &str) -> Option<String> {
        let value = self.value(variable);
        if value.is_none() {
            self.mistake(variable, format!("is not set; it takes {what}"));
        }
        value
    }

    fn choice<T: Copy>(&mut self, variable: &'static str, allowed: &[(&str, T)], default: T) -> T {
        let Some(value) = self.value(variable) else {
            return default;
        };
        let found = allowed
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&value));
        if let Some((_, choice)) = found {
            return *choice;
        }
        let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
        self.mistake(
            variable,
            format!("is `{value}`; it takes {}", words.join(" or ")),
        );
        default
    }

    /// A list separated by commas, semicolons or white space.
    fn list(&self, variable: &str) -> Option<HashSet<String>> {
        let value = self.value(variable)?;
        let words: HashSet<_> = split(&value).map(str::to_owned).collect();
        (!words.is_empty()).then_some(words)
    }

    fn region(&mut self) -> Option<Region> {
        const ALLOWED: &str = "a code (in1, sg1, us1, aps3, mec1, eu1, sk1), a region's name, \
             the API host, or the dashboard's address pasted from the browser";
        let value = self.required("CLEVERTAP_REGION", ALLOWED)?;
        if let Ok(region) = Region::parse(&value) {
            return Some(region);
        }
        self.mistake(
            "CLEVERTAP_REGION",
            format!("is `{value}`, which is no CleverTap region; it takes {ALLOWED}"),
        );
        None
    }

    fn account_id(&mut self, variable: &'static str) -> Option<HeaderValue> {
        let value = self.value(variable)?;
        if value.bytes().all(|byte| byte.is_ascii_graphic())
            && let Ok(id) = HeaderValue::from_str(&value)
        {
            return Some(id);
        }
        self.mistake(
            variable,
            "holds white space or a character that is not printable ASCII; it looks like ABC-123-4567",
        );
        None
    }

    fn sandbox(
        &mut self,
        account_id: Option<&HeaderValue>,
        sandbox_account_id: Option<&HeaderValue>,
    ) -> SandboxRule {
        const VARIABLE: &str = "SANDBOX_EVENTS";
        let is_test_account =
            account_id.is_some_and(|id| id.as_bytes().starts_with(TEST_ACCOUNT_PREFIX.as_bytes()));
        let given = self.value(VARIABLE).is_some();
        let relay = self.choice(
            VARIABLE,
            &[("drop", false), ("relay", true)],
            is_test_account,
        );
        if sandbox_account_id.is_some() {
            if given && !relay {
                self.mistake(
                    VARIABLE,
                    "is `drop`, but CLEVERTAP_SANDBOX_ACCOUNT_ID is set; leave one of the two out",
                );
            }
            if sandbox_account_id == account_id {
                self.mistake(
                    "CLEVERTAP_SANDBOX_ACCOUNT_ID",
                    "is the main account; leave it out, or name another account of the same region",
                );
            }
            return SandboxRule::OwnAccount;
        }
        match (relay, is_test_account) {
            (false, _) => SandboxRule::Drop,
            (true, false) => SandboxRule::EventsOnly,
            (true, true) => SandboxRule::Whole,
        }
    }

    fn queue_url(&mut self, variable: &'static str) -> Option<String> {
        let value = self.value(variable)?;
        let url = reqwest::Url::parse(&value).ok();
        if !url.is_some_and(|url| url.has_host() && url.path().len() > 1) {
            let told = "is no queue's URL; it looks like https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo";
            self.mistake(variable, told);
            return None;
        }
        Some(value)
    }

    fn dry_run(&mut self) -> bool {
        let dry_run = self.choice(
            "CLEVERTAP_DRY_RUN",
            &[("false", false), ("true", true)],
            false,
        );
        if dry_run {
            self.warnings.push(
                "CLEVERTAP_DRY_RUN is true: CleverTap stores nothing, and Purchasely does not send these events again"
                    .to_owned(),
            );
        }
        dry_run
    }

    fn profile(&mut self) -> ProfileRules {
        const VARIABLE: &str = "USER_PROPERTIES";
        let names = self.renames("USER_PROPERTY_NAMES", "property", str::to_owned, |name| {
            limits::check_profile_key(name)
        });
        let mut wanted = Vec::new();
        let value = self.value(VARIABLE);
        if value.is_none() {
            wanted = ProfileRules::default().properties;
        }
        let value = value.filter(|value| !value.eq_ignore_ascii_case("none"));
        for name in split(value.as_deref().unwrap_or_default()) {
            if wanted.iter().any(|other| other == name) {
                continue;
            }
            if !profile::is_known_property(name) {
                self.warnings.push(format!(
                    "{VARIABLE} names {name}, which Purchasely does not document: a typing error?"
                ));
            }
            wanted.push(name.to_owned());
        }
        let mut taken: HashMap<String, &str> = HashMap::new();
        for property in &wanted {
            let target = names.get(property).unwrap_or(property);
            if let Err(problem) = limits::check_profile_key(target) {
                let told = format!("`{target}` {problem}; give it a name in USER_PROPERTY_NAMES");
                self.mistake(VARIABLE, told);
            }
            if let Some(other) = taken.insert(limits::fold(target), property) {
                let told = format!("gives {other} and {property} one name (`{target}`)");
                self.mistake("USER_PROPERTY_NAMES", told);
            }
        }
        for property in names.keys().filter(|name| !wanted.contains(name)) {
            self.warnings.push(format!(
                "USER_PROPERTY_NAMES renames {property}, which USER_PROPERTIES does not keep: a typing error?"
            ));
        }
        ProfileRules {
            properties: wanted,
            names: names.into_iter().collect(),
        }
    }

    fn revenue(&mut self) -> RevenueRules {
        const VARIABLE: &str = "REVENUE_EVENT";
        let event = self
            .value(VARIABLE)
            .filter(|name| !name.eq_ignore_ascii_case("none"))
            // CleverTap compares without case and spaces; its revenue view knows one spelling.
            .map(|name| {
                if limits::fold(&name) == "charged" {
                    CHARGED.to_owned()
                } else {
                    name
                }
            });
        if let Some(Err(problem)) = event.as_deref().map(limits::check_event_name) {
            let name = event.as_deref().unwrap_or_default();
            self.mistake(VARIABLE, format!("`{name}` {problem}"));
        }
        if let Some(name) = &event
            && let Some((other, _)) = catalogue::EVENTS
                .iter()
                .find(|(other, _)| limits::fold(other) == limits::fold(name))
        {
            self.warnings.push(format!(
                "{VARIABLE} is the name of Purchasely's event {other}: they cannot be told apart in CleverTap"
            ));
        }
        RevenueRules {
            event,
            currency: self.choice(
                "REVENUE_CURRENCY",
                &[
                    ("integration", RevenueCurrency::Integration),
                    ("customer", RevenueCurrency::Customer),
                ],
                RevenueCurrency::Integration,
            ),
        }
    }

    fn signature(&mut self) -> SignaturePolicy {
        const TOLERANCE: &str = "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS";
        let required = self.choice(
            "PURCHASELY_SIGNATURE",
            &[("required", true), ("off", false)],
            true,
        );
        let seconds = self.value(TOLERANCE).map_or(Ok(0), |value| value.parse());
        if seconds.is_err() {
            self.mistake(TOLERANCE, "is not a whole number of seconds; 0 is no limit");
        }
        if !required {
            self.warnings.push(
                "PURCHASELY_SIGNATURE is off: anyone who knows the address can raise events in CleverTap"
                    .to_owned(),
            );
            return SignaturePolicy::Off;
        }
        let tolerance = seconds.ok().filter(|seconds| *seconds > 0);
        SignaturePolicy::Required {
            tolerance: tolerance.map(Duration::from_secs),
        }
    }

    fn switches(&mut self) -> EventSwitches {
        let enabled = self.events("EVENTS_ENABLED");
        let disabled = self.events("EVENTS_DISABLED");
        EventSwitches {
            enabled: enabled.filter(|events| !events.contains("ALL")),
            disabled: disabled
                .filter(|events| !events.contains("NONE"))
                .unwrap_or_default(),
        }
    }

    /// A list of Purchasely's event names, which are all upper case.
    fn events(&mut self, variable: &'static str) -> Option<HashSet<String>> {
        let events: HashSet<_> = self
            .list(variable)?
            .iter()
            .map(|name| name.to_uppercase())
            .collect();
        let mut unknown: Vec<_> = events
            .iter()
            .filter(|name| !matches!(name.as_str(), "ALL" | "NONE"))
            .filter(|name| !catalogue::is_known_event(name))
            .collect();
        unknown.sort();
        for name in unknown {
            self.warnings.push(format!(
                "{variable} names {name}, which is not in Purchasely's catalogue: a typing error?"
            ));
        }
        Some(events)
    }

    fn event_names(&mut self) -> HashMap<String, String> {
        const VARIABLE: &str = "EVENT_NAMES";
        let check = limits::check_event_name;
        let names = self.renames(VARIABLE, "event", str::to_uppercase, check);
        for source in names.keys().filter(|name| !catalogue::is_known_event(name)) {
            self.warnings.push(format!(
                "{VARIABLE} renames {source}, which is not in Purchasely's catalogue: a typing error?"
            ));
        }
        self.warn_of_merged_names(&names);
        names.into_iter().collect()
    }

    /// `SOURCE=Target;SOURCE=Target`, with semicolons or line breaks between.
    fn renames(
        &mut self,
        variable: &'static str,
        what: &str,
        source_form: impl Fn(&str) -> String,
        check: impl Fn(&str) -> Result<(), limits::NameProblem>,
    ) -> BTreeMap<String, String> {
        const FORM: &str = "it takes PURCHASELY_NAME=CleverTap name, separated by semicolons";
        let mut names = BTreeMap::new();
        let value = self.value(variable).unwrap_or_default();
        for pair in value.split([';', '\n']).map(str::trim) {
            if pair.is_empty() {
                continue;
            }
            let Some((source, target)) = pair.split_once('=') else {
                self.mistake(variable, format!("`{pair}` has no equals sign; {FORM}"));
                continue;
            };
            let (source, target) = (source_form(source.trim()), target.trim().to_owned());
            if source.is_empty() {
                self.mistake(variable, format!("`{pair}` names no {what}; {FORM}"));
            } else if let Err(problem) = check(&target) {
                self.mistake(
                    variable,
                    format!("the name for {source}, `{target}`, {problem}"),
                );
            } else if names.insert(source.clone(), target).is_some() {
                self.mistake(variable, format!("{source} is named twice"));
            }
        }
        names
    }

    /// CleverTap compares event names without case and spaces, so two of ours may become one there.
    fn warn_of_merged_names(&mut self, renamed: &BTreeMap<String, String>) {
        let kept = catalogue::EVENTS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !renamed.contains_key(*name))
            .map(|name| (name, name));
        let renamed = renamed
            .iter()
            .map(|(from, to)| (from.as_str(), to.as_str()));
        let mut seen: HashMap<String, &str> = HashMap::new();
        for (source, target) in kept.chain(renamed) {
            if let Some(other) = seen.insert(limits::fold(target), source) {
                self.warnings.push(format!(
                    "EVENT_NAMES gives {source} and {other} one name in CleverTap (`{target}`): they cannot be told apart there"
                ));
            }
        }
    }

    fn api_url(&mut self) -> Option<String> {
        const VARIABLE: &str = "CLEVERTAP_API_URL";
        let value = self.value(VARIABLE)?;
        let Ok(url) = reqwest::Url::parse(&value) else {
            self.mistake(
                VARIABLE,
                "is no URL; it takes one like https://in1.api.clevertap.com",
            );
            return None;
        };
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !bare || !url.has_host() {
            self.mistake(
                VARIABLE,
                "must be scheme and host only, like https://in1.api.clevertap.com",
            );
            return None;
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            self.mistake(
                VARIABLE,
                "must be https, or http on this machine's loopback address: the passcode travels there",
            );
            return None;
        }
        Some(url.as_str().trim_end_matches('/').to_owned())
    }
}

/// The words of a list separated by commas, semicolons or white space.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &[(&str, &str)] = &[
        ("CLEVERTAP_REGION", "in1"),
        ("CLEVERTAP_ACCOUNT_ID", "ABC-123-4567"),
        ("SECRET_ID", "relay"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
        Config::from_env(|name| {
            let found = variables.iter().rev().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn complete(more: &[(&str, &str)]) -> Config {
        read(&[COMPLETE, more].concat()).unwrap()
    }

    #[track_caller]
    fn check_mistake(more: &[(&str, &str)], expected: &str) {
        let mistakes = read(&[COMPLETE, more].concat()).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(told, [expected]);
    }

    #[test]
    fn three_settings_are_enough() {
        let config = complete(&[]);
        assert_eq!(config.upload_url, "https://in1.api.clevertap.com");
        assert_eq!(config.region.code, "in1");
        assert_eq!(
            config.signature,
            SignaturePolicy::Required { tolerance: None }
        );
        assert_eq!(config.rules, Rules::default());
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn five_mistakes_are_told_at_once() {
        let mistakes = read(&[
            ("CLEVERTAP_REGION", "mars"),
            ("CLEVERTAP_ACCOUNT_ID", "A B"),
            ("PURCHASELY_SIGNATURE", "maybe"),
            ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "soon"),
        ])
        .unwrap_err();
        let variables: Vec<_> = mistakes.iter().map(|mistake| mistake.variable).collect();
        assert_eq!(
            variables,
            [
                "CLEVERTAP_REGION",
                "CLEVERTAP_ACCOUNT_ID",
                "SECRET_ID",
                "PURCHASELY_SIGNATURE",
                "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS"
            ]
        );
    }

    #[test]
    fn an_empty_variable_is_an_absent_one() {
        let config = complete(&[("EVENTS_ENABLED", " "), ("SANDBOX_EVENTS", "")]);
        assert_eq!(config.rules, Rules::default());
    }

    #[test]
    fn a_mistake_tells_what_is_allowed() {
        check_mistake(
            &[("UNKNOWN_FIELDS", "keep")],
            "UNKNOWN_FIELDS: is `keep`; it takes send or drop",
        );
        check_mistake(
            &[("EVENT_NAMES", "ACTIVATE")],
            "EVENT_NAMES: `ACTIVATE` has no equals sign; it takes PURCHASELY_NAME=CleverTap name, separated by semicolons",
        );
    }

    #[test]
    fn lists_are_separated_by_comma_semicolon_or_space() {
        let config = complete(&[
            (
                "EVENTS_ENABLED",
                "activate, DEACTIVATE;TRIAL_STARTED\nTRIAL_CONVERTED",
            ),
            ("EVENTS_DISABLED", "TRIAL_STARTED"),
            ("PROPERTIES_OMITTED", "device_id,audience"),
        ]);
        let events = &config.rules.events;
        for (name, raised) in [
            ("ACTIVATE", true),
            ("DEACTIVATE", true),
            ("TRIAL_CONVERTED", true),
            ("TRIAL_STARTED", false),
            ("RENEWAL_DISABLED", false),
        ] {
            assert_eq!(events.raises(name), raised, "{name}");
        }
        assert!(config.rules.properties.omitted.contains("audience"));
        assert!(
            complete(&[("EVENTS_ENABLED", "all")])
                .rules
                .events
                .raises("ANY")
        );
        assert!(
            complete(&[("EVENTS_DISABLED", "none")])
                .rules
                .events
                .raises("ANY")
        );
    }

    #[test]
    fn a_name_not_in_the_catalogue_is_warned_of() {
        let config = complete(&[("EVENTS_DISABLED", "TRIAL_STRATED")]);
        assert_eq!(
            config.warnings,
            [
                "EVENTS_DISABLED names TRIAL_STRATED, which is not in Purchasely's catalogue: a typing error?"
            ]
        );
        assert!(!config.rules.events.raises("TRIAL_STRATED"));
    }

    #[test]
    fn events_are_renamed() {
        let config = complete(&[(
            "EVENT_NAMES",
            "SUBSCRIPTION_STARTED=Subscription Started; trial_started = Trial Started;",
        )]);
        let names = &config.rules.event_names;
        assert_eq!(names["SUBSCRIPTION_STARTED"], "Subscription Started");
        assert_eq!(names["TRIAL_STARTED"], "Trial Started");
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn an_impossible_new_name_is_refused() {
        for (value, expected) in [
            (
                "ACTIVATE=App Launched",
                "EVENT_NAMES: the name for ACTIVATE, `App Launched`, is a name that CleverTap keeps for its own events",
            ),
            (
                "ACTIVATE=",
                "EVENT_NAMES: the name for ACTIVATE, ``, is empty",
            ),
            (
                "ACTIVATE=a:b",
                "EVENT_NAMES: the name for ACTIVATE, `a:b`, holds a character that CleverTap does not allow in names (% > < ! | & . : ; $ ' \" \\ and, for profiles, #)",
            ),
            (
                "ACTIVATE=A;ACTIVATE=B",
                "EVENT_NAMES: ACTIVATE is named twice",
            ),
        ] {
            check_mistake(&[("EVENT_NAMES", value)], expected);
        }
    }

    #[test]
    fn names_that_clevertap_cannot_tell_apart_are_warned_of() {
        let config = complete(&[("EVENT_NAMES", "ACTIVATE=Access;DEACTIVATE=acc ess")]);
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        let config = complete(&[("EVENT_NAMES", "ACTIVATE=trial_started")]);
        assert_eq!(
            config.warnings,
            [
                "EVENT_NAMES gives ACTIVATE and TRIAL_STARTED one name in CleverTap (`trial_started`): they cannot be told apart there"
            ]
        );
    }

    #[test]
    fn sandbox_events_have_a_rule() {
        const TEST: (&str, &str) = ("CLEVERTAP_ACCOUNT_ID", "TEST-123-4567");
        const RELAY: (&str, &str) = ("SANDBOX_EVENTS", "relay");
        const DROP: (&str, &str) = ("SANDBOX_EVENTS", "drop");
        const OWN: (&str, &str) = ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-765-4321");
        for (settings, expected) in [
            (&[][..], SandboxRule::Drop),
            (&[RELAY], SandboxRule::EventsOnly),
            (&[TEST], SandboxRule::Whole),
            (&[TEST, DROP], SandboxRule::Drop),
            (&[OWN], SandboxRule::OwnAccount),
            (&[OWN, RELAY], SandboxRule::OwnAccount),
        ] {
            assert_eq!(complete(settings).rules.sandbox, expected, "{settings:?}");
        }
        check_mistake(
            &[OWN, DROP],
            "SANDBOX_EVENTS: is `drop`, but CLEVERTAP_SANDBOX_ACCOUNT_ID is set; leave one of the two out",
        );
        check_mistake(
            &[("CLEVERTAP_SANDBOX_ACCOUNT_ID", "ABC-123-4567")],
            "CLEVERTAP_SANDBOX_ACCOUNT_ID: is the main account; leave it out, or name another account of the same region",
        );
    }

    #[test]
    fn profile_properties_are_chosen_and_renamed() {
        let config = complete(&[
            ("USER_PROPERTIES", "plan, device_id;plan"),
            ("USER_PROPERTY_NAMES", "plan=Current Plan"),
        ]);
        let profile = &config.rules.profile;
        assert_eq!(profile.properties, ["plan", "device_id"]);
        assert_eq!(profile.names["plan"], "Current Plan");
        assert_eq!(config.warnings, [""; 0]);
        let off = complete(&[("USER_PROPERTIES", "none")]);
        assert_eq!(off.rules.profile.properties, [""; 0]);
        let typo = complete(&[
            ("USER_PROPERTIES", "plna"),
            ("USER_PROPERTY_NAMES", "store=Shop"),
        ]);
        assert_eq!(
            typo.warnings,
            [
                "USER_PROPERTIES names plna, which Purchasely does not document: a typing error?",
                "USER_PROPERTY_NAMES renames store, which USER_PROPERTIES does not keep: a typing error?",
            ]
        );
    }

    #[test]
    fn an_impossible_profile_property_is_refused() {
        check_mistake(
            &[("USER_PROPERTY_NAMES", "plan=Email")],
            "USER_PROPERTY_NAMES: the name for plan, `Email`, is a profile field with a meaning of its own in CleverTap",
        );
        check_mistake(
            &[("USER_PROPERTY_NAMES", "plan=Thing;store=thing")],
            "USER_PROPERTY_NAMES: gives plan and store one name (`thing`)",
        );
        check_mistake(
            &[("USER_PROPERTIES", "phone")],
            "USER_PROPERTIES: `phone` is a profile field with a meaning of its own in CleverTap; give it a name in USER_PROPERTY_NAMES",
        );
    }

    #[test]
    fn revenue_is_off_unless_named() {
        assert_eq!(complete(&[]).rules.revenue, RevenueRules::default());
        assert_eq!(
            complete(&[("REVENUE_EVENT", "None")]).rules.revenue.event,
            None
        );
        let config = complete(&[
            ("REVENUE_EVENT", "Charged"),
            ("REVENUE_CURRENCY", "customer"),
        ]);
        assert_eq!(config.rules.revenue.event.as_deref(), Some("Charged"));
        assert_eq!(config.rules.revenue.currency, RevenueCurrency::Customer);
        let spelled = complete(&[("REVENUE_EVENT", "CHARGED")]);
        assert_eq!(spelled.rules.revenue.event.as_deref(), Some("Charged"));
        let taken = complete(&[("REVENUE_EVENT", "Trial_Started")]);
        assert_eq!(taken.warnings.len(), 1);
        check_mistake(
            &[("REVENUE_EVENT", "Stayed")],
            "REVENUE_EVENT: `Stayed` is a name that CleverTap keeps for its own events",
        );
    }

    #[test]
    fn a_queue_is_told_by_its_url() {
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo";
        let config = complete(&[
            ("DEAD_LETTER_QUEUE_URL", url),
            ("DEDUPLICATION_TABLE", "claims"),
        ]);
        assert_eq!(config.dead_letter_queue_url.as_deref(), Some(url));
        assert_eq!(config.deduplication_table.as_deref(), Some("claims"));
        check_mistake(
            &[("EVENT_QUEUE_URL", "events.fifo")],
            "EVENT_QUEUE_URL: is no queue's URL; it looks like https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo",
        );
    }

    #[test]
    fn a_dry_run_is_said_loudly() {
        let config = complete(&[("CLEVERTAP_DRY_RUN", "TRUE")]);
        assert!(config.dry_run);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn the_signature_policy_is_read_and_its_absence_is_said_loudly() {
        let config = complete(&[("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "300")]);
        let tolerance = Some(Duration::from_mins(5));
        assert_eq!(config.signature, SignaturePolicy::Required { tolerance });
        let config = complete(&[("PURCHASELY_SIGNATURE", "off")]);
        assert_eq!(config.signature, SignaturePolicy::Off);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn the_address_may_be_overridden_only_where_the_passcode_is_safe() {
        for (value, expected) in [
            ("https://proxy.example.com/", "https://proxy.example.com"),
            ("http://localhost:9100", "http://localhost:9100"),
            ("http://127.0.0.1:9100", "http://127.0.0.1:9100"),
            ("http://[::1]:9100", "http://[::1]:9100"),
        ] {
            let config = complete(&[("CLEVERTAP_API_URL", value)]);
            assert_eq!(config.upload_url, expected);
        }
        for value in [
            "in1.api.clevertap.com",
            "http://in1.api.clevertap.com",
            "http://127.0.0.1.example.com",
            "https://in1.api.clevertap.com/1/upload",
            "https://user:word@in1.api.clevertap.com",
            "https://in1.api.clevertap.com?x",
            "ftp://localhost",
        ] {
            let mistakes = read(&[COMPLETE, &[("CLEVERTAP_API_URL", value)]].concat()).unwrap_err();
            assert_eq!(mistakes[0].variable, "CLEVERTAP_API_URL", "{value}");
        }
    }

    #[test]
    fn every_documented_variable_is_read_and_no_other() {
        let asked = std::cell::RefCell::new(HashSet::new());
        let _ = Config::from_env(|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        });
        let documented: HashSet<_> = SETTINGS
            .iter()
            .map(|setting| setting.name.to_owned())
            .collect();
        assert_eq!(asked.into_inner(), documented);
    }

    #[test]
    fn the_log_level_is_lambdas() {
        assert_eq!(log_level(|_| None), LevelFilter::INFO);
        assert_eq!(log_level(|_| Some("debug".into())), LevelFilter::DEBUG);
        assert_eq!(log_level(|_| Some("FATAL".into())), LevelFilter::ERROR);
    }
}
