//! Arguments to bytes.

use std::any::type_name;

use goose_core::{Error, ErrorKind, Payload, Result};
use serde::Serialize;

/// How a client encodes arguments. Workers read both, whatever the client chose: each job says what it is.
///
/// # Changing a struct of arguments
///
/// Jobs wait in queues while you deploy, so the new code meets old bytes. Both codecs write structs as maps
/// with field *names*, therefore
/// - fields may change places,
/// - a new field needs `#[serde(default)]`, and old workers ignore it,
/// - a field may be removed,
/// - a renamed field needs `#[serde(alias = "old-name")]`.
///
/// Tuples and tuple structs are written as lists: what counts there is the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ArgsCodec {
    /// MessagePack: compact, quick, takes any serde type. The default.
    #[default]
    MessagePack,
    /// JSON, for people and programs that want to read the queue. Has no bytes, and its maps have text keys only.
    Json,
}

impl ArgsCodec {
    /// Encodes arguments.
    ///
    /// ```
    /// use goose_client::ArgsCodec;
    ///
    /// assert_eq!(ArgsCodec::Json.encode(&[1, 2])?.bytes, b"[1,2]");
    /// assert_eq!(ArgsCodec::MessagePack.encode(&[1, 2])?.bytes, [0x92, 1, 2]);
    /// # Ok::<(), goose_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when the type's own `Serialize` fails, or the codec lacks something it uses.
    pub fn encode<T: Serialize>(self, args: &T) -> Result<Payload> {
        let failed = || Error::new(ErrorKind::Encode, format!("cannot encode arguments of type {}", type_name::<T>()));
        match self {
            Self::MessagePack => {
                rmp_serde::to_vec_named(args).map(Payload::message_pack).map_err(|error| failed().with_source(error))
            }
            Self::Json => serde_json::to_vec(args).map(Payload::json).map_err(|error| failed().with_source(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::ContentType;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Old {
        to: String,
        copies: u8,
    }

    #[derive(Deserialize)]
    struct New {
        #[serde(default)]
        subject: Option<String>,
        copies: u8,
        to: String,
    }

    #[test]
    fn fields_may_change_places_and_be_added() {
        let old = Old { to: "ada".into(), copies: 2 };
        let read: [New; 2] = [
            rmp_serde::from_slice(&ArgsCodec::MessagePack.encode(&old).unwrap().bytes).unwrap(),
            serde_json::from_slice(&ArgsCodec::Json.encode(&old).unwrap().bytes).unwrap(),
        ];
        for new in read {
            assert_eq!((new.to.as_str(), new.copies, new.subject), ("ada", 2, None));
        }
    }

    #[test]
    fn the_payload_says_what_it_is() {
        assert_eq!(ArgsCodec::default().encode(&1).unwrap().content_type, ContentType::MessagePack);
        assert_eq!(ArgsCodec::Json.encode(&1).unwrap().content_type, ContentType::Json);
    }

    #[test]
    fn what_cannot_be_encoded_is_a_typed_error_with_its_cause() {
        let error = ArgsCodec::Json.encode(&BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert_eq!(
            format!("{error:#}"),
            "cannot encode arguments of type alloc::collections::btree::map::BTreeMap<(i32, i32), i32>: \
             key must be a string"
        );
    }
}
