//! A file of variables, read as `cargo lambda deploy --env-file` reads it. It does not know what
//! the variables mean.
//!
//! The rules are those of the crate `env-file-reader` 0.3, which cargo lambda 1.9 uses: a value is one
//! bare word without quotes, `=`, `#` and white space, or one quoted text; `#` begins a comment.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Where a file cannot be read, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {problem}")]
pub struct Unreadable {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No `=` where one must be.
    #[error("is not NAME=value")]
    NoAssignment,
    /// Something follows the value.
    #[error("has more than one word behind its equals sign: put the value in quotes")]
    Loose,
    /// A quote that is never closed.
    #[error("opens a quote that nothing closes")]
    OpenQuote,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables {
    /// The variables; the last of two under one name counts.
    pub values: BTreeMap<String, String>,
    /// Names whose value is directly followed by a `#`, which ends it.
    pub cut: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Equals,
    Word(String),
    Quoted(String),
    /// A comment that touches what is before it.
    TouchingComment,
    LineEnd,
}

/// Reads the text of a file.
pub fn read(text: &str) -> Result<Variables, Unreadable> {
    let mut variables = Variables::default();
    let mut tokens = tokens(text)?.into_iter().peekable();
    while let Some((line, token)) = tokens.next() {
        let refused = |problem| Err(Unreadable { line, problem });
        let name = match token {
            Token::LineEnd => continue,
            Token::Word(word) if word == "export" => match tokens.next() {
                Some((_, Token::Word(name))) => name,
                _ => return refused(Problem::NoAssignment),
            },
            Token::Word(name) => name,
            _ => return refused(Problem::NoAssignment),
        };
        if !matches!(tokens.next(), Some((_, Token::Equals))) {
            return refused(Problem::NoAssignment);
        }
        let value = match tokens.next() {
            None | Some((_, Token::LineEnd)) => {
                variables.values.insert(name, String::new());
                continue;
            }
            Some((_, Token::Word(value) | Token::Quoted(value))) => value,
            Some((_, Token::TouchingComment)) => {
                variables.cut.push(name.clone());
                variables.values.insert(name, String::new());
                continue;
            }
            Some((_, Token::Equals)) => return refused(Problem::Loose),
        };
        if tokens
            .next_if(|(_, token)| *token == Token::TouchingComment)
            .is_some()
        {
            variables.cut.push(name.clone());
        }
        variables.values.insert(name, value);
        if tokens
            .next_if(|(_, token)| *token != Token::LineEnd)
            .is_some()
        {
            return refused(Problem::Loose);
        }
    }
    Ok(variables)
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Unreadable> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut touching = false;
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let begins = line;
        match next {
            '\n' => {
                tokens.push((begins, Token::LineEnd));
                line += 1;
            }
            '=' => tokens.push((begins, Token::Equals)),
            '#' => {
                if touching {
                    tokens.push((begins, Token::TouchingComment));
                }
                while rest.next_if(|&next| next != '\n').is_some() {}
            }
            '"' | '\'' | '`' => {
                let value = quoted(&mut rest, next).ok_or(Unreadable {
                    line: begins,
                    problem: Problem::OpenQuote,
                })?;
                line += value.matches('\n').count();
                tokens.push((begins, Token::Quoted(unescaped(&value, next))));
            }
            space if space.is_whitespace() => {}
            letter => {
                let mut word = String::from(letter);
                let bare = |next: &char| !next.is_whitespace() && !"='`\"#".contains(*next);
                while let Some(next) = rest.next_if(bare) {
                    word.push(next);
                }
                tokens.push((begins, Token::Word(word)));
            }
        }
        touching = !next.is_whitespace();
    }
    Ok(tokens)
}

/// What stands before the closing quote. Only between double quotes a backslash keeps one.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char) -> Option<String> {
    let mut value = String::new();
    while let Some(next) = rest.next() {
        if next == quote {
            return Some(value);
        }
        value.push(next);
        if next == '\\' && quote == '"' {
            value.extend(rest.next_if_eq(&'"'));
        }
    }
    None
}

fn unescaped(value: &str, quote: char) -> String {
    value
        .replace(&format!("\\{quote}"), &quote.to_string())
        .replace("\\n", "\n")
}
