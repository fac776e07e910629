//! What ties a Rust type to a job name.

/// The arguments of a job, and by their type the job itself: client and worker meet in this name.
///
/// Implement it on the type that carries the arguments. The type must also be `serde::Serialize` to be
/// enqueued and `serde::Deserialize` to be handled; the core does not ask for it because it depends on nothing.
///
/// ```
/// use goose_core::JobArgs;
///
/// struct SendEmail { to: String }
/// impl JobArgs for SendEmail {
///     const NAME: &'static str = "send-email";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the arguments of a job",
    label = "needs an implementation of `JobArgs`",
    note = "give it a name: `impl JobArgs for {Self} {{ const NAME: &'static str = \"…\"; }}`"
)]
pub trait JobArgs: Send + 'static {
    /// The name of the job: 1 to 120 characters of `A-Z a-z 0-9 _ . : / -`.
    ///
    /// It is stored with every job, so keep it when you rename the type: jobs enqueued before the rename
    /// still have to find their handler.
    const NAME: &'static str;
}
