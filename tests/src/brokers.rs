//! Opening a broker by its address, so that programs and tests take any.
//!
//! A new broker needs one variant of [`Address`], and one arm in each `match` here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use goose_core::BoxError;
use goose_core::broker::Broker;
use goose_sqlite::SqliteOptions;

use crate::Result;

/// The kinds of broker the lab can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded broker.
    Sqlite,
}

impl FromStr for Kind {
    type Err = BoxError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            other => Err(format!("no broker {other:?} in the lab, there is: sqlite").into()),
        }
    }
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `sqlite:` and the path of the file.
    Sqlite(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("{text:?} is not of the form kind:place"))?;
        match kind.parse()? {
            Kind::Sqlite => Ok(Self::Sqlite(rest.into())),
        }
    }
}

/// Settings all brokers have in one form or another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// How long a silent worker keeps its jobs; the broker's default if not set.
    pub lease: Option<Duration>,
}

/// Opens a handle.
///
/// # Errors
/// What the broker answers.
pub async fn open(address: &Address, settings: Settings) -> goose_core::Result<Arc<dyn Broker>> {
    match address {
        Address::Sqlite(path) => {
            let mut options = SqliteOptions::new(path);
            if let Some(lease) = settings.lease {
                options = options.lease(lease);
            }
            Ok(Arc::new(options.open().await?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        let address: Address = "sqlite:/tmp/a:b.db".parse().unwrap();
        assert_eq!(address, Address::Sqlite("/tmp/a:b.db".into()));
        assert_eq!(address.to_string(), "sqlite:/tmp/a:b.db");
        let unknown = "postgres:x".parse::<Address>().unwrap_err();
        assert_eq!(unknown.to_string(), "no broker \"postgres\" in the lab, there is: sqlite");
    }
}
