//! Decides whether an event is revenue, and what the revenue event says.
//!
//! It does not know what else records revenue in the account: `REVENUE_EVENT` decides whether this
//! function may. Purchasely calls `TRANSACTION_PROCESSED` the sole reference for money: other events
//! describe the same purchase again.

use crate::clevertap::{Property, Value, limits};
use crate::purchasely::Event;
use crate::purchasely::catalogue::currency;

/// The event whose revenue CleverTap's dashboards show
/// (<https://docs.clevertap.com/docs/events>, "Recording Customer Purchases").
pub const CHARGED: &str = "Charged";
const TRANSACTION: &str = "TRANSACTION_PROCESSED";
const CUSTOMER: &str = "customer_currency";

/// Whether and how revenue is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevenueRules {
    /// The name of the revenue event (`REVENUE_EVENT`); `None` raises none.
    pub event: Option<String>,
    pub currency: RevenueCurrency,
}

/// Which amount is the revenue (`REVENUE_CURRENCY`): CleverTap sums amounts without converting them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevenueCurrency {
    /// The one in the app's integration currency.
    #[default]
    Integration,
    /// The one in the buyer's currency, for apps with one market.
    Customer,
}

/// What an event means for revenue.
#[derive(Debug, Clone, PartialEq)]
pub enum Revenue<'e> {
    /// `REVENUE_EVENT` is `none`.
    Off,
    /// Not a transaction.
    NotMoney,
    /// A refund, or an amount of zero. The event itself shows it.
    NotPositive,
    /// A transaction without an amount and its currency.
    NoAmount,
    /// CleverTap would truncate or change the transaction's id, which could make it another's.
    UnfitId,
    /// A revenue event.
    Raised {
        name: &'e str,
        /// Amount, currency, id and what was bought.
        properties: Vec<Property<'e>>,
    },
}

struct Money {
    amount: f64,
    /// In upper case.
    currency: String,
}

/// Decides by the event's properties, as [`super::properties::of_event`] returns them.
#[must_use]
pub fn decide<'e>(
    event: &'e Event,
    rules: &'e RevenueRules,
    properties: &[Property<'e>],
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
    // A field in PROPERTIES_OMITTED is not sent under another name either.
    let id = ["store_transaction_id", "event_id"]
        .into_iter()
        .find_map(|key| event.text(key).filter(|_| find(properties, key).is_some()));
    if id.is_some_and(|id| limits::truncate_text(id) != id) {
        return Revenue::UnfitId;
    }
    let mut raised: Vec<Property<'e>> = vec![
        ("Amount".into(), Value::Decimal(money.amount)),
        ("Currency".into(), Value::Text(money.currency.into())),
    ];
    if let Some(Money { amount, currency }) = other {
        raised.push(("Customer Amount".into(), Value::Decimal(amount)));
        raised.push(("Customer Currency".into(), Value::Text(currency.into())));
    }
    if let Some(id) = id {
        raised.push(("Charged ID".into(), Value::Text(id.into())));
    }
    raised.push(("source".into(), Value::Text("purchasely".into())));
    let item = item(properties);
    if name == CHARGED && !item.is_empty() {
        raised.push(("Items".into(), Value::Item(item)));
    }
    Revenue::Raised { name, properties: raised }
}

fn find<'p, 'e>(properties: &'p [Property<'e>], key: &str) -> Option<&'p Value<'e>> {
    let found = properties.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value)
}

fn integration_money(properties: &[Property<'_>]) -> Option<Money> {
    properties.iter().find_map(|(key, value)| {
        let code = currency(key).filter(|code| *code != CUSTOMER)?;
        let Value::Decimal(amount) = value else {
            return None;
        };
        key.starts_with("amount_in_")
            .then(|| Money { amount: *amount, currency: code.to_uppercase() })
    })
}

fn customer_money(properties: &[Property<'_>]) -> Option<Money> {
    let Value::Decimal(amount) = find(properties, "amount_in_customer_currency")? else {
        return None;
    };
    let Value::Text(code) = find(properties, CUSTOMER)? else {
        return None;
    };
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| Money { amount: *amount, currency: code.to_uppercase() })
}

/// What was bought, for `Items` of `Charged`.
fn item<'e>(properties: &[Property<'e>]) -> Vec<Property<'e>> {
    const KEYS: [&str; 3] = ["plan", "product", "store_product_id"];
    let item = properties.iter().filter(|(key, _)| KEYS.contains(&key.as_ref()));
    item.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::properties::{self, PropertyRules};
    use crate::purchasely::Verified;

    const BOTH: &str = r#""amount_in_usd":65,"amount_in_customer_currency":"59.99","customer_currency":"eur","store_transaction_id":"t-1","event_id":"e-1","plan":"yearly""#;

    /// The decision about a transaction: the variant, or the event with its properties.
    fn decision(event: &str, currency: RevenueCurrency, omitted: &[&str], fields: &str) -> String {
        let body = format!(r#"{{"event_name":"TRANSACTION_PROCESSED",{fields}}}"#);
        let transaction = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
        let property_rules = PropertyRules {
            omitted: omitted.iter().map(|&field| field.to_owned()).collect(),
            ..PropertyRules::default()
        };
        let properties = properties::of_event(&transaction, &property_rules, &mut |_, _| {});
        let rules = RevenueRules { event: Some(event.to_owned()), currency };
        match decide(&transaction, &rules, &properties) {
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
            (Integration, &long_id, "UnfitId"),
        ] {
            assert_eq!(decision("Charged", currency, &[], fields), expected, "{fields}");
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
}
