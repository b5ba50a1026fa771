//! Tests of the settings: valid and invalid ones, what is warned of, and the defaults.

use super::*;
use crate::mapping::SandboxRule;
use crate::mapping::revenue::{RevenueCurrency, RevenueRules};
use std::cell::RefCell;
use std::collections::HashSet;

type Variables<'v> = &'v [(&'v str, &'v str)];

const REQUIRED: Variables<'_> = &[
    ("CLEVERTAP_REGION", "in1"),
    ("CLEVERTAP_ACCOUNT_ID", "ABC-123-4567"),
    ("SECRET_ID", "relay"),
];

/// The settings with `variables` and the required ones, if they are not among them.
fn read(variables: Variables<'_>) -> Result<Config, Vec<ConfigError>> {
    Config::from_env(|name| {
        let mut all = variables.iter().chain(REQUIRED);
        let found = all.find(|(other, _)| *other == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[track_caller]
fn config(variables: Variables<'_>) -> Config {
    read(variables).unwrap()
}

#[track_caller]
fn check_errors(variables: Variables<'_>, expected: &[&str]) {
    let errors = read(variables).expect_err("an invalid setting");
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected, "{variables:?}");
}

#[track_caller]
fn check_warnings(variables: Variables<'_>, expected: &[&str]) {
    assert_eq!(config(variables).warnings, expected, "{variables:?}");
}

#[test]
fn three_settings_are_enough() {
    for variables in [&[][..], &[("EVENTS_ENABLED", " "), ("SANDBOX_EVENTS", "")]] {
        let config = config(variables);
        assert_eq!(config.upload_url, "https://in1.api.clevertap.com");
        assert_eq!(config.region.code, "in1");
        assert_eq!(config.warnings, [""; 0]);
    }
}

#[test]
fn a_variable_that_is_not_set_stands_for_its_default() {
    let absent = config(&[]);
    // The others are words about what happens without a value.
    let values = SETTINGS.iter().filter(|(_, default)| !default.contains(' '));
    for default in values {
        let stated = config(&[*default]);
        assert_eq!(stated.rules, absent.rules, "{default:?}");
        assert_eq!(stated.signature, absent.signature, "{default:?}");
        assert_eq!(
            (stated.delivery, stated.dry_run),
            (absent.delivery, absent.dry_run),
            "{default:?}"
        );
    }
}

#[test]
fn all_errors_are_reported_at_once_with_what_is_allowed() {
    const REGIONS: &str = "a code (in1, sg1, us1, aps3, mec1, eu1, sk1), a region's name, the API host, or the dashboard's address copied from the browser";
    check_errors(
        &[
            ("CLEVERTAP_REGION", "mars"),
            ("CLEVERTAP_ACCOUNT_ID", "A B"),
            ("SECRET_ID", " "),
            ("PURCHASELY_SIGNATURE", "maybe"),
            ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "soon"),
            ("UNKNOWN_FIELDS", "keep"),
            ("EVENT_QUEUE_URL", "events.fifo"),
        ],
        &[
            &format!("CLEVERTAP_REGION: `mars` is not a CleverTap region; set it to {REGIONS}"),
            "CLEVERTAP_ACCOUNT_ID: contains white space or a character that is not printable ASCII; it looks like ABC-123-4567",
            "SECRET_ID: is not set; set it to the name or ARN of the secret in Secrets Manager",
            "PURCHASELY_SIGNATURE: is `maybe`; set it to required or off",
            "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS: is not a whole number of seconds; 0 is no limit",
            "UNKNOWN_FIELDS: is `keep`; set it to send or drop",
            "EVENT_QUEUE_URL: is not a queue's URL; it looks like https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo",
        ],
    );
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    check_errors(
        &[("EVENTS_DISABLED", "none, TRIAL_STARTED")],
        &["EVENTS_DISABLED: lists `none` beside names; remove one of the two"],
    );
    let same =
        "is also the name of the event TRIAL_STARTED, which would count too; use another name";
    check_errors(
        &[("REVENUE_EVENT", "Trial_Started")],
        &[&format!("REVENUE_EVENT: `Trial_Started` {same}")],
    );
    check_errors(
        &[
            ("REVENUE_EVENT", "Paid"),
            ("REFUND_EVENT", "Refunded"),
            ("EVENT_NAMES", "TRIAL_STARTED=pa id;NEW=refunded;OTHER=char ged;ACTIVATE=Fine"),
        ],
        &[
            "EVENT_NAMES: the name for NEW, `refunded`, is also the name in REFUND_EVENT; use another name",
            "EVENT_NAMES: the name for OTHER, `char ged`, is CleverTap's event for revenue; set REVENUE_EVENT to record it",
            "EVENT_NAMES: the name for TRIAL_STARTED, `pa id`, is also the name in REVENUE_EVENT; use another name",
        ],
    );
    let queue = "https://sqs.eu-west-1.amazonaws.com/1/events.fifo";
    check_errors(
        &[("EVENT_QUEUE_URL", queue), ("DEAD_LETTER_QUEUE_URL", queue)],
        &[
            "DEAD_LETTER_QUEUE_URL: is the event queue, which would deliver each dead letter again at once; set it to another queue",
        ],
    );
    let revenue = "counts as revenue, which a refund must not; use another name";
    check_errors(&[("REFUND_EVENT", "charged")], &[&format!("REFUND_EVENT: `Charged` {revenue}")]);
    check_errors(
        &[("REFUND_EVENT", "pa id"), ("REVENUE_EVENT", "Paid")],
        &[&format!("REFUND_EVENT: `pa id` {revenue}")],
    );
    check_errors(
        &[("REFUND_EVENT", "Trial_Started")],
        &[&format!("REFUND_EVENT: `Trial_Started` {same}")],
    );
    check_errors(
        &[("DELIVERY", "queue"), ("CLEVERTAP_DRY_RUN", "true")],
        &[
            "EVENT_QUEUE_URL: is not set; set it to the queue's URL, or set DELIVERY to direct",
            "CLEVERTAP_DRY_RUN: is `true` and DELIVERY is `queue`; set it to false, or DELIVERY to direct",
        ],
    );
}

#[test]
fn all_events_can_be_disabled() {
    let rules = config(&[("EVENTS_DISABLED", "ALL")]).rules;
    assert!(!rules.events.raises("ACTIVATE") && !rules.events.raises("NEW"));
}

#[test]
fn lists_are_separated_by_comma_semicolon_or_white_space() {
    let rules = config(&[
        ("EVENTS_ENABLED", "activate, DEACTIVATE;TRIAL_STARTED\nTRIAL_CONVERTED"),
        ("EVENTS_DISABLED", "TRIAL_STARTED"),
        ("PROPERTIES_OMITTED", "device_id,audience"),
    ])
    .rules;
    for (name, is_raised) in [
        ("ACTIVATE", true),
        ("DEACTIVATE", true),
        ("TRIAL_CONVERTED", true),
        ("TRIAL_STARTED", false),
        ("RENEWAL_DISABLED", false),
    ] {
        assert_eq!(rules.events.raises(name), is_raised, "{name}");
    }
    let omitted = HashSet::from(["device_id", "audience"].map(str::to_owned));
    assert_eq!(rules.properties.omitted, omitted);
}

#[test]
fn events_and_profile_properties_are_renamed() {
    let config = config(&[
        (
            "EVENT_NAMES",
            "SUBSCRIPTION_STARTED=Subscription Started; trial_started = Trial Started;",
        ),
        ("USER_PROPERTIES", "plan, device_id;plan"),
        ("USER_PROPERTY_NAMES", "plan=Current Plan"),
    ]);
    let names = &config.rules.event_names;
    assert_eq!(names.len(), 2);
    assert_eq!(names["SUBSCRIPTION_STARTED"], "Subscription Started");
    assert_eq!(names["TRIAL_STARTED"], "Trial Started");
    let profile = &config.rules.profile;
    assert_eq!(profile.properties, ["plan", "device_id"]);
    assert_eq!(profile.names["plan"], "Current Plan");
    assert_eq!(config.warnings, [""; 0]);
    let off = self::config(&[("USER_PROPERTIES", "none")]);
    assert_eq!(off.rules.profile.properties, [""; 0]);
}

#[test]
fn an_invalid_name_is_an_error() {
    for (variable, value, expected) in [
        (
            "EVENT_NAMES",
            "ACTIVATE",
            "EVENT_NAMES: `ACTIVATE` has no equals sign; write PURCHASELY_NAME=CleverTap name, separated by semicolons",
        ),
        (
            "EVENT_NAMES",
            "=A",
            "EVENT_NAMES: `=A` has no name before the equals sign; write PURCHASELY_NAME=CleverTap name, separated by semicolons",
        ),
        (
            "EVENT_NAMES",
            "ACTIVATE=App Launched",
            "EVENT_NAMES: the name for ACTIVATE, `App Launched`, is a name that CleverTap reserves for its own events; use another name",
        ),
        (
            "EVENT_NAMES",
            "ACTIVATE=",
            "EVENT_NAMES: the name for ACTIVATE, ``, is empty; use another name",
        ),
        (
            "EVENT_NAMES",
            "ACTIVATE=A,DEACTIVATE=B",
            "EVENT_NAMES: `ACTIVATE=A,DEACTIVATE=B` has two equals signs; write PURCHASELY_NAME=CleverTap name, separated by semicolons",
        ),
        (
            "USER_PROPERTY_NAMES",
            "plan=A product=B",
            "USER_PROPERTY_NAMES: `plan=A product=B` has two equals signs; write PURCHASELY_NAME=CleverTap name, separated by semicolons",
        ),
        (
            "EVENT_NAMES",
            "ACTIVATE=a:b",
            "EVENT_NAMES: the name for ACTIVATE, `a:b`, contains a character that CleverTap does not allow in names (% > < ! | & . : ; $ ' \" \\ and, for profiles, #); use another name",
        ),
        (
            "EVENT_NAMES",
            "ACTIVATE=A;activate=B",
            "EVENT_NAMES: ACTIVATE is renamed twice; keep one of the two",
        ),
        (
            "USER_PROPERTY_NAMES",
            "plan=Email",
            "USER_PROPERTY_NAMES: the name for plan, `Email`, is a system field of CleverTap's profiles; use another name",
        ),
        (
            "USER_PROPERTY_NAMES",
            "plan=Thing;store=thing",
            "USER_PROPERTY_NAMES: gives plan and store the same name, `thing`; use another name",
        ),
        (
            "USER_PROPERTIES",
            "phone",
            "USER_PROPERTIES: `phone` is a system field of CleverTap's profiles; give it another name in USER_PROPERTY_NAMES",
        ),
        (
            "REVENUE_EVENT",
            "Stayed",
            "REVENUE_EVENT: `Stayed` is a name that CleverTap reserves for its own events; use another name",
        ),
        (
            "REFUND_EVENT",
            "Stayed",
            "REFUND_EVENT: `Stayed` is a name that CleverTap reserves for its own events; use another name",
        ),
        (
            "REVENUE_CURRENCY",
            "euro",
            "REVENUE_CURRENCY: is `euro`; set it to the three letters of a currency, such as EUR, or to integration or customer",
        ),
        (
            "REVENUE_CURRENCY",
            "E1R",
            "REVENUE_CURRENCY: is `e1r`; set it to the three letters of a currency, such as EUR, or to integration or customer",
        ),
    ] {
        check_errors(&[(variable, value)], &[expected]);
    }
}

#[test]
fn a_likely_mistake_is_a_warning() {
    check_warnings(
        &[("EVENTS_DISABLED", "TRIAL_STRATED")],
        &[
            "EVENTS_DISABLED lists TRIAL_STRATED, which Purchasely does not document: check the spelling",
        ],
    );
    check_warnings(
        &[("EVENT_NAMES", "TRIAL_STRATED=Trial")],
        &[
            "EVENT_NAMES renames TRIAL_STRATED, which Purchasely does not document: check the spelling",
        ],
    );
    check_warnings(
        &[("EVENT_NAMES", "ACTIVATE=Access;DEACTIVATE=acc ess")],
        &[
            "EVENT_NAMES gives DEACTIVATE and ACTIVATE the same name, `acc ess`: CleverTap cannot distinguish them",
        ],
    );
    check_warnings(
        &[("EVENT_NAMES", "ACTIVATE=trial_started")],
        &[
            "EVENT_NAMES gives ACTIVATE and TRIAL_STARTED the same name, `trial_started`: CleverTap cannot distinguish them",
        ],
    );
    check_warnings(
        &[("USER_PROPERTIES", "plna"), ("USER_PROPERTY_NAMES", "store=Shop")],
        &[
            "USER_PROPERTIES lists plna, which Purchasely does not document: check the spelling",
            "USER_PROPERTY_NAMES renames store, which USER_PROPERTIES does not list: check the spelling",
        ],
    );
    let misspelled = config(&[("EVENTS_DISABLED", "TRIAL_STRATED")]);
    assert!(!misspelled.rules.events.raises("TRIAL_STRATED"));
}

#[test]
fn a_risky_setting_is_a_warning() {
    let off = [("PURCHASELY_SIGNATURE", "off")];
    assert_eq!(config(&off).signature, SignaturePolicy::Off);
    check_warnings(
        &off,
        &[
            "PURCHASELY_SIGNATURE is off: anyone who knows the address can raise events in CleverTap",
        ],
    );
    let dry_run = [("CLEVERTAP_DRY_RUN", "TRUE")];
    assert!(config(&dry_run).dry_run);
    check_warnings(
        &dry_run,
        &[
            "CLEVERTAP_DRY_RUN is true: CleverTap stores nothing, and Purchasely does not send these events again",
        ],
    );
}

#[test]
fn a_tolerance_that_retries_or_claims_do_not_fit_is_a_warning() {
    const NAME: &str = "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS";
    const SHORT: &str = "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS is below 21 days: Purchasely's later retries may be rejected if it does not sign them again";
    const LONG: &str = "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS is over 30 days: a recorded webhook can raise its event again once its claim has expired";
    for (seconds, expected) in [
        ("0", &[][..]),
        ("1", &[SHORT]),
        ("1814399", &[SHORT]),
        ("1814400", &[]),
        ("2592000", &[]),
        ("2592001", &[LONG]),
    ] {
        check_warnings(&[(NAME, seconds)], expected);
    }
    check_warnings(
        &[("PROPERTIES_OMITTED", "Attribution.utm_source, device_ID;emial purchased_at_ms")],
        &["PROPERTIES_OMITTED lists emial, which Purchasely does not document: check the spelling"],
    );
}

#[test]
fn a_tolerance_is_in_seconds() {
    let config = config(&[("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "300")]);
    let tolerance = Some(Duration::from_mins(5));
    assert_eq!(config.signature, SignaturePolicy::Required { tolerance });
}

#[test]
fn account_ids_and_sandbox_events_choose_the_sandbox_rule() {
    const TEST: (&str, &str) = ("CLEVERTAP_ACCOUNT_ID", "TEST-123-4567");
    const RELAY: (&str, &str) = ("SANDBOX_EVENTS", "relay");
    const DROP: (&str, &str) = ("SANDBOX_EVENTS", "drop");
    const OWN: (&str, &str) = ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-765-4321");
    for (variables, expected) in [
        (&[DROP][..], SandboxRule::Drop),
        (&[RELAY], SandboxRule::EventsOnly),
        (&[TEST], SandboxRule::Whole),
        (&[TEST, RELAY], SandboxRule::Whole),
        (&[TEST, DROP], SandboxRule::Drop),
        (&[OWN], SandboxRule::OwnAccount),
        (&[OWN, RELAY], SandboxRule::OwnAccount),
    ] {
        let rules = config(variables).rules;
        assert_eq!(rules.sandbox, expected, "{variables:?}");
        assert_eq!(rules.is_test_account, variables.contains(&TEST), "{variables:?}");
    }
    check_errors(
        &[OWN, DROP],
        &[
            "SANDBOX_EVENTS: is `drop`, but CLEVERTAP_SANDBOX_ACCOUNT_ID is set; remove one of the two",
        ],
    );
    check_errors(
        &[("CLEVERTAP_SANDBOX_ACCOUNT_ID", "ABC-123-4567")],
        &[
            "CLEVERTAP_SANDBOX_ACCOUNT_ID: is the main account; remove it, or set it to another account of the same region",
        ],
    );
}

#[test]
fn revenue_is_off_unless_it_has_a_name() {
    for (variables, event, refund_event, currency) in [
        (&[][..], None, None, RevenueCurrency::Integration),
        (
            &[("REVENUE_EVENT", "None"), ("REFUND_EVENT", "NONE")],
            None,
            None,
            RevenueCurrency::Integration,
        ),
        (
            &[("REVENUE_EVENT", "CHARGED"), ("REVENUE_CURRENCY", "customer")],
            Some("Charged"),
            None,
            RevenueCurrency::Customer,
        ),
        (
            &[("REFUND_EVENT", "Refunded"), ("REVENUE_CURRENCY", "Eur")],
            None,
            Some("Refunded"),
            RevenueCurrency::Code("eur".to_owned()),
        ),
    ] {
        let expected = RevenueRules {
            event: event.map(str::to_owned),
            refund_event: refund_event.map(str::to_owned),
            currency,
        };
        assert_eq!(config(variables).rules.revenue, expected);
    }
}

#[test]
fn a_missing_queue_or_table_is_a_missing_guarantee() {
    let queues = [
        ("DEAD_LETTER_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/dead.fifo"),
        ("EVENT_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/events.fifo"),
        ("DEDUPLICATION_TABLE", "claims"),
    ];
    let complete = config(&queues);
    assert_eq!(complete.missing_guarantees(), [""; 0]);
    assert_eq!(complete.dead_letter_queue_url.as_deref(), Some(queues[0].1));
    assert_eq!(complete.event_queue_url.as_deref(), Some(queues[1].1));
    assert_eq!(complete.deduplication_table.as_deref(), Some("claims"));
    assert_eq!(config(&[]).missing_guarantees().len(), 3);
    let missing = config(&[("DELIVERY", "queue"), queues[1]]).missing_guarantees();
    assert!(missing[1].ends_with("is then lost"), "{missing:?}");
    for (variable, value) in queues {
        let missing = config(&[(variable, value)]).missing_guarantees();
        assert_eq!(missing.len(), 2);
        assert!(!missing.concat().contains(&format!("{variable} is not set")));
    }
}

#[test]
fn the_upload_address_is_overridden_only_where_the_passcode_is_safe() {
    const NOT_A_URL: &str = "is not a URL";
    const TOO_MUCH: &str = "is not scheme and host only";
    const UNSAFE: &str = "must be https, or http on a loopback address";
    for (value, expected) in [
        ("https://proxy.example.com/", "https://proxy.example.com"),
        ("http://localhost:9100", "http://localhost:9100"),
        ("http://127.0.0.1:9100", "http://127.0.0.1:9100"),
        ("http://[::1]:9100", "http://[::1]:9100"),
    ] {
        let config = config(&[("CLEVERTAP_API_URL", value)]);
        assert_eq!(config.upload_url, expected);
    }
    for (value, expected) in [
        ("in1.api.clevertap.com", NOT_A_URL),
        ("mailto:me@example.com", TOO_MUCH),
        ("https://in1.api.clevertap.com/1/upload", TOO_MUCH),
        ("https://user:word@in1.api.clevertap.com", TOO_MUCH),
        ("https://in1.api.clevertap.com?x", TOO_MUCH),
        ("https://in1.api.clevertap.com#x", TOO_MUCH),
        ("http://in1.api.clevertap.com", UNSAFE),
        ("http://127.0.0.1.example.com", UNSAFE),
        ("ftp://localhost", UNSAFE),
    ] {
        let errors = read(&[("CLEVERTAP_API_URL", value)]).unwrap_err();
        assert_eq!(errors[0].variable, "CLEVERTAP_API_URL", "{value}");
        assert!(errors[0].problem.starts_with(expected), "{value}: {errors:?}");
    }
}

#[test]
fn webhooks_are_forwarded_only_where_nobody_else_reads_them() {
    const NAME: &str = "FORWARD_URL";
    for url in ["https://backend.example.com/hook?token=t", "http://127.0.0.1:9100/hook"] {
        assert_eq!(config(&[(NAME, url)]).forward_url.as_deref(), Some(url));
    }
    for (url, expected) in [
        ("backend.example.com", "is not a URL"),
        ("http://backend.example.com/hidden", "must be https"),
        ("mailto:hidden@example.com", "must be https"),
        ("https://me:hidden@backend.example.com", "has a user"),
        ("https://backend.example.com/#hidden", "has a user"),
    ] {
        let errors = read(&[(NAME, url)]).unwrap_err();
        assert_eq!(errors[0].variable, NAME, "{url}");
        assert!(errors[0].problem.starts_with(expected), "{url}: {errors:?}");
        assert!(!errors[0].problem.contains("hidden"), "{errors:?}");
    }
    let unsigned = [(NAME, "https://backend.example.com"), ("PURCHASELY_SIGNATURE", "off")];
    assert_eq!(read(&unsigned).unwrap_err()[0].variable, NAME);
}

#[test]
fn exactly_the_documented_variables_are_read() {
    let read = RefCell::new(HashSet::new());
    let _ = Config::from_env(|name| {
        read.borrow_mut().insert(name.to_owned());
        None
    });
    let documented = SETTINGS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(read.into_inner(), documented.collect());
}

#[test]
fn the_log_level_is_lambdas() {
    for (level, expected) in [
        (None, LevelFilter::INFO),
        (Some("debug"), LevelFilter::DEBUG),
        (Some("FATAL"), LevelFilter::ERROR),
    ] {
        assert_eq!(log_level(|_| level.map(str::to_owned)), expected);
    }
}
