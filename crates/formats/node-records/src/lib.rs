//! What CRI-O writes about pods and containers: annotations, state.json, storage metadata.
