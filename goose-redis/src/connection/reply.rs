//! What the server answered, without its errors.

use fred::bytes::Bytes;
use fred::types::Resp3Frame;
use goose_core::{Error, ErrorKind, Result};

/// An answer. The accessors turn a surprise into an error, for scripts and this crate must agree on their shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Bytes(Bytes),
    Array(Vec<Self>),
}

impl Reply {
    /// An integer; a text that is one counts too.
    pub(crate) fn into_int(self) -> Result<i64> {
        match self {
            Self::Int(value) => Ok(value),
            Self::Bytes(text) => {
                let value = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                value.ok_or_else(|| Self::Bytes(text).surprise("an integer"))
            }
            other => Err(other.surprise("an integer")),
        }
    }

    pub(crate) fn into_bytes(self) -> Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.surprise("bytes")),
        }
    }

    /// A text; an integer counts too.
    pub(crate) fn into_text(self) -> Result<String> {
        match self {
            Self::Int(value) => Ok(value.to_string()),
            Self::Bytes(bytes) => match String::from_utf8(bytes.to_vec()) {
                Ok(text) => Ok(text),
                Err(_) => Err(Self::Bytes(bytes).surprise("text")),
            },
            other => Err(other.surprise("text")),
        }
    }

    /// An array; nil counts as an empty one.
    pub(crate) fn into_array(self) -> Result<Vec<Self>> {
        match self {
            Self::Array(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            other => Err(other.surprise("an array")),
        }
    }

    fn surprise(&self, wanted: &str) -> Error {
        // Never the content: it may be somebody's job.
        let got = match self {
            Self::Nil => "nothing".to_owned(),
            Self::Int(_) => "an integer".to_owned(),
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Self::Array(items) => format!("an array of {}", items.len()),
        };
        Error::new(
            ErrorKind::Internal,
            format!("the server answered {got} where {wanted} was expected; this is a bug, please report it"),
        )
    }

    /// An answer, or the text of the server's error.
    pub(super) fn from_frame(frame: Resp3Frame) -> std::result::Result<Self, String> {
        match frame {
            Resp3Frame::BlobString { data, .. } | Resp3Frame::SimpleString { data, .. } => Ok(Self::Bytes(data)),
            Resp3Frame::Number { data, .. } => Ok(Self::Int(data)),
            Resp3Frame::Null => Ok(Self::Nil),
            Resp3Frame::Array { data, .. } => {
                data.into_iter().map(Self::from_frame).collect::<std::result::Result<_, _>>().map(Self::Array)
            }
            Resp3Frame::SimpleError { data, .. } => Err(data.to_string()),
            Resp3Frame::BlobError { data, .. } => Err(String::from_utf8_lossy(&data).into_owned()),
            // The rest belongs to the third version of the protocol, which is not asked for.
            _ => Err("ERR answer in a protocol that was not asked for".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surprise_is_our_bug_and_does_not_show_the_payload() {
        let error = Reply::Bytes(Bytes::from_static(b"secret")).into_array().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("6 bytes where an array"), "{error}");
        assert!(!format!("{error:?}").contains("secret"));
        assert_eq!(Reply::Nil.into_int().unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(Reply::Int(1).into_bytes().unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn numbers_come_as_numbers_or_as_text() {
        assert_eq!(Reply::Bytes(Bytes::from_static(b"-17")).into_int().unwrap(), -17);
        assert_eq!(Reply::Int(5).into_text().unwrap(), "5");
        assert_eq!(Reply::Bytes(Bytes::from_static(b"1.5")).into_int().unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn an_error_inside_an_array_is_an_error() {
        let error = Resp3Frame::SimpleError { data: "OOM no".into(), attributes: None };
        let frame = Resp3Frame::Array { data: vec![Resp3Frame::Null, error], attributes: None };
        assert_eq!(Reply::from_frame(frame).unwrap_err(), "OOM no");
    }
}
