//! Job names: what a stored job finds its handler by.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::name::{self, NameError};
use crate::{Error, ErrorKind, JobArgs};

/// The name of a job: 1 to 120 characters of `A-Z`, `a-z`, `0-9`, `_`, `.`, `:`, `/` and `-`.
///
/// ```
/// use goose_core::JobName;
///
/// assert_eq!("billing/send-invoice".parse::<JobName>()?.as_str(), "billing/send-invoice");
/// assert!("".parse::<JobName>().is_err());
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(Cow<'static, str>);

impl JobName {
    /// The longest name, in characters.
    pub const MAX_LEN: usize = 120;

    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the name is empty, too long or has a character outside the alphabet.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Result<Self, Error> {
        let name = name.into();
        match name::check(&name, Self::MAX_LEN, "_.:/-") {
            Ok(()) => Ok(Self(name)),
            Err(NameError::Empty) => Err(Error::new(ErrorKind::InvalidInput, "job name is empty")),
            Err(NameError::TooLong(length)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("job name has {length} characters, the limit is {}", Self::MAX_LEN),
            )),
            Err(NameError::Character(c)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("job name {name:?} has the character {c:?}, use A-Z a-z 0-9 _ . : / - only"),
            )),
        }
    }

    /// The name of the job whose arguments are `A`.
    ///
    /// # Errors
    /// As [`JobName::new`].
    pub fn of<A: JobArgs>() -> Result<Self, Error> {
        Self::new(A::NAME)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobName({:?})", &*self.0)
    }
}

impl FromStr for JobName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_a_reason() {
        for (name, message) in [
            (String::new(), "job name is empty"),
            ("x".repeat(121), "job name has 121 characters, the limit is 120"),
            ("a b".into(), "job name \"a b\" has the character ' ', use A-Z a-z 0-9 _ . : / - only"),
        ] {
            let error = JobName::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), message);
        }
    }
}
