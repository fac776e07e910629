//! One error for several callers.

use std::error::Error as _;

use goose_core::Error;

/// The same error once more, for one of several callers of a call that failed, with all of its causes.
pub(crate) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned());
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    if causes.is_empty() { copy } else { copy.with_source(causes.join(": ")) }
}

#[cfg(test)]
mod tests {
    use goose_core::ErrorKind;

    use super::*;

    #[test]
    fn the_causes_of_an_error_come_with_it() {
        let error = |text: &'static str| Error::new(ErrorKind::Full, text);
        let first = error("a").with_source(error("b").with_source(error("c").with_source("d")));
        assert_eq!((again(&first).kind(), format!("{:#}", again(&first))), (first.kind(), format!("{first:#}")));
        assert_eq!(format!("{:#}", again(&error("a"))), "a");
    }
}
