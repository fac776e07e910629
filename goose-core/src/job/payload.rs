//! Encoded arguments: bytes, and what they are.

use std::fmt;

/// The arguments of a job as bytes, opaque to brokers.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// How the bytes are encoded.
    pub content_type: ContentType,
    /// The encoded arguments.
    pub bytes: Vec<u8>,
}

/// How arguments are encoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ContentType {
    /// MessagePack, the default: compact, and any serde type fits.
    #[default]
    MessagePack,
    /// JSON, for people and programs that want to read the queue.
    Json,
    /// Something else, by its media type; whoever wrote it must also read it.
    Other(String),
}

impl Payload {
    /// Arguments encoded as MessagePack.
    #[must_use]
    pub fn message_pack(bytes: Vec<u8>) -> Self {
        Self { content_type: ContentType::MessagePack, bytes }
    }

    /// Arguments encoded as JSON.
    #[must_use]
    pub fn json(bytes: Vec<u8>) -> Self {
        Self { content_type: ContentType::Json, bytes }
    }
}

impl fmt::Debug for Payload {
    /// Shows the size, not the content: arguments are the user's and may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?}, {} bytes)", self.content_type, self.bytes.len())
    }
}
