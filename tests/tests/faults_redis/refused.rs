//! Servers that are not what is needed, and passwords that change: said at once, and healed.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::ErrorKind;
use goose_redis::RedisBroker;
use goose_services::Fake;

use crate::stage::{Chore, PATIENCE, Stage, all_done, until};
use crate::{Outcome, Played, ensure};

pub(crate) async fn a_server_that_is_too_old() -> Outcome {
    for (version, is_good) in [("5.0.14", false), ("6.0.16", false), ("6.2.0", true)] {
        let fake = Fake::of_version(version);
        match RedisBroker::connect(&fake.url()).await {
            Ok(_) => ensure!(is_good, "{version} was taken"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(!is_good && error.kind() == ErrorKind::Misconfigured, "{version}: {text}");
                ensure!(text.contains(version) && text.contains("6.2"), "it does not say what to do: {text}");
            }
        }
    }
    Ok(Played::Done)
}

/// The password changes under a client and a worker. Both say so, and go on when it is set back.
pub(crate) async fn a_password_that_is_rotated() -> Outcome {
    let stage = Stage::new();
    stage.server.ask(&["ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all"]);
    let broker = stage.options().username("app").password("first").open().await?;
    let worker = stage.worker(&broker).start().await?;
    let client = Client::new(broker.clone());
    let mut ids = vec![client.perform_async(Chore::default()).await?];
    stage.have_run(PATIENCE, &ids).await?;
    stage.server.ask(&["ACL", "SETUSER", "app", "resetpass", ">second"]);
    stage.server.ask(&["CLIENT", "KILL", "USER", "app"]);
    let begun = Instant::now();
    let error = loop {
        match client.perform_async(Chore::default()).await {
            Ok(id) => ids.push(id),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break error,
            Err(error) => ensure!(error.is_retryable(), "{error:#}"),
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "it never says that the password is wrong");
    };
    let text = format!("{error:#} {error:?}");
    ensure!(text.contains("password") && !text.contains("first"), "{text}");
    stage.server.ask(&["ACL", "SETUSER", "app", "resetpass", ">first"]);
    let begun = Instant::now();
    loop {
        match client.perform_async(Chore::default()).await {
            Ok(id) => break ids.push(id),
            Err(error) => ensure!(begun.elapsed() < Duration::from_secs(5), "it does not heal: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.have_run(PATIENCE, &ids).await?;
    // A connection that was refused is tried again within a second; until then its calls fail at once.
    until(Duration::from_secs(5), "every connection is there again", async || {
        let clients = stage.server.clients();
        Ok(["data", "beat"].iter().all(|role| clients.iter().any(|line| line.contains(&format!("goose-{role}-")))))
    })
    .await?;
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}
