//! Update files as a whole: written, read, broken.

mod hostile;
mod round_trip;
mod sample;
mod vectors;
