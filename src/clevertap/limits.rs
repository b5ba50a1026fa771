//! What CleverTap allows in a record, and how names and texts are changed to be allowed.
//!
//! It does not know where names and texts come from.
//! Source: <https://developer.clevertap.com/docs/upload-events-api> and
//! <https://docs.clevertap.com/docs/events> ("Constraints"), unless said otherwise.

use std::borrow::Cow;

/// Maximum characters of an event name or a property key.
pub const NAME_CHARACTERS: usize = 120;
/// Maximum bytes of a text value in UTF-8.
pub const TEXT_BYTES: usize = 512;
/// Maximum properties of one event. Older pages say 256; an account's limit may be higher.
pub const PROPERTIES: usize = 100;
/// An identity or objectId has fewer characters than this.
pub const IDENTITY_CHARACTERS: usize = 1024;
/// Maximum characters of a custom CleverTap ID without its prefix
/// (<https://developer.clevertap.com/docs/set-clevertap-id>, also for the prefixes and [`CUSTOM_ID_SIGNS`]).
const CUSTOM_ID_CHARACTERS: usize = 64;
/// What CleverTap puts before a custom CleverTap ID on Android.
pub const ANDROID_CUSTOM_ID: &str = "__h";
/// The same on iOS.
pub const IOS_CUSTOM_ID: &str = "-h";
/// What a custom CleverTap ID may contain besides ASCII letters and digits.
const CUSTOM_ID_SIGNS: &[u8] = b"()!:@$_-";
/// Maximum bytes of a profile property's key in UTF-8
/// (<https://developer.clevertap.com/docs/upload-user-profiles-api>).
pub const PROFILE_KEY_BYTES: usize = 120;
/// CleverTap reads a text with this prefix as a date.
const DATE_PREFIX: &str = "$D_";

/// Characters that event names and property keys must not contain.
#[rustfmt::skip]
pub const FORBIDDEN_IN_NAMES: &[char] = &[
    '%', '>', '<', '!', '|', '&', '.', ':', ';', '$', '\'', '"', '\\',
];
/// Also forbidden in a profile property's key.
const FORBIDDEN_IN_PROFILE_KEYS: char = '#';

/// Profile fields that have a meaning in CleverTap, in lower case.
#[rustfmt::skip]
const SYSTEM_FIELDS: &[&str] = &[
    "name", "identity", "email", "phone", "gender", "dob", "age", "employed", "education",
    "married", "objectid", "photo", "tz",
];
/// Prefix of the profile fields for a user's consent to messages, in lower case.
const CONSENT_PREFIX: &str = "msg-";

/// Event names that CleverTap reserves (record code 513).
#[rustfmt::skip]
pub const RESERVED_EVENT_NAMES: &[&str] = &[
    "Notification Sent", "Notification Viewed", "Notification Clicked", "Notification Delivered",
    "Notification Replied", "Notification Bounced", "UTM Visited", "App Launched", "App Uninstalled",
    "App Installed", "App Version Changed", "Stayed", "Reply Sent", "Experiment Rendered",
    "Reachable By", "Identity Reset", "Identity Set", "Identity Error", "Geocluster Entered",
    "Geocluster Exited", "SCOutgoing", "SCIncoming", "SCEnd", "SCCampaignOptOut", "Push Impressions",
    "State Transitioned", "Session Concluded", "Channel Unsubscribed", "Web Page Viewed",
];
/// CleverTap documents one reserved name with its own prefix; all such names are avoided.
const RESERVED_PREFIX: &str = "wzrk_";

/// Why CleverTap would reject or change a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    #[error("is empty")]
    Empty,
    /// Contains one of [`FORBIDDEN_IN_NAMES`] or a control character.
    #[error(
        "contains a character that CleverTap does not allow in names (% > < ! | & . : ; $ ' \" \\ and, for profiles, #)"
    )]
    Forbidden,
    #[error("is longer than 120 characters")]
    TooLong,
    /// One of [`RESERVED_EVENT_NAMES`], compared without case and spaces.
    #[error("is a name that CleverTap reserves for its own events")]
    Reserved,
    #[error("is a system field of CleverTap's profiles")]
    SystemField,
}

