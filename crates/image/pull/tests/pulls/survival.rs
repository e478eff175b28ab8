//! What outlives what: the store kills, cut power, and a disk that stands still.

mod kills;
mod power;
mod stall;
