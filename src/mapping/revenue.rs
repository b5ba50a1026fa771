//! Which event is money, and how it is told to CleverTap.
//!
//! It does not know what other senders record; the owner decides whether this one may.
//! Purchasely calls `TRANSACTION_PROCESSED` the sole reference for tracking money: other events
//! describe the same purchase again.

use crate::clevertap::{Value, limits};
use crate::purchasely::Event;
use crate::purchasely::catalogue::currency;
use std::borrow::Cow;

/// The event whose revenue CleverTap shows by itself
/// (<https://docs.clevertap.com/docs/events>, "Recording Customer Purchases").
pub const CHARGED: &str = "Charged";
const TRANSACTION: &str = "TRANSACTION_PROCESSED";
const CUSTOMER: &str = "customer_currency";

/// Whether and how money is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevenueRules {
    /// The name of the revenue event (`REVENUE_EVENT`); `None` raises none.
    pub event: Option<String>,
    /// Which of the two amounts is summed (`REVENUE_CURRENCY`).
    pub currency: RevenueCurrency,
}

/// CleverTap sums amounts without converting them, so one currency must be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevenueCurrency {
    /// The app's one integration currency.
    #[default]
    Integration,
    /// What the buyer paid in; right for apps with one market.
    Customer,
}

/// What an event means for revenue.
#[derive(Debug, Clone, PartialEq)]
pub enum Revenue<'e> {
    /// Revenue events are off.
    Off,
    /// Not a transaction.
    NotMoney,
    /// A refund, or another amount that is not positive. It is visible in the event itself.
    NotPositive,
    /// A transaction without an amount and its currency.
    NoAmount,
    /// The transaction's id is not one that CleverTap takes; cut, it could be another's.
    UnfitId,
    /// To be raised under this name with these properties.
    Raised {
        /// The owner's name for it.
        name: &'e str,
        /// Amount, currency, id and what was bought.
        properties: Vec<(Cow<'e, str>, Value<'e>)>,
    },
}

/// An amount and the currency it is in, in upper case.
struct Money {
    amount: f64,
    currency: String,
}

/// Decides by the event's own properties, already of their types and made to fit.
#[must_use]
pub fn decide<'e>(
    event: &'e Event,
    rules: &'e RevenueRules,
    properties: &[(Cow<'e, str>, Value<'e>)],
) -> Revenue<'e> {
    let Some(name) = &rules.event else {
        return Revenue::Off;
    };
    if event.name() != TRANSACTION {
        return Revenue::NotMoney;
    }
    let customer = customer_money(properties);
    let (money, other) = match rules.currency {
        RevenueCurrency::Integration => (integration_money(properties), customer),
        RevenueCurrency::Customer => (customer, None),
    };
    let Some(money) = money else {
        return Revenue::NoAmount;
    };
    if money.amount <= 0.0 {
        return Revenue::NotPositive;
    }
    // A field that its owner omits is not sent under another name either.
    let sent = |key: &str| properties.iter().any(|(name, _)| name == key);
    let id = ["store_transaction_id", "event_id"]
        .into_iter()
        .find_map(|key| event.text(key).filter(|_| sent(key)));
    if id.is_some_and(|id| limits::truncate_text(id) != id) {
        return Revenue::UnfitId;
    }
    let mut raised: Vec<(Cow<'e, str>, Value<'e>)> = vec![
        ("Amount".into(), Value::Decimal(money.amount)),
        ("Currency".into(), Value::Text(money.currency.into())),
    ];
    if let Some(other) = other {
        raised.push(("Customer Amount".into(), Value::Decimal(other.amount)));
        raised.push((
            "Customer Currency".into(),
            Value::Text(other.currency.into()),
        ));
    }
    if let Some(id) = id {
        raised.push(("Charged ID".into(), Value::Text(id.into())));
    }
    raised.push(("source".into(), Value::Text("purchasely".into())));
    let item = item(properties);
    if name == CHARGED && !item.is_empty() {
        raised.push(("Items".into(), Value::Item(item)));
    }
    Revenue::Raised {
        name,
        properties: raised,
    }
}

fn integration_money(properties: &[(Cow<'_, str>, Value<'_>)]) -> Option<Money> {
    properties.iter().find_map(|(key, value)| {
        let code = currency(key).filter(|code| *code != CUSTOMER)?;
        let Value::Decimal(amount) = value else {
            return None;
        };
        key.starts_with("amount_in_").then(|| Money {
            amount: *amount,
            currency: code.to_uppercase(),
        })
    })
}

fn customer_money(properties: &[(Cow<'_, str>, Value<'_>)]) -> Option<Money> {
    let find = |wanted: &str| {
        let found = properties.iter().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value)
    };
    let Value::Decimal(amount) = find("amount_in_customer_currency")? else {
        return None;
    };
    let Value::Text(code) = find(CUSTOMER)? else {
        return None;
    };
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| Money {
        amount: *amount,
        currency: code.to_uppercase(),
    })
}

