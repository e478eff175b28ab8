//! Streaming answers: lists in chunks (KEP-5825), each item once, an empty list as no message; and events as they come.

use std::pin::Pin;

use crioxide_cri_api::{EncodedList, v1};
use crioxide_engine::EventStream;
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

/// Sends the entries of a list in chunks.
pub(crate) fn encoded_chunks<T: 'static>(list: &EncodedList<T>) -> Answers<EncodedList<T>> {
    let chunks: Vec<_> = list.chunks(CHUNK).map(Ok).collect();
    Box::pin(stream::iter(chunks))
}

/// Sends events until the daemon ends, or the client has fallen behind too far: then with an error, for it to list.
pub(crate) fn events(events: Option<EventStream>) -> Answers<v1::ContainerEventResponse> {
    Box::pin(stream::unfold(events, async |events| {
        let mut events = events?;
        Some(match events.next().await? {
            Ok(event) => (Ok(event), Some(events)),
            Err(lost) => {
                tracing::warn!("A reader of events fell behind and lost {}", lost.0);
                let text = format!(
                    "{} events were lost as they were not read in time: list pods and containers and follow anew",
                    lost.0
                );
                (Err(Status::resource_exhausted(text)), None)
            }
        })
    }))
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
