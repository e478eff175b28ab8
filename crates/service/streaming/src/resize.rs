//! Sizes of terminals: JSON objects one after another, cut anywhere.

use crioxide_engine::ports::TerminalSize;
use serde::Deserialize;

/// Most bytes of an unfinished object.
const LIMIT: usize = 4 << 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    #[serde(default)]
    width: u16,
    #[serde(default)]
    height: u16,
}

/// Reads sizes.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Vec<u8>);

impl Sizes {
    /// Takes bytes and returns the newest size, if one is complete. Nonsense is dropped.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<TerminalSize> {
        self.0.extend_from_slice(bytes);
        let mut newest = None;
        // The objects are flat: each ends with the first brace after its own.
        while let Some(end) = self.0.iter().position(|byte| *byte == b'}') {
            let object: Vec<u8> = self.0.drain(..=end).collect();
            let start = object.iter().rposition(|byte| *byte == b'{');
            if let Ok(size) = serde_json::from_slice::<Size>(&object[start.unwrap_or(0)..]) {
                newest = Some(size);
            }
        }
        if self.0.len() > LIMIT {
            self.0.clear();
        }
        newest.map(|Size { width, height }| TerminalSize { width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_joined() {
        let mut sizes = Sizes::default();
        let size = |width, height| Some(TerminalSize { width, height });
        assert_eq!(sizes.read(b"{\"Width\":80,\"Height\":24}\n"), size(80, 24));
        assert_eq!(sizes.read(b"{\"Width\":1"), None);
        assert_eq!(
            sizes.read(b"00,\"Height\":50}{\"Width\":7,\"Height\":8}{"),
            size(7, 8)
        );
        assert_eq!(sizes.read(b"\"Height\":5,\"Width\":6}"), size(6, 5));
        assert_eq!(sizes.read(b"nonsense"), None);
        assert_eq!(sizes.read(b"{\"Width\":-1,\"Height\":2}"), None);
        assert_eq!(sizes.read(b"{\"Width\":1,\"Height\":2}"), size(1, 2));
        assert_eq!(sizes.read(&[b' '; 100_000]), None);
        assert!(sizes.0.len() <= LIMIT);
    }
}
