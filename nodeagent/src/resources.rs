//! The kinds of objects on the board.
