//! containers/storage-compatible layers, images and containers on disk, and the overlay driver.
