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
mod tests;
