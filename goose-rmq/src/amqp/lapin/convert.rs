//! Between our types and the library's.

use goose_core::{Error, ErrorKind, Result};
use lapin::BasicProperties;
use lapin::message::{BasicReturnMessage, Delivery};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::amqp::{Delivered, Outgoing, Table, Value};

/// Two of the wire.
const PERSISTENT: u8 = 2;

/// Names and keys have at most 255 bytes on the wire.
pub(super) fn short(text: &str) -> Result<ShortString> {
    ShortString::try_new(text).map_err(|_| {
        Error::new(ErrorKind::InvalidInput, format!("a name of {} bytes is too long for AMQP", text.len()))
    })
}

pub(super) fn to_table(table: &Table) -> Result<FieldTable> {
    let mut fields = FieldTable::default();
    for (name, value) in table {
        let value = match value {
            Value::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Int(number) => AMQPValue::LongLongInt(*number),
            Value::Bool(value) => AMQPValue::Boolean(*value),
        };
        fields.insert(short(name)?, value);
    }
    Ok(fields)
}

fn from_table(fields: &FieldTable) -> Table {
    let values = fields.inner().iter();
    values.filter_map(|(name, value)| Some((name.as_str().to_owned(), from_value(value)?))).collect()
}

fn from_value(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongInt(number) => Value::Int((*number).into()),
        AMQPValue::LongUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongLongInt(number) => Value::Int(*number),
        AMQPValue::Timestamp(number) => Value::Int(i64::try_from(*number).ok()?),
        AMQPValue::ShortString(text) => Value::Text(text.as_str().to_owned()),
        AMQPValue::LongString(text) => Value::Text(String::from_utf8(text.as_bytes().to_vec()).ok()?),
        // Floats, arrays, tables such as `x-death`, bytes: nobody here reads them.
        _ => return None,
    })
}

pub(super) fn properties(message: &Outgoing) -> Result<BasicProperties> {
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_priority(message.priority)
        .with_message_id(short(&message.message_id)?);
    Ok(if message.headers.is_empty() { properties } else { properties.with_headers(to_table(&message.headers)?) })
}

pub(super) fn delivered(delivery: Delivery) -> Delivered {
    let properties = delivery.properties;
    Delivered {
        tag: delivery.delivery_tag,
        redelivered: delivery.redelivered,
        message_id: properties.message_id().as_ref().map(|id| id.as_str().to_owned()),
        headers: properties.headers().as_ref().map(from_table).unwrap_or_default(),
        body: delivery.data,
    }
}

/// The id of a message that came back.
pub(super) fn id(message: &BasicReturnMessage) -> String {
    message.delivery.properties.message_id().as_ref().map_or_else(String::new, |id| id.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_travel_and_what_nobody_reads_is_left_out() {
        let table: Table = [
            ("a".to_owned(), Value::Text("ä".to_owned())),
            ("b".to_owned(), Value::Int(i64::MIN)),
            ("c".to_owned(), Value::Bool(true)),
        ]
        .into();
        let mut fields = to_table(&table).unwrap();
        fields.insert("x-death".into(), AMQPValue::FieldArray(Vec::new().into()));
        fields.insert("bytes".into(), AMQPValue::LongString(vec![0xFF].into()));
        assert_eq!(from_table(&fields), table);
        assert_eq!(short(&"x".repeat(256)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