/// Checks whether CleverTap accepts an event name unchanged.
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

/// Checks whether CleverTap accepts a profile property's key unchanged.
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

/// Whether CleverTap reserves this event name.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let mut reserved = RESERVED_EVENT_NAMES.iter();
    fold(name).starts_with(RESERVED_PREFIX)
        || reserved.any(|reserved| folded(reserved).eq(folded(name)))
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

/// An event name or property key without forbidden characters and surrounding white space, truncated to
/// 120 characters; `None` if nothing is left.
#[must_use]
pub fn sanitize_name(name: &str) -> Option<Cow<'_, str>> {
    fit_name(allowed(name)).map(|(name, _)| name)
}

/// A name without forbidden characters.
#[must_use]
pub fn allowed(name: &str) -> Cow<'_, str> {
    if name.contains(is_forbidden) {
        Cow::Owned(name.replace(is_forbidden, ""))
    } else {
        Cow::Borrowed(name)
    }
}

/// An [`allowed`] name without surrounding white space, truncated to 120 characters, and whether it was
/// truncated; `None` if nothing is left.
#[must_use]
pub fn fit_name(allowed: Cow<'_, str>) -> Option<(Cow<'_, str>, bool)> {
    let fit = |name: &str| {
        let name = name.trim();
        let first = first_characters(name, NAME_CHARACTERS);
        (first.trim_end().len(), first.len() < name.len())
    };
    let (name, is_cut) = match allowed {
        Cow::Borrowed(name) => {
            let (length, is_cut) = fit(name);
            (Cow::Borrowed(&name.trim_start()[..length]), is_cut)
        }
        Cow::Owned(name) => {
            let (length, is_cut) = fit(&name);
            (Cow::Owned(name.trim_start()[..length].to_owned()), is_cut)
        }
    };
    (!name.is_empty()).then_some((name, is_cut))
}

/// The name of a field in an object, both [`allowed`]. However long the two are, it has at most one
/// character too many, so that [`fit_name`] still notices.
#[must_use]
pub fn join_names(object: &str, field: &str) -> String {
    let mut name = format!("{object}_{}", first_characters(field, NAME_CHARACTERS + 1));
    name.truncate(first_characters(&name, NAME_CHARACTERS + 1).len());
    name
}

