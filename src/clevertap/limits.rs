//! What CleverTap allows in a record, and how a name or a text is made to fit.
//!
//! It does not know where names and texts come from.
//! Source: <https://developer.clevertap.com/docs/upload-events-api> and
//! <https://docs.clevertap.com/docs/events> ("Constraints"), unless said otherwise.

use std::borrow::Cow;

/// Characters in an event name or a property key.
pub const NAME_CHARACTERS: usize = 120;
/// Bytes of UTF-8 in a text value.
pub const TEXT_BYTES: usize = 512;
/// Properties of one event. Older pages say 256; an account may be set higher.
pub const PROPERTIES: usize = 100;
/// An identity or objectId has fewer characters than this.
pub const IDENTITY_CHARACTERS: usize = 1024;
/// Bytes of UTF-8 in a profile property's key
/// (<https://developer.clevertap.com/docs/upload-user-profiles-api>).
pub const PROFILE_KEY_BYTES: usize = 120;
/// What a text must not start with unless it is a date.
const DATE_PREFIX: &str = "$D_";

/// Characters that neither an event name nor a property key may hold.
pub const FORBIDDEN_IN_NAMES: &[char] = &[
    '%', '>', '<', '!', '|', '&', '.', ':', ';', '$', '\'', '"', '\\',
];

/// Forbidden in a profile property's key beside [`FORBIDDEN_IN_NAMES`].
const FORBIDDEN_IN_PROFILE_KEYS: char = '#';

/// Profile fields with a meaning of their own, in lower case; not for custom use.
const SYSTEM_FIELDS: &[&str] = &[
    "name",
    "identity",
    "email",
    "phone",
    "gender",
    "dob",
    "age",
    "employed",
    "education",
    "married",
    "objectid",
    "photo",
    "tz",
];
/// Begins the fields that hold a user's consent to messages, in lower case.
const CONSENT_PREFIX: &str = "msg-";

/// Event names that CleverTap keeps for itself (record code 513).
#[rustfmt::skip]
pub const RESERVED_EVENT_NAMES: &[&str] = &[
    "Notification Sent", "Notification Viewed", "Notification Clicked", "Notification Delivered",
    "Notification Replied", "Notification Bounced", "UTM Visited", "App Launched", "App Uninstalled",
    "App Installed", "App Version Changed", "Stayed", "Reply Sent", "Experiment Rendered",
    "Reachable By", "Identity Reset", "Identity Set", "Identity Error", "Geocluster Entered",
    "Geocluster Exited", "SCOutgoing", "SCIncoming", "SCEnd", "SCCampaignOptOut", "Push Impressions",
    "State Transitioned", "Session Concluded", "Channel Unsubscribed", "Web Page Viewed",
];

/// CleverTap's own prefix; it names a single event with it, the whole prefix is avoided.
const RESERVED_PREFIX: &str = "wzrk_";

/// Why a name cannot be an event name as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Holds one of [`FORBIDDEN_IN_NAMES`] or a control character.
    #[error(
        "holds a character that CleverTap does not allow in names (% > < ! | & . : ; $ ' \" \\ and, for profiles, #)"
    )]
    Forbidden,
    /// Longer than [`NAME_CHARACTERS`].
    #[error("is longer than 120 characters")]
    TooLong,
    /// One of [`RESERVED_EVENT_NAMES`], compared without case and spaces.
    #[error("is a name that CleverTap keeps for its own events")]
    Reserved,
    /// A system field of the profile, such as Email.
    #[error("is a profile field with a meaning of its own in CleverTap")]
    SystemField,
}

/// Says whether CleverTap would take this event name exactly as it is.
pub fn check_event_name(name: &str) -> Result<(), NameProblem> {
    if name.trim().is_empty() {
        Err(NameProblem::Empty)
    } else if name.contains(is_forbidden) {
        Err(NameProblem::Forbidden)
    } else if name.chars().count() > NAME_CHARACTERS {
        Err(NameProblem::TooLong)
    } else if is_reserved(name) {
        Err(NameProblem::Reserved)
    } else {
        Ok(())
    }
}

/// Says whether CleverTap would take this key of a profile property exactly as it is.
pub fn check_profile_key(key: &str) -> Result<(), NameProblem> {
    let lower = key.trim().to_lowercase();
    if lower.is_empty() {
        Err(NameProblem::Empty)
    } else if key.contains(is_forbidden) || key.contains(FORBIDDEN_IN_PROFILE_KEYS) {
        Err(NameProblem::Forbidden)
    } else if key.len() > PROFILE_KEY_BYTES {
        Err(NameProblem::TooLong)
    } else if SYSTEM_FIELDS.contains(&lower.as_str()) || lower.starts_with(CONSENT_PREFIX) {
        Err(NameProblem::SystemField)
    } else {
        Ok(())
    }
}

