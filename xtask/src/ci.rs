//! `cargo xtask ci`: everything that must hold before a change goes in, the quick checks first.

use crate::cargo::Cargo;
use crate::steps::Steps;
use crate::{Result, capabilities, feature_sets, test, tidy};

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let result = run_steps(&mut steps);
    println!("\n{}", steps.table());
    result
}

/// Stops at the first step that fails.
fn run_steps(steps: &mut Steps) -> Result<()> {
    steps.run("format", || Cargo::new(["fmt", "--all", "--check"]).run())?;
    steps.run("tidy", tidy::run)?;
    steps.run("lints", lints)?;
    steps.run("documentation", || {
        let doc = Cargo::new(["doc", "--workspace", "--all-features", "--no-deps"]);
        doc.env("RUSTDOCFLAGS", "-D warnings").run()
    })?;
    steps.run("tests", test::run)?;
    steps.run("capabilities", || capabilities::run(true))
}

/// Clippy over everything with its tests and examples; then over each feature set of each crate as a user builds it, where no
/// development dependency lends it a feature it forgot to ask for. Unit tests and examples are compiled with each set by the
/// tests.
fn lints() -> Result<()> {
    Cargo::new(["clippy", "--workspace", "--all-features", "--all-targets", "--", "-D", "warnings"]).run()?;
    for set in feature_sets::of_workspace()? {
        set.cargo("clippy").args(["--", "-D", "warnings"]).run()?;
    }
    Ok(())
}
