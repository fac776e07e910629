//! Events as numbers.

use std::sync::Arc;
use std::time::Duration;

use goose_core::{Event, Job, Labels, Metric, Metrics, Observer, Schedule};

/// Feeds a metrics backend from the events of a worker.
#[derive(Debug)]
pub(crate) struct MetricsObserver(pub(crate) Arc<dyn Metrics>);

impl MetricsObserver {
    fn ended(&self, job: &Job, result: Option<Metric>, ran: Option<Duration>) {
        let labels = labels(job);
        self.0.count(Metric::JobsProcessed, 1, &labels);
        if let Some(metric) = result {
            self.0.count(metric, 1, &labels);
        }
        if let Some(ran) = ran {
            self.0.duration(Metric::ExecutionTime, ran, &labels);
        }
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Started { job, waited } => self.0.duration(latency(job), waited, &labels(job)),
            Event::Succeeded { job, ran } => self.ended(job, Some(Metric::JobsSucceeded), Some(ran)),
            Event::Failed { job, ran, .. } => self.ended(job, Some(Metric::JobsFailed), Some(ran)),
            Event::Snoozed { job, .. } | Event::Discarded { job, .. } => self.ended(job, None, None),
            Event::Recovered { queue, .. } => {
                self.0.count(Metric::JobsRecovered, 1, &Labels::new(None, Some(queue.as_str())));
            }
            _ => {}
        }
    }
}

/// What kind of waiting came before this attempt.
fn latency(job: &Job) -> Metric {
    if job.attempts.retry_count > 0 {
        Metric::RetryLatency
    } else if job.schedule == Schedule::Now {
        Metric::ExecutionLatency
    } else {
        Metric::ScheduleLatency
    }
}

fn labels(job: &Job) -> Labels<'_> {
    Labels::new(Some(job.name.as_str()), Some(job.ready_queue().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{JobId, JobName, Payload, QueueName};
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);
    impl Metrics for Lines {
        fn count(&self, metric: Metric, by: u64, labels: &Labels<'_>) {
            let line = format!("{} +{by} {:?} {:?}", metric.name(), labels.job, labels.queue);
            self.0.lock().unwrap().push(line);
        }
        fn duration(&self, metric: Metric, value: Duration, _: &Labels<'_>) {
            self.0.lock().unwrap().push(format!("{} {value:?}", metric.name()));
        }
    }

    #[test]
    fn events_become_the_ancestors_numbers() {
        let lines = Arc::new(Lines::default());
        let observer = MetricsObserver(Arc::clone(&lines) as _);
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![]));
        let (waited, ran) = (Duration::from_millis(1), Duration::from_millis(2));
        let seen = |event: &Event<'_>| {
            observer.observe(event);
            std::mem::take(&mut *lines.0.lock().unwrap())
        };

        assert_eq!(seen(&Event::Started { job: &job, waited }), ["execution.latency 1ms"]);
        job.schedule = Schedule::In(waited);
        assert_eq!(seen(&Event::Started { job: &job, waited }), ["scheduled.latency 1ms"]);
        job.attempts.retry_count = 1;
        assert_eq!(seen(&Event::Started { job: &job, waited }), ["retry.latency 1ms"]);

        let about = "+1 Some(\"a\") Some(\"default\")";
        assert_eq!(
            seen(&Event::Succeeded { job: &job, ran }),
            [format!("jobs.processed {about}"), format!("jobs.succeeded {about}"), "job.execution_time 2ms".into()]
        );
        assert_eq!(
            seen(&Event::Failed { job: &job, ran, error: "e" }),
            [format!("jobs.processed {about}"), format!("jobs.failed {about}"), "job.execution_time 2ms".into()]
        );
        assert_eq!(seen(&Event::Snoozed { job: &job, delay: ran }), [format!("jobs.processed {about}")]);
        let recovered = Event::Recovered { id: JobId::new(), queue: &job.queue, recoveries: 1 };
        assert_eq!(seen(&recovered), ["jobs.recovered +1 None Some(\"default\")"]);
        assert!(seen(&Event::Expired { job: &job }).is_empty());
    }
}
