//! Reads `params.yaml`: one parameter a line, and the line of each. It does not know the template.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A value is a text as it is written, because YAML reads `off` and `0123` as something else.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub line: usize,
    pub name: String,
    pub value: String,
}

/// A line with what is wrong there.
pub type Fault = (usize, String);

const FORM: &str = "write one line `Name: \"value\"` for each parameter";

/// The entries, and those whose value is not a text. A file that is not YAML has one fault.
pub fn read(text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    let mut key: Option<(usize, String)> = None;
    let mut depth = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let fault = format!("this is not YAML ({}); {FORM}", error.info());
                return (Vec::new(), vec![(error.marker().line(), fault)]);
            }
        };
        let line = span.start.line();
        match event {
            Event::MappingStart(..) if depth == 0 => depth = 1,
            Event::MappingEnd | Event::SequenceEnd => depth -= 1,
            Event::Scalar(text, style, ..) if depth == 1 => match key.take() {
                None => key = Some((line, text.into_owned())),
                Some((line, name)) => {
                    entries.push(Entry { line, name, value: value(&text, style) });
                }
            },
            Event::Scalar(text, ..) if depth == 0 && text.is_empty() => {}
            Event::Scalar(..)
            | Event::Alias(_)
            | Event::MappingStart(..)
            | Event::SequenceStart(..)
                if depth < 2 =>
            {
                let fault = match key.take() {
                    Some((line, name)) => (
                        line,
                        format!(
                            "{name} is not a text; write it in double quotes, or a long list behind `{name}: |`, one pair a line"
                        ),
                    ),
                    None => {
                        return (Vec::new(), vec![(line, format!("this is no parameter; {FORM}"))]);
                    }
                };
                faults.push(fault);
                depth += usize::from(!matches!(event, Event::Alias(_)));
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            _ => {}
        }
    }
    (entries, faults)
}

/// Block text is a list with one item a line, which the template wants in one line.
fn value(text: &str, style: ScalarStyle) -> String {
    match style {
        ScalarStyle::Literal | ScalarStyle::Folded => {
            let items = text.lines().map(|line| line.trim().trim_end_matches(';').trim_end());
            items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join(";")
        }
        ScalarStyle::Plain if matches!(text, "~" | "null") => String::new(),
        _ => text.to_owned(),
    }
}
