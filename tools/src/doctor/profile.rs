//! What the function would write to a user's profile for a webhook, beside the profile that CleverTap has.
//! It does not know how the profile was read, or what else changed it.

use super::finding::{Findings, Id};
use crate::explain::{explanation, text::table};
use purchasely_clevertap::mapping::identity::UserIdAs;
use purchasely_clevertap::mapping::{Account, Rules};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The profile record of a webhook.
pub struct Webhook {
    file: String,
    pub account: Account,
    user: (&'static str, String),
    changes: Map<String, Value>,
}

/// One property.
#[derive(Serialize)]
pub struct Row {
    property: String,
    /// As the function uploads it: a value, or the operation on a list.
    sent: Value,
    /// null if the profile does not have it.
    clevertap: Value,
    same: bool,
}

impl Webhook {
    /// `user_id` replaces the user of the webhook.
    pub fn read(file: &Path, user_id: Option<String>, rules: &Rules) -> Result<Self, String> {
        let name = file.display().to_string();
        let body = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
        let explained = explanation::explain(name.clone(), &body, rules);
        let upload = explained.upload.as_ref().map_or("null", |upload| upload.get());
        let upload: Value = serde_json::from_str(upload).expect("an upload is valid JSON");
        let mut records = upload["d"].as_array().into_iter().flatten();
        let Some(record) = records.find(|record| record["type"] == "profile") else {
            let why = match &explained.profile {
                Some(profile) if explained.account.is_some() => &profile.why,
                _ => &explained.why,
            };
            return Err(format!("{name}: the webhook changes no profile: {why}"));
        };
        let own = ["identity", "objectId"].into_iter().find_map(|key| {
            let id = record[key].as_str()?;
            Some((key, id.to_owned()))
        });
        let key = match rules.identity.user_id_as {
            UserIdAs::Identity => "identity",
            UserIdAs::ObjectId => "objectId",
        };
        let user = user_id.map(|id| (key, id)).or(own).expect("a record has a user");
        let account = match explained.account {
            Some("sandbox") => Account::Sandbox,
            _ => Account::Main,
        };
        let changes = record["profileData"].as_object().cloned().unwrap_or_default();
        Ok(Self { file: name, account, user, changes })
    }

    /// The parameter that names the user to CleverTap.
    pub fn user(&self) -> (&str, &str) {
        (self.user.0, &self.user.1)
    }

    pub fn compare(&self, profile: &Map<String, Value>, findings: &mut Findings) -> Vec<Row> {
        let rows = self.changes.iter().map(|(property, sent)| {
            let clevertap = profile.get(property).cloned().unwrap_or_default();
            let same = is_same(sent, &clevertap);
            Row {
                property: property.clone(),
                sent: sent.clone(),
                clevertap,
                same,
            }
        });
        let rows: Vec<Row> = rows.collect();
        let different = rows.iter().filter(|row| !row.same).count();
        let id = if different == 0 {
            Id::Profile
        } else {
            Id::ProfileDiffers
        };
        let what = match (profile.len(), different) {
            (0, _) => "CleverTap has no property of this user".to_owned(),
            (_, 0) => "every property is the same".to_owned(),
            _ => format!("{different} of {} properties differ", rows.len()),
        };
        findings.add(id, &*self.file, what);
        rows
    }
}

/// A table, or nothing without rows.
pub fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    };
    let mut lines =
        vec![["property", "the function sends", "CleverTap has", ""].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let verdict = if row.same { "same" } else { "different" };
        [
            row.property.clone(),
            shown(&row.sent),
            shown(&row.clevertap),
            verdict.to_owned(),
        ]
    }));
    format!("Profile\n{}\n", table(&lines))
}

/// CleverTap does not document how this answer writes a date, so each usual form of the same second will do.
fn is_same(sent: &Value, stored: &Value) -> bool {
    if let Some(seconds) = sent.as_str().and_then(|text| text.strip_prefix("$D_")) {
        let stored = stored.as_str().map_or_else(|| stored.to_string(), str::to_owned);
        let stored = stored.strip_prefix("$D_").unwrap_or(&stored);
        return stored == seconds || stored.strip_suffix("000") == Some(seconds);
    }
    let contains = |values: &Value| {
        let mut values = values.as_array().into_iter().flatten();
        values.all(|value| match stored {
            Value::Array(stored) => stored.contains(value),
            stored => stored == value,
        })
    };
    match (sent.get("$add"), sent.get("$remove")) {
        (Some(added), _) => contains(added),
        (_, Some(removed)) => !contains(removed),
        _ => match (sent.as_f64(), stored.as_f64()) {
            (Some(sent), Some(stored)) => sent.total_cmp(&stored).is_eq(),
            _ => sent == stored,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_the_same_in_each_form_that_clevertap_may_return_it_in() {
        for (sent, same, different) in [
            (
                json!("$D_1772439330"),
                json!(["$D_1772439330", 1_772_439_330, 1_772_439_330_000_i64, "1772439330"]),
                json!([null, "$D_1772439331", 1000]),
            ),
            (json!(10.0), json!([10, 10.0]), json!([null, 10.5, "10"])),
            (json!("yearly"), json!(["yearly"]), json!([null, "monthly", ["yearly"]])),
            (
                json!({ "$add": ["yearly"] }),
                json!([["monthly", "yearly"], "yearly"]),
                json!([null, ["monthly"], []]),
            ),
            (
                json!({ "$remove": ["yearly"] }),
                json!([null, ["monthly"], []]),
                json!([["yearly"], "yearly"]),
            ),
        ] {
            for (stored, expected) in [(same, true), (different, false)] {
                for stored in stored.as_array().unwrap() {
                    assert_eq!(is_same(&sent, stored), expected, "{sent} {stored}");
                }
            }
        }
    }
}
