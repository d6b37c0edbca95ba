//! The process: arguments, leadership, health, metrics, shutdown.
