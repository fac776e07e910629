//! Which jobs a search is for: data, so that it can travel to a broker, a URL or a command line.

use crate::Job;

/// Conditions on a job; all that are set must hold. The default lets every job pass.
///
/// ```
/// use goose_core::broker::capability::JobFilter;
///
/// let vip_mails = JobFilter::default().name("send-email").tag("vip");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JobFilter {
    /// The exact job name.
    pub name: Option<String>,
    /// The exact queue name, see [`Job::ready_queue`].
    pub queue: Option<String>,
    /// A tag it must have.
    pub tag: Option<String>,
    /// A text that the last error must contain.
    pub error_contains: Option<String>,
}

impl JobFilter {
    /// Only jobs of this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only jobs of this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Only jobs with this tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Only jobs whose last error contains this text.
    #[must_use]
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error_contains = Some(text.into());
        self
    }

    /// Whether a job passes.
    #[must_use]
    pub fn matches(&self, job: &Job) -> bool {
        let error = || job.attempts.last_failure().map_or("", |failure| &failure.error);
        self.name.as_ref().is_none_or(|name| name == job.name.as_str())
            && self.queue.as_ref().is_none_or(|queue| queue == job.ready_queue().as_str())
            && self.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
            && self.error_contains.as_ref().is_none_or(|text| error().contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobName, Payload, QueueName, Timestamp};

    #[test]
    fn all_conditions_must_hold() {
        let name = JobName::new("send-email").unwrap();
        let mut job = Job::new(name, QueueName::default(), Payload::message_pack(Vec::new()));
        job.tags.push("vip".into());
        job.attempts.record_failure(Timestamp::EPOCH, "connection refused");
        let passing = JobFilter::default().name("send-email").queue("default").tag("vip").error_contains("refused");
        assert!(JobFilter::default().matches(&job));
        assert!(passing.matches(&job));
        for failing in [
            passing.clone().name("send"),
            passing.clone().queue("other"),
            passing.clone().tag("v"),
            passing.clone().error_contains("reset"),
        ] {
            assert!(!failing.matches(&job), "{failing:?}");
        }
    }
}
