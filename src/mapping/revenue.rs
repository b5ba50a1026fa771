//! Decides whether an event is revenue or a refund, and what the event about the money says.
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
/// Purchasely adds amounts in this currency beside those in another integration currency.
const ALWAYS_ADDED: &str = "usd";

/// Whether and how money is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevenueRules {
    /// The name of the revenue event (`REVENUE_EVENT`); `None` raises none.
    pub event: Option<String>,
    /// The name of the event for a refund (`REFUND_EVENT`); `None` raises none.
    pub refund_event: Option<String>,
    pub currency: RevenueCurrency,
}

/// Which amount counts (`REVENUE_CURRENCY`): CleverTap sums amounts without converting them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RevenueCurrency {
    /// The one in the app's integration currency.
    #[default]
    Integration,
    /// The one in the buyer's currency, for apps with one market.
    Customer,
    /// The one in this currency, an ISO code in lower case, whether it is the app's or the buyer's.
    Code(String),
}

/// What an event means for revenue.
#[derive(Debug, Clone, PartialEq)]
pub enum Revenue<'e> {
    /// `REVENUE_EVENT` is `none`.
    Off,
    /// Not a transaction.
    NotMoney,
    /// An amount of zero, or a refund while `REFUND_EVENT` is `none`. The event itself shows it.
    NotPositive,
    /// A transaction without an amount in the currency that counts.
    NoAmount,
    /// CleverTap would truncate or change the transaction's id, which could make it another's.
    UnfitId,
    /// A revenue event, or that of a refund.
    Raised {
        name: &'e str,
        /// Amount, currency, id and, of revenue, what was bought.
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
    event: &'e Event<'_>,
    rules: &'e RevenueRules,
    properties: &[Property<'e>],
) -> Revenue<'e> {
    if rules.event.is_none() && rules.refund_event.is_none() {
        return Revenue::Off;
    }
    if event.name() != TRANSACTION {
        return Revenue::NotMoney;
    }
    let customer = customer_money(properties);
    let own = rules.currency.find("amount_in_", properties);
    let (money, other) = match (own, &rules.currency) {
        (Some(money), _) => (Some(money), customer),
        (None, RevenueCurrency::Integration) => (None, None),
        (None, RevenueCurrency::Customer) => (customer, None),
        (None, RevenueCurrency::Code(code)) => {
            (customer.filter(|money| money.currency.eq_ignore_ascii_case(code)), None)
        }
    };
    let Some(Money { amount, currency }) = money else {
        return Revenue::NoAmount;
    };
    let is_refund = amount < 0.0;
    let name = match (&rules.event, &rules.refund_event) {
        (_, Some(refund)) if is_refund => refund,
        (Some(revenue), _) if amount > 0.0 => revenue,
        (None, _) if amount > 0.0 => return Revenue::Off,
        _ => return Revenue::NotPositive,
    };
    // A refund's own event id identifies no payment. A field in PROPERTIES_OMITTED is not sent under
    // another name either.
    let ids = ["store_transaction_id", "event_id"]
        .into_iter()
        .take(if is_refund { 1 } else { 2 });
    let mut ids = ids.filter(|key| find(properties, key).is_some());
    let id = ids.find_map(|key| event.text(key));
    if id.is_some_and(|id| limits::truncate_text(id) != id) {
        return Revenue::UnfitId;
    }
    let mut raised: Vec<Property<'e>> = vec![
        ("Amount".into(), Value::Decimal(amount.abs())),
        ("Currency".into(), Value::Text(currency.into())),
    ];
    if let Some(Money { amount, currency }) = other.filter(|_| !is_refund) {
        raised.push(("Customer Amount".into(), Value::Decimal(amount)));
        raised.push(("Customer Currency".into(), Value::Text(currency.into())));
    }
    if let Some(id) = id {
        raised.push(("Charged ID".into(), Value::Text(id.into())));
    }
    if !is_refund {
        raised.push(("source".into(), Value::Text("purchasely".into())));
    }
    let item = item(properties);
    if name == CHARGED && !item.is_empty() {
        raised.push(("Items".into(), Value::Item(item)));
    }
    Revenue::Raised { name, properties: raised }
}

impl RevenueCurrency {
    /// What the user has paid in all, in the currency that counts. Purchasely has no sum in the buyer's.
    #[must_use]
    pub fn lifetime_revenue<'e>(&self, properties: &[Property<'e>]) -> Option<Value<'e>> {
        let money = self.find("cumulated_revenues_in_", properties)?;
        Some(Value::Decimal(money.amount))
    }

    /// The field that begins with this and ends in the code of the currency that counts.
    fn find(&self, prefix: &str, properties: &[Property<'_>]) -> Option<Money> {
        let amounts = properties.iter().filter_map(|(key, value)| {
            let code =
                key.strip_prefix(prefix).and(currency(key)).filter(|code| *code != CUSTOMER)?;
            let Value::Decimal(amount) = value else { return None };
            Some((code, *amount))
        });
        let (code, amount) = match self {
            Self::Customer => None,
            Self::Code(wanted) => amounts.into_iter().find(|(code, _)| code == wanted),
            Self::Integration => amounts.max_by_key(|(code, _)| *code != ALWAYS_ADDED),
        }?;
        Some(Money { amount, currency: code.to_uppercase() })
    }
}

fn find<'p, 'e>(properties: &'p [Property<'e>], key: &str) -> Option<&'p Value<'e>> {
    let found = properties.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value)
}

fn customer_money(properties: &[Property<'_>]) -> Option<Money> {
    let Value::Decimal(amount) = find(properties, "amount_in_customer_currency")? else {
        return None;
    };
    let Value::Text(code) = find(properties, CUSTOMER)? else {
        return None;
    };
    is_currency_code(code).then(|| Money { amount: *amount, currency: code.to_uppercase() })
}

/// Whether a text has the form of an ISO 4217 code.
#[must_use]
pub fn is_currency_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
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
}
