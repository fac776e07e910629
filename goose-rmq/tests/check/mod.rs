//! What an error must be.

#![allow(clippy::panic, reason = "a failed expectation is how a test reports")]

use goose_core::{Error, ErrorKind};

/// The kind, and words that must be in the message or its causes.
#[track_caller]
pub(crate) fn check(error: &Error, kind: ErrorKind, words: &[&str]) {
    let text = format!("{error:#}");
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}
