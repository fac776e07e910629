//! Prints `CAPABILITIES.md`: what each broker can do, asked of the brokers themselves, and the scenarios that prove it.
//!
//! `cargo xtask capabilities` stores what this prints.
#![allow(clippy::print_stdout, reason = "its output is the page")]

use std::fmt::Write as _;

use goose_core::broker::Broker;
use goose_core::broker::capability::{self, Capability};
use goose_redis::RedisBroker;
use goose_services::Fake;
use goose_sqlite::SqliteBroker;
use goose_testkit::conformance::{Scenario, scenarios};

#[tokio::main(flavor = "current_thread")]
async fn main() -> goose_core::Result<()> {
    // A broker says what it can do before it has done anything: a server that only lets it connect is enough.
    let server = Fake::start(|_, _| None);
    let redis = RedisBroker::connect(&server.url()).await?;
    let brokers: Vec<Box<dyn Broker>> = vec![Box::new(SqliteBroker::in_memory().await?), Box::new(redis)];
    print!("{}", page(&brokers, &scenarios()));
    for broker in brokers {
        broker.close().await?;
    }
    Ok(())
}

fn page(brokers: &[Box<dyn Broker>], scenarios: &[Scenario]) -> String {
    let mut text = String::from(INTRODUCTION);
    let names: Vec<&str> = brokers.iter().map(|broker| broker.name()).collect();
    _ = writeln!(text, "| capability | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for capability in capability::ALL {
        _ = write!(text, "| {} |", capability.name);
        for broker in brokers {
            _ = write!(text, " {} |", cell(&capability, &**broker, scenarios));
        }
        text.push('\n');
    }
    for capability in capability::ALL {
        _ = writeln!(text, "\n## {}\n", capability.name);
        for scenario in scenarios_of(&capability, scenarios) {
            text.push_str(&line(scenario));
        }
    }
    text.push_str("\n## every broker\n\nThese scenarios need no capability. Every broker must pass them.\n\n");
    scenarios.iter().filter(|scenario| scenario.needs().is_empty()).for_each(|scenario| text.push_str(&line(scenario)));
    text
}

/// A scenario, linked to the file of its battery. `cargo xtask tidy` checks that the file is there.
fn line(scenario: &Scenario) -> String {
    let battery = scenario.name().split("::").next().unwrap_or_default();
    format!("- [`{}`](goose-testkit/src/conformance/battery/{battery}.rs)\n", scenario.name())
}

const INTRODUCTION: &str = "\
# Capabilities

<!-- Written by `cargo xtask capabilities`. Do not edit. -->

What not every broker has to be able to do. A tick means that the broker says so, and it links to the scenarios of the
[conformance suite](goose-testkit/src/conformance) that hold it to its word. Asking for what is missing
answers `ErrorKind::Unsupported`.

";

/// A tick with its proof, or a dash. What no scenario tests gets no tick.
fn cell(capability: &Capability, broker: &dyn Broker, scenarios: &[Scenario]) -> String {
    let count = scenarios_of(capability, scenarios).count();
    if !(capability.is_supported)(broker) || count == 0 {
        return "–".to_owned();
    }
    format!("✓ [{count} scenarios](#{})", capability.name.replace(' ', "-"))
}

fn scenarios_of<'a>(capability: &Capability, scenarios: &'a [Scenario]) -> impl Iterator<Item = &'a Scenario> {
    let name = capability.name;
    scenarios.iter().filter(move |scenario| scenario.needs().contains(&name))
}
