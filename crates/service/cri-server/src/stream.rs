//! Streaming lists: the answer of the plain list in chunks (KEP-5825), each item once, an empty list as no message.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::Status;

/// Items per message, as CRI-O.
const CHUNK: usize = 3000;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends `items` in chunks, each wrapped by `wrap`.
pub(crate) fn chunks<I: Send + 'static, A: Send + 'static>(
    mut items: Vec<I>,
    wrap: impl Fn(Vec<I>) -> A + Send + 'static,
) -> Answers<A> {
    let mut chunks = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(CHUNK));
        chunks.push(Ok(wrap(std::mem::replace(&mut items, rest))));
    }
    Box::pin(stream::iter(chunks))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn every_item_once() {
        let answers: Vec<_> = chunks((0..7001).collect(), |chunk| chunk).collect().await;
        let sizes: Vec<_> = answers
            .iter()
            .map(|answer| answer.as_ref().unwrap().len())
            .collect();
        assert_eq!(sizes, [3000, 3000, 1001]);
        assert!(
            chunks(Vec::<u8>::new(), |chunk| chunk)
                .next()
                .await
                .is_none()
        );
    }
}
