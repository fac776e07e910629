//! What must not compile, and what the compiler then says: the messages are designed, so they are tested.
//!
//! `compile/pass` must compile with every compiler. The texts in `compile/fail/*.stderr` are exact, and compilers
//! change their words between releases: they are compared with the release that wrote them, [`GOLDEN`], and the test is
//! shown as ignored with any other. After an update of the compiler set `GOLDEN`, run
//! `TRYBUILD=overwrite cargo test -p goose-tests --test compile`, and read the difference: our own words must still come
//! first.

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use trybuild::TestCases;

/// The release of rustc whose words are in the `.stderr` files.
const GOLDEN: &str = "1.95.";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Both build in one folder.
    arguments.test_threads = Some(1);
    let trials = vec![Trial::test("pass", pass), Trial::ignorable_test("fail", fail)];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// `TestCases` does its work, and panics where it finds something, when it is dropped.
fn pass() -> Result<(), Failed> {
    TestCases::new().pass("tests/compile/pass/*.rs");
    Ok(())
}

fn fail() -> Result<Completion, Failed> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = String::from_utf8(Command::new(rustc).arg("--version").output()?.stdout)?;
    if !version.starts_with(&format!("rustc {GOLDEN}")) {
        let reason = format!("the expected texts are those of rustc {GOLDEN}x, this is {}", version.trim());
        return Ok(Completion::ignored_with(reason));
    }
    TestCases::new().compile_fail("tests/compile/fail/*.rs");
    Ok(Completion::Completed)
}
