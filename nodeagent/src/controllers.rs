//! The controllers, one folder a subject: `plan` decides, `render` makes bytes, `apply` acts.