/// Whether CleverTap keeps this event name for itself.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    fold(name).starts_with(RESERVED_PREFIX)
        || RESERVED_EVENT_NAMES
            .iter()
            .any(|reserved| folded(reserved).eq(folded(name)))
}

/// The form in which CleverTap compares event names: without case and spaces.
#[must_use]
pub fn fold(name: &str) -> String {
    folded(name).collect()
}

fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .filter(|character| !character.is_whitespace())
        .flat_map(char::to_lowercase)
}

/// Makes an event name or property key fit: forbidden characters out, white space trimmed, 120
/// characters. `None` if nothing is left.
#[must_use]
pub fn sanitize_name(name: &str) -> Option<Cow<'_, str>> {
    let mut fitted = Cow::Borrowed(name.trim());
    if fitted.contains(is_forbidden) {
        let allowed = fitted.replace(is_forbidden, "");
        fitted = Cow::Owned(allowed.trim().to_owned());
    }
    if let Some((end, _)) = fitted.char_indices().nth(NAME_CHARACTERS) {
        fitted = Cow::Owned(fitted[..end].trim_end().to_owned());
    }
    (!fitted.is_empty()).then_some(fitted)
}

/// Makes a text value fit: at most 512 bytes, cut between characters, and never taken for a date.
#[must_use]
pub fn truncate_text(text: &str) -> &str {
    // Only the dollar sign goes: what follows is still the sender's text, and text it stays.
    let text = if text.starts_with(DATE_PREFIX) {
        &text[1..]
    } else {
        text
    };
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// Whether CleverTap takes an identity or objectId of this length.
#[must_use]
pub fn is_valid_identity(identity: &str) -> bool {
    identity.chars().count() < IDENTITY_CHARACTERS
}

fn is_forbidden(character: char) -> bool {
    FORBIDDEN_IN_NAMES.contains(&character) || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_compared_without_case_and_spaces() {
        for name in [
            "App Launched",
            "applaunched",
            "A p p L a u n c h e d",
            "wzrk_d",
            "WZRK_new",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("App Launched Again"));
        assert!(!is_reserved("SUBSCRIPTION_STARTED"));
    }

    #[test]
    fn a_name_loses_what_is_forbidden() {
        let cut = "x".repeat(NAME_CHARACTERS);
        for (name, expected) in [
            ("plan", Some("plan")),
            (" a.b$c%d ", Some("abcd")),
            ("a\nb\u{7f}", Some("ab")),
            ("%<>!|&.:;$'\"\\", None),
            ("  ", None),
            ("", None),
            (&"x".repeat(300), Some(&cut)),
        ] {
            assert_eq!(sanitize_name(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_name_is_cut_by_characters_and_a_text_by_bytes_between_characters() {
        let name = "é".repeat(130);
        assert_eq!(
            sanitize_name(&name).unwrap().chars().count(),
            NAME_CHARACTERS
        );
        // 512 is not a multiple of three, the length of "€".
        let text = "€".repeat(300);
        assert_eq!(truncate_text(&text).len(), 510);
        assert_eq!(truncate_text("short"), "short");
    }

    #[test]
    fn a_text_is_never_taken_for_a_date() {
        assert_eq!(truncate_text("$D_1772439330"), "D_1772439330");
        assert_eq!(truncate_text("$5"), "$5");
    }

    #[test]
    fn a_name_given_by_the_owner_is_checked_not_changed() {
        assert_eq!(check_event_name("Subscription Started"), Ok(()));
        assert_eq!(check_event_name(" "), Err(NameProblem::Empty));
        assert_eq!(check_event_name("a.b"), Err(NameProblem::Forbidden));
        assert_eq!(
            check_event_name(&"x".repeat(121)),
            Err(NameProblem::TooLong)
        );
        assert_eq!(check_event_name("app launched"), Err(NameProblem::Reserved));
    }

    #[test]
    fn a_profile_key_is_checked_not_changed() {
        assert_eq!(check_profile_key("Current Plan"), Ok(()));
        assert_eq!(check_profile_key("plan#"), Err(NameProblem::Forbidden));
        assert_eq!(
            check_profile_key(&"é".repeat(61)),
            Err(NameProblem::TooLong)
        );
        for key in ["Email", "identity", "MSG-push", "Phone"] {
            assert_eq!(
                check_profile_key(key),
                Err(NameProblem::SystemField),
                "{key}"
            );
        }
    }

    #[test]
    fn an_identity_has_fewer_than_1024_characters() {
        assert!(is_valid_identity(&"é".repeat(1023)));
        assert!(!is_valid_identity(&"x".repeat(1024)));
    }
}
