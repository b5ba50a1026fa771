//! Numbers as people read them.

/// Three digits where there are fraction digits to drop; a dash for what was not measured.
pub fn decimals(number: f64) -> String {
    match number {
        _ if number.is_nan() => "–".to_owned(),
        _ if number == 0.0 || number >= 100.0 => whole(number),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Without fraction digits.
pub fn whole(number: f64) -> String {
    grouped(format!("{number:.0}"))
}

/// 1234567 as 1,234,567.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}
