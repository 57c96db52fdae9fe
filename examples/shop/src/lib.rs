//! The sample app.
