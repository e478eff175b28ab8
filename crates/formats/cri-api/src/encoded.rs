//! Lists whose entries are encoded before they are asked for.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// A message in its encoded form. Copies share it.
pub struct Encoded<T> {
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T: Message> Encoded<T> {
    /// Encodes a message.
    pub fn new(message: &T) -> Self {
        Self {
            bytes: message.encode_to_vec().into(),
            of: PhantomData,
        }
    }
}

impl<T> Clone for Encoded<T> {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Encoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// The answer to a list call: on the wire the message that CRI defines for it, which has one field with the number 1,
/// the entries.
pub struct EncodedList<T> {
    fields: Fields,
    of: PhantomData<fn() -> T>,
}

/// Protobuf writes a field of bytes like one of messages.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    entries: Vec<Bytes>,
}

impl<T> EncodedList<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.fields.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.entries.is_empty()
    }

    /// The same entries in lists of at most `size`; no list at all when there are none.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Self> {
        let chunks = self.fields.entries.chunks(size.max(1));
        chunks.map(|chunk| {
            Fields {
                entries: chunk.to_vec(),
            }
            .into()
        })
    }
}

impl<T: Message + Default> EncodedList<T> {
    /// The entries, decoded.
    ///
    /// # Errors
    /// An entry that came from elsewhere may not be a `T`.
    pub fn decode_entries(&self) -> Result<Vec<T>, DecodeError> {
        let entries = self.fields.entries.iter();
        entries.map(|entry| T::decode(entry.clone())).collect()
    }
}

impl<T> From<Fields> for EncodedList<T> {
    fn from(fields: Fields) -> Self {
        Self {
            fields,
            of: PhantomData,
        }
    }
}

impl<T> Default for EncodedList<T> {
    fn default() -> Self {
        Fields::default().into()
    }
}

impl<T> FromIterator<Encoded<T>> for EncodedList<T> {
    fn from_iter<I: IntoIterator<Item = Encoded<T>>>(entries: I) -> Self {
        let entries = entries.into_iter().map(|entry| entry.bytes).collect();
        Fields { entries }.into()
    }
}

impl<T: Message + Default + fmt::Debug> fmt::Debug for EncodedList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decode_entries() {
            Ok(entries) => entries.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

impl<T: Message + Default> Message for EncodedList<T> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.fields.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.fields.merge_field(tag, wire_type, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.fields.encoded_len()
    }

    fn clear(&mut self) {
        self.fields.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn pod(number: usize) -> v1::PodSandbox {
        v1::PodSandbox {
            id: format!("id{number}"),
            metadata: Some(v1::PodSandboxMetadata {
                name: "name".to_owned(),
                ..Default::default()
            }),
            state: v1::PodSandboxState::SandboxNotready.into(),
            labels: [("key".to_owned(), "x".repeat(number))].into(),
            ..Default::default()
        }
    }

    #[test]
    fn is_what_the_message_is() {
        // The default has no field, so its entry has no byte; the longest needs two bytes for its length.
        let items = vec![v1::PodSandbox::default(), pod(1), pod(300)];
        let list: EncodedList<v1::PodSandbox> = items.iter().map(Encoded::new).collect();
        let plain = v1::ListPodSandboxResponse {
            items: items.clone(),
        };
        assert_eq!(list.encode_to_vec(), plain.encode_to_vec());
        assert_eq!(list.encoded_len(), plain.encoded_len());
        let streamed = v1::StreamPodSandboxesResponse {
            pod_sandboxes: items.clone(),
        };
        assert_eq!(list.encode_to_vec(), streamed.encode_to_vec());
        assert_eq!(list.decode_entries().unwrap(), items);
        let read = EncodedList::<v1::PodSandbox>::decode(&*plain.encode_to_vec()).unwrap();
        assert_eq!(read.decode_entries().unwrap(), items);
        assert_eq!(format!("{list:?}"), format!("{items:?}"));
        assert_eq!(EncodedList::<v1::PodSandbox>::default().encode_to_vec(), []);
    }

    #[test]
    fn containers_too() {
        let containers = vec![
            v1::Container {
                id: "one".to_owned(),
                state: v1::ContainerState::ContainerExited.into(),
                ..Default::default()
            },
            v1::Container::default(),
        ];
        let list: EncodedList<v1::Container> = containers.iter().map(Encoded::new).collect();
        let streamed = v1::StreamContainersResponse {
            containers: containers.clone(),
        };
        assert_eq!(list.encode_to_vec(), streamed.encode_to_vec());
        let plain = v1::ListContainersResponse { containers };
        assert_eq!(list.encode_to_vec(), plain.encode_to_vec());
    }

    #[test]
    fn every_entry_is_in_one_chunk() {
        let list: EncodedList<_> = (0..7).map(|number| Encoded::new(&pod(number))).collect();
        let chunks: Vec<_> = list.chunks(3).collect();
        let sizes: Vec<_> = chunks.iter().map(EncodedList::len).collect();
        assert_eq!(sizes, [3, 3, 1]);
        let decoded = chunks.iter().map(|chunk| chunk.decode_entries().unwrap());
        let all = list.decode_entries().unwrap();
        assert_eq!(decoded.flatten().collect::<Vec<_>>(), all);
        assert_eq!(
            EncodedList::<v1::PodSandbox>::default().chunks(3).count(),
            0
        );
    }
}
