//! Why a command did not do what it was asked for: a sentence and an exit code.

use std::fmt;
use std::process::ExitCode;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A sentence for people and an exit code for scripts: 2 for wrong usage, the code of the program that
/// failed where there is one, 1 for everything else.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// The failure of a program that was started; `None` for one that was ended by a signal.
    pub(crate) fn of_program(what: &str, code: Option<i32>) -> Self {
        let how = code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with code {code}"));
        Self { message: format!("{what} {how}"), code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1) }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
