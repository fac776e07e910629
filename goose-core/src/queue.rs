//! Queue names: validated once, cheap to copy, never a bare string.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::{self, NameError};
use crate::{Error, ErrorKind};

/// The name of a queue: 1 to 120 characters of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`.
///
/// The alphabet is what every broker can use in its own names unescaped. Cloning shares the text.
///
/// ```
/// use goose_core::QueueName;
///
/// let mail: QueueName = "mail.high".parse()?;
/// assert_eq!(mail.as_str(), "mail.high");
/// assert_eq!(QueueName::default().as_str(), "default");
/// assert!("no spaces".parse::<QueueName>().is_err());
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// The longest name, in characters.
    pub const MAX_LEN: usize = 120;

    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the name is empty, too long or has a character outside the alphabet.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        match name::check(name, Self::MAX_LEN, "_.-") {
            Ok(()) => Ok(Self(name.into())),
            Err(NameError::Empty) => Err(Error::new(ErrorKind::InvalidInput, "queue name is empty")),
            Err(NameError::TooLong(length)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("queue name has {length} characters, the limit is {}", Self::MAX_LEN),
            )),
            Err(NameError::Character(c)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("queue name {name:?} has the character {c:?}, use A-Z a-z 0-9 _ . - only"),
            )),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for QueueName {
    /// The queue of jobs that name none: `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueName({:?})", &*self.0)
    }
}

impl FromStr for QueueName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<&str> for QueueName {
    type Error = Error;
    fn try_from(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<String> for QueueName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl From<&Self> for QueueName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl AsRef<str> for QueueName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_whole_alphabet_up_to_the_limit() {
        for name in ["a", "A-z_0.9", &"x".repeat(120)] {
            assert_eq!(QueueName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (name, message) in [
            ("", "queue name is empty"),
            (&*"x".repeat(121), "queue name has 121 characters, the limit is 120"),
            ("a b", "queue name \"a b\" has the character ' ', use A-Z a-z 0-9 _ . - only"),
            ("{a}", "queue name \"{a}\" has the character '{', use A-Z a-z 0-9 _ . - only"),
            ("höflich", "queue name \"höflich\" has the character 'ö', use A-Z a-z 0-9 _ . - only"),
            ("a\0", "queue name \"a\\0\" has the character '\\0', use A-Z a-z 0-9 _ . - only"),
        ] {
            let error = QueueName::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), message);
        }
    }
}
