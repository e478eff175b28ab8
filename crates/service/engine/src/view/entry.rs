//! The entries of lists, kept encoded: of a full node's pods and containers most never change again.

use std::sync::{Mutex, PoisonError};

use crioxide_cri_api::{Encoded, v1};

/// The entry of one pod or container. All it depends on is the state; what it was made for last is kept.
#[derive(Debug)]
pub(crate) struct Entry<S, T>(Mutex<Option<(S, Encoded<T>)>>);

/// A pod's.
pub(crate) type PodEntry = Entry<v1::PodSandboxState, v1::PodSandbox>;
/// A container's.
pub(crate) type ContainerEntry = Entry<v1::ContainerState, v1::Container>;

impl<S, T> Default for Entry<S, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Copy + PartialEq, T> Entry<S, T> {
    /// The entry in `state`, encoded by `encode` unless it is the one that was asked for last.
    pub(crate) fn of(&self, state: S, encode: impl FnOnce() -> Encoded<T>) -> Encoded<T> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, entry)) if *of == state => entry.clone(),
            _ => {
                let entry = encode();
                *last = Some((state, entry.clone()));
                entry
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_encoded_once_for_each_change_of_the_state() {
        let entry = ContainerEntry::default();
        let mut encoded = 0;
        let mut ask = |state: v1::ContainerState| {
            let listed = entry.of(state, || {
                encoded += 1;
                Encoded::new(&v1::Container {
                    state: state.into(),
                    ..Default::default()
                })
            });
            let list: crioxide_cri_api::EncodedList<_> = [listed].into_iter().collect();
            assert_eq!(list.decode_entries().unwrap()[0].state(), state);
            encoded
        };
        use v1::ContainerState as S;
        let counts = [
            S::ContainerRunning,
            S::ContainerRunning,
            S::ContainerExited,
            S::ContainerExited,
            S::ContainerRunning,
        ]
        .map(&mut ask);
        assert_eq!(counts, [1, 1, 2, 2, 3]);
    }
}