fn first_characters(text: &str, count: usize) -> &str {
    // In UTF-8 a text has no more characters than bytes.
    if text.len() <= count {
        return text;
    }
    let end = text.char_indices().nth(count).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

/// A text of at most 512 bytes, truncated between characters, that CleverTap does not read as a date.
#[must_use]
pub fn truncate_text(text: &str) -> &str {
    // Without the dollar sign it is no date, and the rest is still the sender's text.
    let text = if text.starts_with(DATE_PREFIX) {
        &text[1..]
    } else {
        text
    };
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// Whether CleverTap accepts an identity or objectId of this length.
#[must_use]
pub fn is_valid_identity(identity: &str) -> bool {
    identity.chars().count() < IDENTITY_CHARACTERS
}

/// Whether an objectId can exist: one with the prefix of custom CleverTap IDs follows CleverTap's rule for
/// these. The SDKs' own ids begin in other ways, and their form is not documented.
#[must_use]
pub fn is_valid_object_id(id: &str) -> bool {
    let custom = id.strip_prefix(ANDROID_CUSTOM_ID).or_else(|| id.strip_prefix(IOS_CUSTOM_ID));
    custom.is_none_or(|id| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || CUSTOM_ID_SIGNS.contains(&byte);
        (1..=CUSTOM_ID_CHARACTERS).contains(&id.len()) && id.bytes().all(is_allowed)
    })
}

fn is_forbidden(character: char) -> bool {
    // Nearly all of a name: to compare it with each forbidden character takes longer.
    let is_usual = matches!(character, 'a'..='z' | '_');
    !is_usual && (FORBIDDEN_IN_NAMES.contains(&character) || character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_compared_without_case_and_spaces() {
        for (name, expected) in [
            ("App Launched", true),
            ("applaunched", true),
            ("A p p L a u n c h e d", true),
            ("wzrk_d", true),
            ("WZRK_new", true),
            ("App Launched Again", false),
            ("SUBSCRIPTION_STARTED", false),
        ] {
            assert_eq!(is_reserved(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_loses_forbidden_characters_and_those_over_120() {
        let longest = |letter: &str| letter.repeat(NAME_CHARACTERS);
        for (name, expected) in [
            ("plan", Some("plan")),
            (" a.b$c%d ", Some("abcd")),
            ("a\nb\u{7f}", Some("ab")),
            ("%<>!|&.:;$'\"\\", None),
            ("  ", None),
            ("", None),
            (&"x".repeat(300), Some(longest("x").as_str())),
            (&"é".repeat(130), Some(&longest("é"))),
        ] {
            assert_eq!(sanitize_name(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_joined_name_is_not_longer_than_it_must_be_to_be_noticed() {
        assert_eq!(join_names("a", "b"), "a_b");
        let long = "é".repeat(100_000);
        for (object, field) in [("a", &*long), (&long, "b"), (&long, &long)] {
            let joined = join_names(first_characters(object, 121), field);
            assert_eq!(joined.chars().count(), NAME_CHARACTERS + 1);
            let (name, is_cut) = fit_name(joined.into()).unwrap();
            assert_eq!((name.chars().count(), is_cut), (NAME_CHARACTERS, true));
        }
    }

    #[test]
    fn a_text_is_truncated_between_characters_and_never_a_date() {
        for (text, expected) in [
            // 512 is not a multiple of three, the length of "€".
            ("€".repeat(300).as_str(), "€".repeat(170).as_str()),
            ("short", "short"),
            ("$D_1772439330", "D_1772439330"),
            ("$5", "$5"),
        ] {
            assert_eq!(truncate_text(text), expected);
        }
    }

    #[test]
    fn configured_names_are_checked_and_not_changed() {
        for (name, expected) in [
            ("Subscription Started", Ok(())),
            (" ", Err(NameProblem::Empty)),
            ("a.b", Err(NameProblem::Forbidden)),
            (&"x".repeat(121), Err(NameProblem::TooLong)),
            ("app launched", Err(NameProblem::Reserved)),
        ] {
            assert_eq!(check_event_name(name), expected, "{name}");
        }
        for (key, expected) in [
            ("Current Plan", Ok(())),
            (" ", Err(NameProblem::Empty)),
            ("plan#", Err(NameProblem::Forbidden)),
            (&"é".repeat(61), Err(NameProblem::TooLong)),
            ("Email", Err(NameProblem::SystemField)),
            ("identity", Err(NameProblem::SystemField)),
            ("MSG-push", Err(NameProblem::SystemField)),
            ("Phone", Err(NameProblem::SystemField)),
        ] {
            assert_eq!(check_profile_key(key), expected, "{key}");
        }
    }

    #[test]
    fn a_custom_clevertap_id_has_1_to_64_of_the_listed_characters() {
        let of_length = |length: usize| format!("__h{}", "x".repeat(length));
        for (id, expected) in [
            ("-hB3CD5540-79C7-4E4F-867C-E0444D03ADA6", true),
            ("__haZ09()!:@$_-", true),
            (&of_length(64), true),
            (&of_length(65), false),
            ("__h", false),
            ("-ha b", false),
            ("-ha.b", false),
            ("-hé", false),
            // Not a custom one.
            ("__g a", true),
        ] {
            assert_eq!(is_valid_object_id(id), expected, "{id}");
        }
    }

    #[test]
    fn an_identity_has_fewer_than_1024_characters() {
        assert!(is_valid_identity(&"é".repeat(1023)));
        assert!(!is_valid_identity(&"x".repeat(1024)));
    }
}
