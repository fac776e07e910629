//! Command lines of the lab's programs: `--name value` pairs, nothing else.

use std::collections::HashMap;
use std::str::FromStr;

use crate::Result;

/// Flags that were given; each is taken out once, so that what is left over is a mistake.
#[derive(Debug)]
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// Reads `--name value` pairs.
    ///
    /// # Errors
    /// An argument that is not a flag, or a flag without a value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut flags = HashMap::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").ok_or_else(|| format!("{argument:?} is not a flag"))?;
            let value = arguments.next().ok_or_else(|| format!("--{name} needs a value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok(Self(flags))
    }

    /// The value of a flag, if it was given.
    ///
    /// # Errors
    /// The value does not parse.
    pub fn take<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let value = text.parse().map_err(|error: T::Err| format!("--{name} {text}: {}", error.to_string()));
        Ok(Some(value?))
    }

    /// The value of a flag that must be given.
    ///
    /// # Errors
    /// The flag is missing or its value does not parse.
    pub fn require<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Result<T> {
        Ok(self.take(name)?.ok_or_else(|| format!("--{name} is missing"))?)
    }

    /// Checks that every flag was taken.
    ///
    /// # Errors
    /// A flag nobody asked for.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            Some(name) => Err(format!("--{name} is not known here").into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(flags("20000").unwrap_err().to_string(), "\"20000\" is not a flag");
        assert_eq!(flags("--jobs").unwrap_err().to_string(), "--jobs needs a value");
        let mut given = flags("--jobs many --speed 3").unwrap();
        let text = given.take::<u64>("jobs").unwrap_err().to_string();
        assert_eq!(text, "--jobs many: invalid digit found in string");
        assert_eq!(given.require::<u64>("seed").unwrap_err().to_string(), "--seed is missing");
        assert_eq!(given.finish().unwrap_err().to_string(), "--speed is not known here");
    }

    #[test]
    fn values_are_read() {
        let mut given = flags("--jobs 5").unwrap();
        assert_eq!(given.require::<u64>("jobs").unwrap(), 5);
        assert_eq!(given.take::<u64>("seed").unwrap(), None);
        given.finish().unwrap();
    }
}