/// What was bought, for `Items` of `Charged`.
fn item<'e>(properties: &[(Cow<'e, str>, Value<'e>)]) -> Vec<(Cow<'e, str>, Value<'e>)> {
    const TOLD: [&str; 3] = ["plan", "product", "store_product_id"];
    let told = properties
        .iter()
        .filter(|(key, _)| TOLD.contains(&key.as_ref()));
    told.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::properties::{self, PropertyRules};
    use crate::purchasely::Verified;

    const BOTH: &str = r#""amount_in_usd":65,"amount_in_customer_currency":"59.99","customer_currency":"eur","store_transaction_id":"t-1","event_id":"e-1","plan":"yearly""#;

    fn rules(event: &str, currency: RevenueCurrency) -> RevenueRules {
        RevenueRules {
            event: Some(event.to_owned()),
            currency,
        }
    }

    fn decided(rules: &RevenueRules, fields: &str) -> String {
        let body = format!(r#"{{"event_name":"TRANSACTION_PROCESSED",{fields}}}"#);
        let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
        let everything = PropertyRules::default();
        let properties = properties::of_event(&event, &everything, &mut |_, _| {});
        match decide(&event, rules, &properties) {
            Revenue::Raised { name, properties } => {
                let told: Vec<_> = properties
                    .iter()
                    .map(|(key, value)| format!("{key}={}", serde_json::to_string(value).unwrap()))
                    .collect();
                format!("{name}: {}", told.join(" "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_positive_amount_is_raised_in_the_integration_currency() {
        assert_eq!(
            decided(&rules("Charged", RevenueCurrency::Integration), BOTH),
            concat!(
                r#"Charged: Amount=65.0 Currency="USD" Customer Amount=59.99 Customer Currency="EUR" "#,
                r#"Charged ID="t-1" source="purchasely" Items=[{"plan":"yearly"}]"#
            )
        );
    }

    #[test]
    fn or_in_the_customers() {
        assert_eq!(
            decided(&rules("Paid", RevenueCurrency::Customer), BOTH),
            r#"Paid: Amount=59.99 Currency="EUR" Charged ID="t-1" source="purchasely""#
        );
    }

    #[test]
    fn the_event_id_stands_in_for_a_missing_transaction_id() {
        let told = decided(
            &rules("Paid", RevenueCurrency::Integration),
            r#""amount_in_usd":1,"event_id":"e-1""#,
        );
        assert!(told.contains(r#"Charged ID="e-1""#), "{told}");
    }

    #[test]
    fn an_omitted_transaction_id_is_not_sent_under_another_name() {
        let event = format!(r#"{{"event_name":"TRANSACTION_PROCESSED",{BOTH}}}"#);
        let event = Event::parse(Verified::unsigned(event.as_bytes())).unwrap();
        let omitting = PropertyRules {
            omitted: ["store_transaction_id".to_owned()].into(),
            ..PropertyRules::default()
        };
        let properties = properties::of_event(&event, &omitting, &mut |_, _| {});
        let rules = rules("Charged", RevenueCurrency::Integration);
        let Revenue::Raised { properties, .. } = decide(&event, &rules, &properties) else {
            panic!("no revenue");
        };
        assert!(properties.contains(&("Charged ID".into(), Value::Text("e-1".into()))));
    }

    #[test]
    fn a_refund_is_never_revenue() {
        let rules = rules("Charged", RevenueCurrency::Integration);
        for amount in ["-5.0", "0", "\"-1\""] {
            let fields = format!(r#""amount_in_usd":{amount}"#);
            assert_eq!(decided(&rules, &fields), "NotPositive");
        }
    }

    #[test]
    fn without_an_amount_and_its_currency_there_is_none() {
        let integration = rules("Charged", RevenueCurrency::Integration);
        let customer = rules("Charged", RevenueCurrency::Customer);
        for fields in [
            r#""plan":"p""#,
            r#""amount_in_usd":"a lot""#,
            r#""amount_in_customer_currency":5,"customer_currency":"EUR""#,
            r#""plan_price_in_usd":5"#,
        ] {
            assert_eq!(decided(&integration, fields), "NoAmount", "{fields}");
        }
        for fields in [
            r#""amount_in_customer_currency":5"#,
            r#""amount_in_customer_currency":5,"customer_currency":"euros""#,
            r#""amount_in_usd":5"#,
        ] {
            assert_eq!(decided(&customer, fields), "NoAmount", "{fields}");
        }
    }

    #[test]
    fn an_id_that_does_not_fit_is_never_cut() {
        let fields = format!(
            r#""amount_in_usd":5,"store_transaction_id":"{}""#,
            "x".repeat(limits::TEXT_BYTES + 1)
        );
        let rules = rules("Charged", RevenueCurrency::Integration);
        assert_eq!(decided(&rules, &fields), "UnfitId");
    }

    #[test]
    fn it_is_off_unless_wanted_and_only_transactions_are_money() {
        assert_eq!(decided(&RevenueRules::default(), BOTH), "Off");
        let event = Event::parse(Verified::unsigned(br#"{"event_name":"ACTIVATE"}"#)).unwrap();
        let rules = rules("Charged", RevenueCurrency::Integration);
        assert_eq!(decide(&event, &rules, &[]), Revenue::NotMoney);
    }
}
