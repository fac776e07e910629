//! The command line.

use crate::Result;

/// What to measure, and how to say it.
pub(crate) struct Options {
    pub(crate) broker: String,
    pub(crate) url: Option<String>,
    pub(crate) json: bool,
    pub(crate) jobs: u32,
}

impl Options {
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { broker: "sqlite".to_owned(), url: None, json: false, jobs: 200_000 };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--broker" => options.broker = value()?,
                "--url" => options.url = Some(value()?),
                "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs needs a number")?,
                "--json" => options.json = true,
                _ => return Err(format!("unknown flag {flag}; there is --broker, --url, --jobs, --json").into()),
            }
        }
        if options.jobs < 1000 {
            return Err("--jobs needs at least 1000".into());
        }
        Ok(options)
    }
}
