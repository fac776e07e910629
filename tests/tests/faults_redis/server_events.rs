//! What happens to servers in operation, with work going on: it delays and does no more.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::ErrorKind;
use goose_services::{Server, within};
use tokio::time::sleep;

use crate::stage::{Chore, Load, PATIENCE, Stage, all_done, recovered, until};
use crate::{Outcome, Played, ensure, is_long};

/// How long each event goes on.
fn a_while() -> Duration {
    Duration::from_secs(if is_long() { 30 } else { 2 })
}

/// Runs a load, lets something happen to the server again and again, and checks what must hold. `may_cut` says whether
/// connections are cut: then an outcome may be unknown, and a job that is enqueued again may run again.
async fn under_load(what: &str, pause: Duration, may_cut: bool, happen: impl Fn(&Server, usize)) -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let beside = stage.beside().await?;
    let workers = [stage.worker(&broker).start().await?, stage.worker(&beside).start().await?];
    let load = Load::start(&broker, 4, Duration::from_millis(1));
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < a_while() {
        happen(&stage.server, times);
        times += 1;
        sleep(pause).await;
    }
    let taken = load.stop().await?;
    stage.have_run(PATIENCE, &taken.ids).await?;
    let doubles = stage.runs.doubles();
    eprintln!("{what}: {times} times, {} jobs, the slowest enqueue took {:.1?}", taken.ids.len(), taken.slowest);
    ensure!(
        taken.ids.len() > 100,
        "only {} jobs went in, {} refused, {:?}",
        taken.ids.len(),
        taken.refusals,
        taken.slowest
    );
    ensure!(may_cut || taken.repeated.is_empty(), "{} outcomes were unknown", taken.repeated.len());
    ensure!(taken.refusals == 0, "{} enqueues were refused", taken.refusals);
    ensure!(doubles.is_subset(&taken.repeated), "doubles that nothing explains: {doubles:?}");
    for worker in workers {
        worker.stop().await?;
    }
    ensure!(recovered(&beside).await? == 0, "a living worker was held for dead");
    all_done(&beside).await?;
    Ok(Played::Done)
}

pub(crate) async fn scripts_are_flushed_over_and_over() -> Outcome {
    under_load("SCRIPT FLUSH", Duration::from_millis(40), false, |server, n| {
        server.ask(&["SCRIPT", "FLUSH", if n % 2 == 0 { "SYNC" } else { "ASYNC" }]);
    })
    .await
}

pub(crate) async fn every_connection_is_killed_over_and_over() -> Outcome {
    under_load("CLIENT KILL", Duration::from_millis(150), true, |server, n| {
        let roles = ["goose-data-", "goose-beat-", "goose-wait-", "goose-"];
        for line in server.clients().iter().filter(|line| line.contains(&format!(" name={}", roles[n % 4]))) {
            let id = line.split(' ').next().and_then(|field| field.strip_prefix("id=")).unwrap_or("0");
            server.ask(&["CLIENT", "KILL", "ID", id]);
        }
    })
    .await
}

pub(crate) async fn blocked_connections_are_unblocked_over_and_over() -> Outcome {
    under_load("CLIENT UNBLOCK", Duration::from_millis(5), false, |server, n| {
        for line in server.clients().iter().filter(|line| line.contains("flags=b")) {
            let id = line.split(' ').next().and_then(|field| field.strip_prefix("id=")).unwrap_or("0");
            server.ask(&["CLIENT", "UNBLOCK", id, if n % 2 == 0 { "ERROR" } else { "TIMEOUT" }]);
        }
    })
    .await
}

pub(crate) async fn clients_are_paused_for_a_second() -> Outcome {
    under_load("CLIENT PAUSE", Duration::from_millis(1300), false, |server, n| {
        server.ask(&["CLIENT", "PAUSE", "1000", if n % 2 == 0 { "ALL" } else { "WRITE" }]);
    })
    .await
}

pub(crate) async fn the_data_is_saved_in_the_background() -> Outcome {
    under_load("BGSAVE and BGREWRITEAOF", Duration::from_millis(100), false, |server, n| {
        // Refused while the other is under way, which is as good.
        server.ask(&[if n % 2 == 0 { "BGSAVE" } else { "BGREWRITEAOF" }]);
        if n == 0 {
            server.ask(&["CONFIG", "SET", "appendonly", "yes"]);
        }
    })
    .await
}

/// The primary becomes a replica, and no connection breaks. Enqueues say so within their time, and all goes on when it
/// is the primary again.
pub(crate) async fn a_primary_becomes_a_replica_and_no_connection_breaks() -> Outcome {
    let stage = Stage::new();
    let other = Server::with(&["--replicaof", "127.0.0.1", &stage.server.port().to_string()]);
    let in_sync = |server: &Server| server.ask(&["INFO", "replication"]).contains("master_link_status:up");
    within(PATIENCE, "the other is in sync", || in_sync(&other));
    let limit = Duration::from_secs(2);
    let broker = stage.options().command_timeout(limit).open().await?;
    let client = Client::new(broker.clone());
    let worker = stage.worker(&broker).start().await?;
    let mut ids = vec![client.perform_async(Chore::default()).await?];
    stage.have_run(PATIENCE, &ids).await?;

    let until_in_sync = || {
        let (ours, theirs) = (stage.server.ask(&["DBSIZE"]), other.ask(&["DBSIZE"]));
        ours == theirs
    };
    within(PATIENCE, "the other has everything", until_in_sync);
    other.ask(&["REPLICAOF", "NO", "ONE"]);
    stage.server.ask(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    within(PATIENCE, "it follows the other", || in_sync(&stage.server));
    for _ in 0..3 {
        let begun = Instant::now();
        let error = client.perform_async(Chore::default()).await.err().ok_or("a replica took a job")?;
        let text = format!("{error:#}");
        ensure!(error.kind() == ErrorKind::Unavailable, "expected Unavailable, got {:?}: {text}", error.kind());
        ensure!(text.contains("replica"), "it does not say why: {text}");
        ensure!(begun.elapsed() < limit * 2, "it took {:?}", begun.elapsed());
    }
    stage.server.ask(&["REPLICAOF", "NO", "ONE"]);
    let back = Instant::now();
    ids.push(client.perform_async(Chore::default()).await?);
    stage.have_run(PATIENCE, &ids).await?;
    eprintln!("primary again: a job ran after {:.1?}", back.elapsed());
    // Also when it is woken, not only because it looks from time to time.
    until(PATIENCE, "it is woken at once again", async || {
        let (id, begun) = (client.perform_async(Chore::default()).await?, Instant::now());
        stage.have_run(PATIENCE, &[id]).await?;
        Ok(begun.elapsed() < Duration::from_millis(500))
    })
    .await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    all_done(&broker).await?;
    Ok(Played::Done)
}
