//! A Lua script that the server keeps and is asked for by its hash.

use std::sync::OnceLock;

/// One script. Its source starts with a comment that lists KEYS, ARGV and what it returns.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) repeat: Repeat,
    sha: OnceLock<String>,
}

/// Whether a call may be sent again when its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Running it twice has the effect of running it once: it is sent again until it is answered.
    Always,
    /// Running it twice could do harm: the caller gets [`OutcomeUnknown`](goose_core::ErrorKind::OutcomeUnknown).
    Never,
}

impl Script {
    pub(crate) const fn new(name: &'static str, source: &'static str, repeat: Repeat) -> Self {
        Self { name, source, repeat, sha: OnceLock::new() }
    }

    /// The hash under which the server keeps it.
    pub(crate) fn sha(&self) -> &str {
        self.sha.get_or_init(|| fred::util::sha1_hash(self.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_the_server_computes() {
        // `redis-cli script load 'return 1'`
        let script = Script::new("one", "return 1", Repeat::Always);
        assert_eq!(script.sha(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
