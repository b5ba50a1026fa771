//! Tests of which amount is the revenue, and of what it is sent with.

use super::*;
use crate::mapping::properties::{self, PropertyRules};
use crate::purchasely::Verified;

const BOTH: &str = r#""amount_in_usd":65,"amount_in_customer_currency":"59.99","customer_currency":"eur","store_transaction_id":"t-1","event_id":"e-1","plan":"yearly""#;

fn code(code: &str) -> RevenueCurrency {
    RevenueCurrency::Code(code.to_owned())
}

/// The decision about a transaction: the variant, or the event with its properties.
fn decision(event: &str, currency: RevenueCurrency, omitted: &[&str], fields: &str) -> String {
    let event = Some(event.to_owned());
    decision_by(&RevenueRules { event, refund_event: None, currency }, omitted, fields)
}

fn decision_by(rules: &RevenueRules, omitted: &[&str], fields: &str) -> String {
    let body = format!(r#"{{"event_name":"TRANSACTION_PROCESSED",{fields}}}"#);
    let transaction = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
    let property_rules = PropertyRules {
        omitted: omitted.iter().map(|&field| field.to_owned()).collect(),
        ..PropertyRules::default()
    };
    let properties = properties::of_event(&transaction, &property_rules, &mut |_, _| {});
    match decide(&transaction, rules, &properties) {
        Revenue::Raised { name, properties } => {
            let properties = properties
                .iter()
                .map(|(key, value)| format!(" {key}={}", serde_json::to_string(value).unwrap()))
                .collect::<String>();
            format!("{name}:{properties}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_positive_amount_is_raised_in_the_chosen_currency() {
    use RevenueCurrency::{Customer, Integration};
    for (event, currency, omitted, fields, expected) in [
        (
            "Charged",
            Integration,
            &[][..],
            BOTH,
            concat!(
                r#"Charged: Amount=65.0 Currency="USD" Customer Amount=59.99 Customer Currency="EUR" "#,
                r#"Charged ID="t-1" source="purchasely" Items=[{"plan":"yearly"}]"#
            ),
        ),
        (
            "Paid",
            Customer,
            &[],
            BOTH,
            r#"Paid: Amount=59.99 Currency="EUR" Charged ID="t-1" source="purchasely""#,
        ),
        (
            "Paid",
            Integration,
            &[],
            r#""amount_in_usd":1,"event_id":"e-1""#,
            r#"Paid: Amount=1.0 Currency="USD" Charged ID="e-1" source="purchasely""#,
        ),
        (
            "Paid",
            Customer,
            &["store_transaction_id"],
            BOTH,
            r#"Paid: Amount=59.99 Currency="EUR" Charged ID="e-1" source="purchasely""#,
        ),
        (
            "Paid",
            code("usd"),
            &["customer_currency"],
            BOTH,
            r#"Paid: Amount=65.0 Currency="USD" Charged ID="t-1" source="purchasely""#,
        ),
        (
            "Paid",
            code("eur"),
            &[],
            BOTH,
            r#"Paid: Amount=59.99 Currency="EUR" Charged ID="t-1" source="purchasely""#,
        ),
        (
            "Paid",
            Integration,
            &["event_id"],
            r#""amount_in_usd":65,"amount_in_eur":60,"amount_in_customer_currency":50,"customer_currency":"GBP""#,
            r#"Paid: Amount=60.0 Currency="EUR" Customer Amount=50.0 Customer Currency="GBP" source="purchasely""#,
        ),
        (
            "Paid",
            Integration,
            &[],
            r#""amount_in_usd":1,"event_id":"e-1","store_transaction_id":2000000900000001"#,
            r#"Paid: Amount=1.0 Currency="USD" Charged ID="2000000900000001" source="purchasely""#,
        ),
        (
            "Paid",
            Integration,
            &[],
            r#""amount_in_usd":1,"event_id":"e-1","store_transaction_id":"null""#,
            r#"Paid: Amount=1.0 Currency="USD" Charged ID="e-1" source="purchasely""#,
        ),
        (
            "Paid",
            Integration,
            &["event_id"],
            r#""amount_in_usd":65,"amount_in_vnd":60"#,
            r#"Paid: Amount=60.0 Currency="VND" source="purchasely""#,
        ),
    ] {
        assert_eq!(decision(event, currency, omitted, fields), expected);
    }
}

#[test]
fn other_amounts_and_ids_are_not_raised() {
    use RevenueCurrency::{Customer, Integration};
    let long_id = format!(
        r#""amount_in_usd":5,"store_transaction_id":"{}""#,
        "x".repeat(limits::TEXT_BYTES + 1)
    );
    for (currency, fields, expected) in [
        (Integration, r#""amount_in_usd":-5.0"#, "NotPositive"),
        (Integration, r#""amount_in_usd":0"#, "NotPositive"),
        (Integration, r#""amount_in_usd":"-1""#, "NotPositive"),
        (Integration, r#""plan":"p""#, "NoAmount"),
        (Integration, r#""amount_in_usd":"a lot""#, "NoAmount"),
        (
            Integration,
            r#""amount_in_customer_currency":5,"customer_currency":"EUR""#,
            "NoAmount",
        ),
        (Integration, r#""plan_price_in_usd":5"#, "NoAmount"),
        (Customer, r#""amount_in_customer_currency":5"#, "NoAmount"),
        (
            Customer,
            r#""amount_in_customer_currency":5,"customer_currency":"euros""#,
            "NoAmount",
        ),
        (Customer, r#""amount_in_usd":5"#, "NoAmount"),
        (code("gbp"), BOTH, "NoAmount"),
        (code("eur"), r#""amount_in_customer_currency":5"#, "NoAmount"),
        (Integration, &long_id, "UnfitId"),
    ] {
        assert_eq!(decision("Charged", currency, &[], fields), expected, "{fields}");
    }
}

#[test]
fn a_refund_raises_its_own_event_with_a_positive_amount() {
    let refunds = |event: Option<&str>| RevenueRules {
        event: event.map(str::to_owned),
        refund_event: Some("Refunded".to_owned()),
        ..RevenueRules::default()
    };
    let back = r#""amount_in_usd":-65,"amount_in_customer_currency":-59.99,"customer_currency":"EUR","event_id":"e-1""#;
    let with_id = format!(r#"{back},"store_transaction_id":"t-1","plan":"p""#);
    for (event, fields, expected) in [
        (
            Some("Charged"),
            &*with_id,
            r#"Refunded: Amount=65.0 Currency="USD" Charged ID="t-1""#,
        ),
        // The id of the event is no payment's.
        (None, back, r#"Refunded: Amount=65.0 Currency="USD""#),
        (None, r#""amount_in_usd":65"#, "Off"),
        (None, r#""amount_in_usd":0"#, "NotPositive"),
        (None, r#""amount_in_customer_currency":-5"#, "NoAmount"),
    ] {
        assert_eq!(decision_by(&refunds(event), &[], fields), expected, "{fields}");
    }
    let long_id = format!(r#""amount_in_usd":-5,"store_transaction_id":"{}""#, "x".repeat(600));
    assert_eq!(decision_by(&refunds(None), &[], &long_id), "UnfitId");
}

#[test]
fn lifetime_revenue_is_in_the_chosen_currency() {
    let sums: Vec<Property<'_>> = vec![
        ("amount_in_gbp".into(), Value::Decimal(1.0)),
        ("cumulated_revenues_in_customer_currency".into(), Value::Decimal(2.0)),
        ("cumulated_revenues_in_eur".into(), Value::Decimal(3.0)),
        ("cumulated_revenues_in_usd".into(), Value::Decimal(4.0)),
    ];
    for (currency, sums, expected) in [
        (RevenueCurrency::Integration, &sums[..], Some(3.0)),
        (RevenueCurrency::Integration, &sums[3..], Some(4.0)),
        (RevenueCurrency::Integration, &sums[..2], None),
        (code("usd"), &sums, Some(4.0)),
        (code("gbp"), &sums, None),
        (RevenueCurrency::Customer, &sums, None),
    ] {
        let revenue = currency.lifetime_revenue(sums);
        assert_eq!(revenue, expected.map(Value::Decimal), "{currency:?}");
    }
}

#[test]
fn revenue_is_off_by_default_and_only_transactions_are_money() {
    let event = Event::parse(Verified::unsigned(br#"{"event_name":"ACTIVATE"}"#)).unwrap();
    let off = RevenueRules::default();
    assert_eq!(decide(&event, &off, &[]), Revenue::Off);
    let on = RevenueRules { event: Some(CHARGED.to_owned()), ..off };
    assert_eq!(decide(&event, &on, &[]), Revenue::NotMoney);
}
