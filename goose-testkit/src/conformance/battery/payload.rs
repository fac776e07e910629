//! What jobs carry: nothing, a lot, any bytes, and bytes that are no job.

use goose_core::broker::DeathCause;
use goose_core::broker::capability::{DeadContent, JobFilter, Page};
use goose_core::{ContentType, JobId, Payload};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::numbered;
use crate::conformance::scenario::battery;
use crate::conformance::session::Session;
use crate::conformance::stage::{Stage, dead_jobs, queue};
use crate::conformance::witness::Seen;

battery! { "payload":
    no_arguments_at_all;
    every_byte_there_is;
    every_kind_of_content;
    one_mebibyte;
    ten_mebibytes;
    large_and_small_in_one_call;
    what_is_no_job_goes_to_the_dead_and_the_consumer_goes_on needs "dead jobs";
    an_undecodable_job_passes_only_the_empty_filter needs "dead jobs";
}

async fn round_trip(stage: &Stage, args: Payload) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    let mut job = numbered(&jobs, 0)?;
    job.args = args;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    let delivery = session.take_one().await?;
    // Not `ensure_eq`: nobody wants to read ten mebibytes.
    ensure!(delivery.job.args == job.args, "the arguments came back as {:?} from {:?}", delivery.job.args, job.args);
    session.done(&[delivery]).await
}

async fn no_arguments_at_all(stage: Stage) -> Checked {
    round_trip(&stage, Payload::message_pack(Vec::new())).await
}

async fn every_byte_there_is(stage: Stage) -> Checked {
    round_trip(&stage, Payload::message_pack((0..=u8::MAX).collect())).await
}

async fn every_kind_of_content(stage: Stage) -> Checked {
    round_trip(&stage, Payload::json(br#"{"to":"a@b"}"#.to_vec())).await?;
    round_trip(&stage, Payload::message_pack(vec![0x91, 0x01])).await?;
    let protobuf = ContentType::Other("application/protobuf".to_owned());
    round_trip(&stage, Payload { content_type: protobuf, bytes: vec![8, 150, 1] }).await
}

async fn one_mebibyte(stage: Stage) -> Checked {
    round_trip(&stage, bulky(1)).await
}

async fn ten_mebibytes(stage: Stage) -> Checked {
    round_trip(&stage, bulky(10)).await
}

async fn large_and_small_in_one_call(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut large = numbered(&jobs, 1)?;
    large.args = bulky(2);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?, large.clone(), numbered(&jobs, 2)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[0]).await?;
    ensure!(session.take_one().await?.job.args == large.args, "the large job's arguments changed");
    session.expect(&[2]).await?;
    Ok(())
}

/// Bytes that do not compress to nothing.
fn bulky(mebibytes: usize) -> Payload {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    Payload::message_pack(noise.take(mebibytes << 20).collect())
}

/// Stores some bytes that are no job among jobs that are, and takes the jobs out.
async fn meet_garbage(stage: &Stage, garbage: &[(JobId, Vec<u8>)]) -> Checked<Session> {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    for (id, bytes) in garbage {
        stage.enqueue_raw(&jobs, *id, bytes.clone()).await?;
    }
    stage.enqueue(&broker, vec![numbered(&jobs, 1)?]).await?;
    let taken = session.expect(&[0, 1]).await?;
    session.done(&taken).await?;
    for (id, _) in garbage {
        session.must_see(&Seen::Died(*id, DeathCause::Undecodable)).await?;
    }
    Ok(session)
}

async fn what_is_no_job_goes_to_the_dead_and_the_consumer_goes_on(stage: Stage) -> Checked {
    let garbage = [b"".to_vec(), b"not an envelope".to_vec(), vec![0xff; 300], vec![0x93, 0x01]];
    let garbage: Vec<_> = garbage.into_iter().map(|bytes| (JobId::new(), bytes)).collect();
    let session = meet_garbage(&stage, &garbage).await?;
    let broker = stage.broker().await?;
    let dead = dead_jobs(&broker)?;
    for (id, bytes) in &garbage {
        let found = dead.find_by_id(*id).await?;
        let found = found.ok_or_else(|| Failure::new(format!("the undecodable job {id} is not among the dead")))?;
        ensure_eq!(found.reason.cause, DeathCause::Undecodable, "the cause of death");
        ensure_eq!(found.queue, queue("jobs")?, "the queue of an undecodable job");
        match found.content {
            DeadContent::Undecodable(kept) => ensure_eq!(kept, *bytes, "the bytes that were kept"),
            DeadContent::Job(job) => return Err(Failure::new(format!("{bytes:?} was decoded as {job:?}"))),
        }
        ensure!(!dead.replay(*id).await?, "an undecodable job was replayed");
    }
    ensure_eq!(dead.replay_n(10).await?, 0, "the number of undecodable jobs that were replayed");
    ensure_eq!(dead.size().await?, 4, "the number of dead jobs");
    ensure!(dead.delete(garbage[0].0).await?, "an undecodable job cannot be deleted");
    session.expect_nothing().await
}

async fn an_undecodable_job_passes_only_the_empty_filter(stage: Stage) -> Checked {
    meet_garbage(&stage, &[(JobId::new(), b"not an envelope".to_vec())]).await?;
    let broker = stage.broker().await?;
    let dead = dead_jobs(&broker)?;
    let all = dead.find(&JobFilter::default(), Page::first(10)).await?;
    ensure_eq!(all.items.len(), 1, "the dead jobs without a filter");
    let named = dead.find(&JobFilter::default().queue("jobs"), Page::first(10)).await?;
    ensure_eq!(named.items.len(), 0, "the undecodable jobs that pass a filter");
    Ok(())
}
