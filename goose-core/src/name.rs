//! The one rule that queue names and job names share: length and alphabet.

/// Why a name is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    Empty,
    /// Its length in characters.
    TooLong(usize),
    /// The first character outside the alphabet.
    Character(char),
}

/// Accepts 1 to `max` characters of `A-Z a-z 0-9` and `punctuation`.
pub(crate) fn check(name: &str, max: usize, punctuation: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    // Length first: an error must not echo a megabyte of text.
    let length = name.chars().count();
    if length > max {
        return Err(NameError::TooLong(length));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !punctuation.contains(*c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}
