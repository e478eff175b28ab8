//! Elements of sets and maps.

use super::{DATA_VALUE, LIST_ELEMENT};
use crate::message::{MessageWriter, attribute, attributes};

const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_USERDATA: u16 = 6;
pub(super) const ELEMENTS: u16 = 3;
/// `nft` stores an element's comment as this type in its user data: type, length, text, NUL.
const USERDATA_COMMENT: u8 = 0;
/// User data is limited to 256 bytes with its two header bytes and the NUL.
const COMMENT_LIMIT: usize = 128;

/// An element to be added or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Key bytes, each part padded to four bytes.
    pub key: Vec<u8>,
    /// Value bytes of a map's element, empty in a set.
    pub data: Vec<u8>,
    /// Whom the element belongs to; at most 128 bytes are stored.
    pub comment: String,
}

/// An element as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredElement {
    /// Key bytes.
    pub key: Vec<u8>,
    /// Value bytes of a map's element.
    pub data: Vec<u8>,
    /// Comment it was added with.
    pub comment: Option<String>,
}

impl Element {
    pub(super) fn write(&self, writer: &mut MessageWriter) {
        writer.nested(LIST_ELEMENT, |writer| {
            writer.nested(ELEMENT_KEY, |writer| writer.bytes(DATA_VALUE, &self.key));
            if !self.data.is_empty() {
                writer.nested(ELEMENT_DATA, |writer| writer.bytes(DATA_VALUE, &self.data));
            }
            if !self.comment.is_empty() {
                writer.bytes(ELEMENT_USERDATA, &comment_userdata(&self.comment));
            }
        });
    }
}

/// Reads the elements in the payload of a set-element message (behind its fixed header).
pub(super) fn read_elements(payload: &[u8]) -> Vec<StoredElement> {
    let Some(list) = attribute(payload, ELEMENTS) else {
        return Vec::new();
    };
    attributes(list)
        .map(|(_, element)| StoredElement {
            key: data_value(element, ELEMENT_KEY),
            data: data_value(element, ELEMENT_DATA),
            comment: attribute(element, ELEMENT_USERDATA).and_then(read_comment),
        })
        .collect()
}

fn data_value(element: &[u8], kind: u16) -> Vec<u8> {
    attribute(element, kind)
        .and_then(|data| attribute(data, DATA_VALUE))
        .unwrap_or_default()
        .to_vec()
}

pub(super) fn comment_userdata(comment: &str) -> Vec<u8> {
    let end = (0..=comment.len().min(COMMENT_LIMIT))
        .rev()
        .find(|end| comment.is_char_boundary(*end))
        .unwrap_or(0);
    let text = &comment.as_bytes()[..end];
    let length = u8::try_from(text.len() + 1).expect("limited to 128 bytes");
    let mut userdata = vec![USERDATA_COMMENT, length];
    userdata.extend_from_slice(text);
    userdata.push(0);
    userdata
}

pub(super) fn read_comment(userdata: &[u8]) -> Option<String> {
    let [kind, length, rest @ ..] = userdata else {
        return None;
    };
    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
    if *kind != USERDATA_COMMENT {
        return read_comment(rest);
    }
    String::from_utf8(value.strip_suffix(&[0])?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_round_trip_and_are_cut_at_characters() {
        assert_eq!(
            read_comment(&comment_userdata("pod-1")).as_deref(),
            Some("pod-1")
        );
        let long = "é".repeat(100);
        let stored = read_comment(&comment_userdata(&long)).unwrap();
        assert_eq!(stored, "é".repeat(64));
        assert_eq!(read_comment(&[]), None);
        let behind_another = [vec![1, 1, 7], comment_userdata("x")].concat();
        assert_eq!(read_comment(&behind_another).as_deref(), Some("x"));
        assert_eq!(
            read_comment(&[0, 9, b'x']),
            None,
            "longer than what is there"
        );
    }

    #[test]
    fn elements_read_back() {
        let element = Element {
            key: vec![1, 2, 3, 4],
            data: vec![5, 6, 7, 8],
            comment: "c".to_owned(),
        };
        let mut writer = MessageWriter::default();
        writer.nested(ELEMENTS, |writer| element.write(writer));
        let read = read_elements(&writer.finish());
        assert_eq!(
            read,
            [StoredElement {
                key: element.key,
                data: element.data,
                comment: Some("c".to_owned())
            }]
        );
    }
}
