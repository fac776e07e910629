//! Prints `CAPABILITIES.md`: what each broker can do, asked of the brokers themselves, and the scenarios that prove it.
//!
//! `cargo xtask capabilities` stores what this prints.
#![allow(clippy::print_stdout, reason = "its output is the page")]

use std::fmt::Write as _;

use goose_core::broker::Broker;
use goose_core::broker::capability::{self, Capability};
use goose_redis::RedisBroker;
use goose_rmq::{RmqBroker, RmqOptions};
use goose_services::Fake;
use goose_services::rabbit::FakeRabbit;
use goose_sqlite::SqliteBroker;
use goose_testkit::conformance::{Scenario, Skip, scenarios};
use goose_tests::skips;

#[tokio::main(flavor = "current_thread")]
async fn main() -> goose_core::Result<()> {
    // A broker says what it can do before it has done anything: a server that only lets it connect is enough.
    let server = Fake::start(|_, _| None);
    let redis = RedisBroker::connect(&server.url()).await?;
    let rabbit = FakeRabbit::start();
    let rmq = RmqBroker::connect(&rabbit.url()).await?;
    let journal = RmqOptions::new(rabbit.url()).journal(true).open().await?;
    let brokers: Vec<(Box<dyn Broker>, Vec<Skip>)> = vec![
        (Box::new(SqliteBroker::in_memory().await?), skips::sqlite()),
        (Box::new(redis), skips::redis()),
        (Box::new(rmq), skips::rmq()),
    ];
    let journal: (Box<dyn Broker>, Vec<Skip>) = (Box::new(journal), skips::rmq_with_journal());
    print!("{}", page(&brokers, &journal, &scenarios()));
    journal.0.close().await?;
    for (broker, _) in brokers {
        broker.close().await?;
    }
    Ok(())
}

fn page(
    brokers: &[(Box<dyn Broker>, Vec<Skip>)],
    (journal, journal_skips): &(Box<dyn Broker>, Vec<Skip>),
    scenarios: &[Scenario],
) -> String {
    let mut text = String::from(INTRODUCTION);
    let names: Vec<&str> = brokers.iter().map(|(broker, _)| broker.name()).collect();
    let columns = names.len() + 1;
    _ = writeln!(text, "| capability | {} | rmq with a journal |\n|---|{}", names.join(" | "), "---|".repeat(columns));
    for capability in capability::ALL {
        _ = write!(text, "| {} |", capability.name);
        for (broker, skips) in brokers {
            _ = write!(text, " {} |", cell(&capability, &**broker, scenarios, skips));
        }
        _ = writeln!(text, " {} |", cell(&capability, &**journal, scenarios, journal_skips));
    }
    for (broker, skips) in brokers {
        text.push_str(&exceptions(broker.name(), &**broker, skips, scenarios));
        if broker.name() == "rmq" {
            text.push_str(&exceptions("rmq with a journal", &**journal, journal_skips, scenarios));
            let before_4 = "rmq with quorum queues, before RabbitMQ 4.0";
            text.push_str(&exceptions(before_4, &**broker, &skips::rmq_quorum_before_4(), scenarios));
            let moved = skips::rmq_quorum_with_journal_before_4();
            text.push_str(&exceptions(&format!("{before_4}, with a journal"), &**journal, &moved, scenarios));
        }
    }
    for capability in capability::ALL {
        _ = writeln!(text, "\n## {}\n", capability.name);
        for scenario in scenarios_of(&capability, scenarios) {
            text.push_str(&line(scenario));
        }
    }
    text.push_str("\n## every broker\n\nThese scenarios need no capability. Every broker must pass them, with the exceptions above.\n\n");
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

/// What a broker does not pass although it has the power, or needs none for it: by reasons.
fn exceptions(whose: &str, broker: &dyn Broker, skips: &[Skip], scenarios: &[Scenario]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for scenario in scenarios.iter().filter(|scenario| has_all(broker, scenario.needs())) {
        let Some(skip) = skips.iter().find(|skip| skip.scenario == scenario.name()) else { continue };
        match reasons.iter_mut().find(|(reason, _)| *reason == skip.reason) {
            Some((_, names)) => names.push(skip.scenario),
            None => reasons.push((skip.reason, vec![skip.scenario])),
        }
    }
    let mut text = String::new();
    for (reason, names) in reasons {
        _ = writeln!(text, "\n**{whose}**: {reason}. So it does not pass\n");
        names.iter().for_each(|name| _ = writeln!(text, "- `{name}`"));
    }
    text
}

fn has_all(broker: &dyn Broker, needs: &[&str]) -> bool {
    capability::ALL.iter().all(|power| !needs.contains(&power.name) || (power.is_supported)(broker))
}

/// A tick with its proof, or a dash. What no scenario tests gets no tick.
fn cell(capability: &Capability, broker: &dyn Broker, scenarios: &[Scenario], skips: &[Skip]) -> String {
    let is_passed = |scenario: &&Scenario| !skips.iter().any(|skip| skip.scenario == scenario.name());
    let all = scenarios_of(capability, scenarios).count();
    let count = scenarios_of(capability, scenarios).filter(is_passed).count();
    if !(capability.is_supported)(broker) || count == 0 {
        return "–".to_owned();
    }
    let of = if count == all { String::new() } else { format!(" of {all}") };
    format!("✓ [{count}{of} scenarios](#{})", capability.name.replace(' ', "-"))
}

fn scenarios_of<'a>(capability: &Capability, scenarios: &'a [Scenario]) -> impl Iterator<Item = &'a Scenario> {
    let name = capability.name;
    scenarios.iter().filter(move |scenario| scenario.needs().contains(&name))
}
