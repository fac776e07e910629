//! Bytes to arguments.

use std::any::type_name;

use goose_core::{ContentType, Error, ErrorKind, Payload, Result};
use serde::de::DeserializeOwned;

/// Decodes arguments as the payload says, whatever codec the client was set to.
pub(crate) fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T> {
    let failed = || Error::new(ErrorKind::Decode, format!("cannot decode arguments as {}", type_name::<T>()));
    match &payload.content_type {
        ContentType::MessagePack => rmp_serde::from_slice(&payload.bytes).map_err(|error| failed().with_source(error)),
        ContentType::Json => serde_json::from_slice(&payload.bytes).map_err(|error| failed().with_source(error)),
        other => Err(failed().with_source(format!("content type {other:?} is not known to this worker"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_codecs_and_refuses_others() {
        assert_eq!(decode::<Vec<u8>>(&Payload::message_pack(vec![0x92, 1, 2])).unwrap(), [1, 2]);
        assert_eq!(decode::<Vec<u8>>(&Payload::json(b"[1,2]".to_vec())).unwrap(), [1, 2]);

        let mut foreign = Payload::json(b"[1,2]".to_vec());
        foreign.content_type = ContentType::Other("text/csv".into());
        let error = decode::<Vec<u8>>(&foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(
            format!("{error:#}"),
            "cannot decode arguments as alloc::vec::Vec<u8>: \
             content type Other(\"text/csv\") is not known to this worker"
        );
    }

    #[test]
    fn damage_is_an_error_with_its_cause() {
        for payload in [Payload::message_pack(vec![0x92, 1]), Payload::json(b"[1,".to_vec()), Payload::json(vec![])] {
            let error = decode::<Vec<u8>>(&payload).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
