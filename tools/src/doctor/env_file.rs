//! A file of variables, read as `cargo lambda deploy --env-file` reads it. It does not know what
//! the variables mean.
//!
//! The rules are those of the crate `env-file-reader` 0.3, which cargo lambda 1.9 uses: a value is one
//! bare word without quotes, `=`, `#` and white space, or one quoted text; `#` begins a comment.

use std::collections::BTreeMap;

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

#[derive(Debug)]
enum Token {
    Equals,
    Export,
    Word(String),
    Quoted(String),
    LineEnd,
}

struct Placed {
    token: Token,
    line: usize,
    /// Whether a comment begins right behind it.
    cut: bool,
}

/// Reads the text of a file. As there, a line may hold several assignments, and white space before the
/// end of a line takes that end along.
pub fn read(text: &str) -> Result<Variables, Unreadable> {
    let mut variables = Variables::default();
    let mut tokens = tokens(text)?.into_iter();
    let mut valued_line = None;
    while let Some(Placed { token, line, .. }) = tokens.next() {
        let refused = |problem| Err(Unreadable { line, problem });
        // What is no assignment behind a value is mostly a part of it.
        let problem = if valued_line == Some(line) {
            Problem::Loose
        } else {
            Problem::NoAssignment
        };
        let name = match token {
            Token::LineEnd => continue,
            Token::Word(name) => name,
            Token::Export => match tokens.next().map(|next| next.token) {
                Some(Token::Word(name)) => name,
                _ => return refused(problem),
            },
            Token::Equals | Token::Quoted(_) => return refused(problem),
        };
        let Some(Placed {
            token: Token::Equals,
            cut: mut is_cut,
            ..
        }) = tokens.next()
        else {
            return refused(problem);
        };
        let value = match tokens.next() {
            None => String::new(),
            Some(value) => {
                is_cut |= value.cut;
                match value.token {
                    Token::LineEnd => String::new(),
                    Token::Word(text) | Token::Quoted(text) => {
                        valued_line = Some(value.line);
                        text
                    }
                    Token::Equals | Token::Export => return refused(Problem::Loose),
                }
            }
        };
        if is_cut {
            variables.cut.push(name.clone());
        }
        variables.values.insert(name, value);
    }
    Ok(variables)
}

fn tokens(text: &str) -> Result<Vec<Placed>, Unreadable> {
    let mut tokens: Vec<Placed> = Vec::new();
    let mut line = 1;
    let mut touches = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (length, token) = match next {
            '=' => (1, Some(Token::Equals)),
            '#' => {
                if let Some(last) = tokens.last_mut().filter(|_| touches) {
                    last.cut = true;
                }
                (rest.find('\n').unwrap_or(rest.len()), None)
            }
            '"' | '\'' | '`' => {
                let length = quoted(rest, next).ok_or(Unreadable {
                    line,
                    problem: Problem::OpenQuote,
                })?;
                let value = unescaped(&rest[1..length - 1], next);
                (length, Some(Token::Quoted(value)))
            }
            space if space.is_whitespace() => {
                let length = rest.len() - rest.trim_start().len();
                (length, (space == '\n').then_some(Token::LineEnd))
            }
            _ => {
                let is_over = |c: char| c.is_whitespace() || "='`\"#".contains(c);
                let length = rest.find(is_over).unwrap_or(rest.len());
                let word = &rest[..length];
                let token = match word {
                    "export" => Token::Export,
                    word => Token::Word(word.to_owned()),
                };
                (length, Some(token))
            }
        };
        touches = !next.is_whitespace();
        if let Some(token) = token {
            let cut = false;
            tokens.push(Placed { token, line, cut });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// The length of a quoted text with its quotes. Only between double quotes a backslash keeps a quote.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut quotes = text.match_indices(quote).skip(1);
    let closing = quotes.find(|(at, _)| quote != '"' || !text[..*at].ends_with('\\'));
    closing.map(|(at, _)| at + 1)
}

fn unescaped(value: &str, quote: char) -> String {
    value
        .replace(&format!("\\{quote}"), &quote.to_string())
        .replace("\\n", "\n")
}
