//! Messages as they are on the wire, so that what is not known is kept as it is.
//!
//! Readers of protobuf differ in what they make of a field that is there twice, or of a number that is too large. Here
//! such a message is refused, and what was read is written anew: criu sees what was checked.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::error::Problem;

/// One field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

/// A message: numbers of fields with values, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    fields: Vec<(u32, Value)>,
}

impl Message {
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, Problem> {
        let damaged = || "it is damaged".to_owned();
        let mut fields = Vec::new();
        while bytes.has_remaining() {
            let (number, kind) = decode_key(&mut bytes).map_err(|_| damaged())?;
            let value = match kind {
                WireType::Varint => {
                    Value::Number(decode_varint(&mut bytes).map_err(|_| damaged())?)
                }
                WireType::SixtyFourBit => {
                    let (head, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
                    bytes = rest;
                    Value::Eight(*head)
                }
                WireType::ThirtyTwoBit => {
                    let (head, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
                    bytes = rest;
                    Value::Four(*head)
                }
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut bytes).map_err(|_| damaged())?;
                    let length = usize::try_from(length).map_err(|_| damaged())?;
                    let (head, rest) = bytes.split_at_checked(length).ok_or_else(damaged)?;
                    bytes = rest;
                    Value::Bytes(head.to_vec())
                }
                WireType::StartGroup | WireType::EndGroup => return Err(damaged()),
            };
            fields.push((number, value));
        }
        Ok(Self { fields })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in &self.fields {
            let kind = match value {
                Value::Number(_) => WireType::Varint,
                Value::Eight(_) => WireType::SixtyFourBit,
                Value::Bytes(_) => WireType::LengthDelimited,
                Value::Four(_) => WireType::ThirtyTwoBit,
            };
            encode_key(*number, kind, &mut bytes);
            match value {
                Value::Number(value) => encode_varint(*value, &mut bytes),
                Value::Eight(value) => bytes.extend(value),
                Value::Four(value) => bytes.extend(value),
                Value::Bytes(value) => {
                    encode_varint(value.len() as u64, &mut bytes);
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    fn all(&self, wanted: u32) -> impl Iterator<Item = &Value> {
        self.fields
            .iter()
            .filter(move |(number, _)| *number == wanted)
            .map(|(_, value)| value)
    }

    fn one(&self, wanted: u32) -> Result<Option<&Value>, Problem> {
        let mut all = self.all(wanted);
        let first = all.next();
        match all.next() {
            None => Ok(first),
            Some(_) => Err(format!("field {wanted} is there twice")),
        }
    }

    pub(crate) fn has(&self, wanted: u32) -> bool {
        self.all(wanted).next().is_some()
    }

    pub(crate) fn number(&self, wanted: u32) -> Result<Option<u64>, Problem> {
        match self.one(wanted)? {
            None => Ok(None),
            Some(Value::Number(value)) => Ok(Some(*value)),
            Some(_) => Err(format!("field {wanted} is no number")),
        }
    }

    /// A number of 32 bits without a sign, and zero for none, as criu reads it.
    pub(crate) fn word(&self, wanted: u32) -> Result<u32, Problem> {
        let value = self.number(wanted)?.unwrap_or_default();
        u32::try_from(value).map_err(|_| format!("field {wanted} is too large"))
    }

    pub(crate) fn text(&self, wanted: u32) -> Result<Option<&str>, Problem> {
        match self.one(wanted)? {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                // C stops at a zero.
                Ok(text) if !text.contains('\0') => Ok(Some(text)),
                _ => Err(format!("field {wanted} is no text")),
            },
            Some(_) => Err(format!("field {wanted} is no text")),
        }
    }

    pub(crate) fn bytes(&self, wanted: u32) -> Option<&[u8]> {
        match self.one(wanted) {
            Ok(Some(Value::Bytes(bytes))) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn message(&self, wanted: u32) -> Result<Option<Self>, Problem> {
        match self.one(wanted)? {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Self::parse(bytes).map(Some),
            Some(_) => Err(format!("field {wanted} is no message")),
        }
    }

    pub(crate) fn messages(&self, wanted: u32) -> Result<Vec<Self>, Problem> {
        let parse = |value: &Value| match value {
            Value::Bytes(bytes) => Self::parse(bytes),
            _ => Err(format!("field {wanted} is no message")),
        };
        self.all(wanted).map(parse).collect()
    }

    /// Numbers of 32 bits, one by one or packed.
    pub(crate) fn words(&self, wanted: u32) -> Result<Vec<u32>, Problem> {
        let mut words = Vec::new();
        let too_large = |_| format!("field {wanted} is too large");
        for value in self.all(wanted) {
            match value {
                Value::Number(value) => words.push(u32::try_from(*value).map_err(too_large)?),
                Value::Bytes(packed) => {
                    let mut packed = packed.as_slice();
                    while packed.has_remaining() {
                        let value = decode_varint(&mut packed)
                            .map_err(|_| format!("field {wanted} is damaged"))?;
                        words.push(u32::try_from(value).map_err(too_large)?);
                    }
                }
                _ => return Err(format!("field {wanted} is no number")),
            }
        }
        Ok(words)
    }

    /// Puts these values in the place of all the field has.
    pub(crate) fn set(&mut self, wanted: u32, values: impl IntoIterator<Item = Value>) {
        let at = self.fields.iter().position(|(number, _)| *number == wanted);
        self.fields.retain(|(number, _)| *number != wanted);
        let at = at.unwrap_or(self.fields.len()).min(self.fields.len());
        let values = values.into_iter().map(|value| (wanted, value));
        self.fields.splice(at..at, values);
    }

    pub(crate) fn remove(&mut self, wanted: u32) {
        self.set(wanted, None);
    }

    pub(crate) fn set_number(&mut self, wanted: u32, value: u64) {
        self.set(wanted, Some(Value::Number(value)));
    }

    pub(crate) fn set_text(&mut self, wanted: u32, value: &str) {
        self.set(wanted, Some(Value::Bytes(value.as_bytes().to_vec())));
    }

    pub(crate) fn set_message(&mut self, wanted: u32, value: &Self) {
        self.set(wanted, Some(Value::Bytes(value.encode())));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let mut message = Message::default();
        message.set_number(1, 300);
        message.set_text(18, "text");
        message.set(7, Some(Value::Four([1, 2, 3, 4])));
        message.set(8, Some(Value::Eight([9; 8])));
        let bytes = message.encode();
        assert_eq!(Message::parse(&bytes).unwrap(), message);
        assert_eq!(message.word(1).unwrap(), 300);
        assert_eq!(message.text(18).unwrap(), Some("text"));
        assert_eq!(message.word(2).unwrap(), 0);
        message.set_number(1, 2);
        assert_eq!(message.word(1).unwrap(), 2);
        message.remove(7);
        assert!(!message.has(7));
    }

    #[test]
    fn what_readers_could_differ_in_is_refused() {
        // Field 1 twice; a value of 33 bits; a group; a length beyond the end; a field that ends early.
        let twice = Message::parse(&[8, 1, 8, 2]).unwrap();
        assert!(twice.word(1).is_err() && twice.text(1).is_err());
        let large = Message::parse(&[8, 0x80, 0x80, 0x80, 0x80, 0x10]).unwrap();
        assert!(large.word(1).is_err());
        for damaged in [&[0x0b][..], &[0x0a, 200, 1], &[0x0d, 1], &[0x08], &[0x0f]] {
            assert!(Message::parse(damaged).is_err(), "{damaged:?}");
        }
        let zero = Message::parse(&[0x0a, 3, b'a', 0, b'b']).unwrap();
        assert!(zero.text(1).is_err());
    }

    #[test]
    fn packed_and_single_numbers_are_the_same() {
        let single = Message::parse(&[8, 1, 8, 2]).unwrap();
        let packed = Message::parse(&[0x0a, 2, 1, 2]).unwrap();
        assert_eq!(single.words(1).unwrap(), [1, 2]);
        assert_eq!(packed.words(1).unwrap(), [1, 2]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_come_out_the_same(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&message.encode()), Ok(message.clone()));
                for field in 0..20 {
                    let _ = (message.word(field), message.text(field), message.words(field));
                    let _ = message.messages(field);
                }
            }
        }
    }
}
