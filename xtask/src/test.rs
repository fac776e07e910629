//! `cargo xtask test`: all set-up and every test there is.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use crate::cargo::Cargo;
use crate::quickstart::Program;
use crate::servers::{Found, RABBITMQ, REDIS};
use crate::steps::Steps;
use crate::{Failure, Result, feature_sets};

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let mut count = Count::default();
    let result = run_steps(&mut steps, &mut count);
    println!("\n{}", steps.table());
    println!("{}", count.summary());
    result
}

/// The whole of the workspace first, with every feature: that is where nearly everything is found. Then each
/// other feature set, because code and tests can also break by a feature's absence. Then the program that
/// the README promises, with its crash, over each broker.
fn run_steps(steps: &mut Steps, count: &mut Count) -> Result<()> {
    let (redis, rabbitmq) = steps.run("set-up", || {
        find_c_compiler()?;
        Ok((REDIS.set_up()?, RABBITMQ.set_up()?))
    })?;
    let whole = whole(&redis, &rabbitmq, count);
    steps.run("tests, all features", || count.run(&whole))?;
    for set in feature_sets::of_workspace()?.into_iter().filter(|set| !set.is_all) {
        let features = if set.features.is_empty() { "no features".to_owned() } else { set.features.join(", ") };
        let name = format!("tests, {} with {features}", set.package);
        steps.run(name, || set.tests().iter().try_for_each(|call| count.run(call)))?;
    }
    steps.run("quickstart with a crash", || {
        Program::for_broker(OsStr::new("sqlite"), None).call("run").args(["--", "--crash", "."]).run()
    })?;
    steps.run("quickstart over Redis with a crash", || quickstart_over("redis", &redis))?;
    steps.run("quickstart over RabbitMQ with a crash", || quickstart_over("rmq", &rabbitmq))
}

/// The whole of the workspace, without those crates whose tests start servers of a kind of which there is nothing but a URL.
fn whole(redis: &Found, rabbitmq: &Found, count: &mut Count) -> Cargo {
    let mut whole = Cargo::new(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    for (package, needed) in [
        ("goose-redis", &[(REDIS, redis)][..]),
        ("goose-rmq", &[(RABBITMQ, rabbitmq)]),
        ("goose-services", &[(REDIS, redis), (RABBITMQ, rabbitmq)]),
    ] {
        if let Some((server, _)) = needed.iter().find(|(_, found)| matches!(found, Found::Url(_))) {
            whole = whole.args(["--exclude", package]);
            let variable = server.url_variable();
            count.skipped.push(format!("{package} (starts servers of its own, and there is only {variable})"));
        }
    }
    whole
}

fn quickstart_over(broker: &str, server: &Found) -> Result<()> {
    let arguments = ["--broker", broker, "--crash", "."];
    match server {
        Found::Command(_) => {
            let program = Program::for_broker(OsStr::new(broker), None);
            program.with_server(broker, &arguments.map(OsString::from))?.run()
        }
        Found::Url(url) => {
            let program = Program::for_broker(OsStr::new(broker), Some(OsStr::new(url)));
            program.call("run").args(["--", "--url", url]).args(arguments).run()
        }
    }
}

/// SQLite is compiled from its C source; without a compiler the failure would be a page of build output.
fn find_c_compiler() -> Result<()> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    // `CC` may hold arguments as well; the first word is the program.
    let program = compiler.to_string_lossy().split_whitespace().next().unwrap_or("cc").to_owned();
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => {
            println!("C compiler: {program}");
            Ok(())
        }
        Err(error) => Err(Failure::new(format!(
            "cannot start the C compiler {program:?}: {error}; install gcc or clang, or set CC: SQLite is built from source"
        ))),
    }
}

/// What the test programs reported.
#[derive(Debug, Default)]
struct Count {
    passed: u64,
    /// Names of the tests that failed.
    failed: Vec<String>,
    /// Names of the tests that were not run, with the reason where one is given.
    skipped: Vec<String>,
}

impl Count {
    /// Runs tests, passes their output on and reads along.
    fn run(&mut self, call: &Cargo) -> Result<()> {
        call.run_lines(|line| {
            println!("{line}");
            self.read(line);
        })
    }

    /// Reads one line of a test program: a test that was skipped or failed, or the result at the end.
    fn read(&mut self, line: &str) {
        let Some(line) = line.strip_prefix("test ") else { return };
        if let Some(numbers) = line.strip_prefix("result: ") {
            let before = numbers.split(" passed").next().unwrap_or_default();
            self.passed += before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            return;
        }
        // Test programs pad their columns.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((name, reason)) = line.split_once("... ignored") {
            self.skipped.push(words(&format!("{name}{reason}")));
        } else if let Some((name, _)) = line.split_once("... FAILED") {
            self.failed.push(words(name));
        }
    }

    /// One line, and one more for each test that failed or was not run: both must be seen.
    fn summary(&self) -> String {
        let Self { passed, failed, skipped } = self;
        let mut text = format!("test: {passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
        for (what, names) in [("skipped", skipped), ("failed", failed)] {
            for name in names {
                text.push_str(&format!("\n  {what}: {name}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_but_a_url_what_starts_servers_is_left_out_and_named() {
        let command = || Found::Command("redis-server".to_owned());
        let url = || Found::Url("redis://x".to_owned());
        for (redis, rabbitmq, left_out, reason) in [
            (command(), command(), "--no-fail-fast", ""),
            (url(), command(), "--exclude goose-redis --exclude goose-services", "GOOSE_REDIS_URL"),
            (command(), url(), "--no-fail-fast --exclude goose-rmq --exclude goose-services", "GOOSE_RABBITMQ_URL"),
        ] {
            let mut count = Count::default();
            let call = whole(&redis, &rabbitmq, &mut count).shown();
            assert!(call.ends_with(left_out), "{call}");
            assert_eq!(count.skipped.len(), left_out.matches("--exclude").count());
            assert!(count.skipped.iter().all(|skipped| skipped.contains(reason)), "{}", count.summary());
        }
    }

    #[test]
    fn results_are_added_up_and_skips_are_named() {
        let mut count = Count::default();
        for line in [
            "test retry::doubles ... ok",
            "test retry::is_bounded ... FAILED",
            "test conformance::batches   ... ignored   (sqlite has no batches)",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        ] {
            count.read(line);
        }
        assert_eq!(
            count.summary(),
            "test: 15 passed, 1 failed, 1 skipped\n  skipped: conformance::batches (sqlite has no batches)\n  \
             failed: retry::is_bounded"
        );
    }
}
