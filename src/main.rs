//! The `portcullis` command: allocator, arguments, exit code.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match portcullis::cli::Arguments::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("portcullis: error: {error:#}");
            portcullis::cli::Exit::BadInput.into()
        }
    }
}
