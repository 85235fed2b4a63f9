//! One file per subcommand that is not `run`.
