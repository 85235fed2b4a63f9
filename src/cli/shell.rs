//! What is printed for the user's shell: completions and the manual page.

use super::{Cli, Printed, manual};
use clap::{Args, CommandFactory};
use clap_complete::{Generator, Shell};

/// Print the completion script of a shell
#[derive(Args)]
#[command(after_help = "Where the shells look for it:\n  \
                  bash  /usr/share/bash-completion/completions/litevisor\n  \
                  zsh   /usr/share/zsh/vendor-completions/_litevisor\n  \
                  fish  /usr/share/fish/vendor_completions.d/litevisor.fish\n\n\
                  Example:\n  source <(litevisor completions bash)")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page
#[derive(Args)]
#[command(after_help = "The page is in roff, for man.\n\n\
                  Example:\n  litevisor man > /usr/local/share/man/man1/litevisor.1")]
pub struct Man {}

impl Completions {
    pub fn printed(&self) -> Printed {
        let mut root = Cli::command();
        root.set_bin_name("litevisor");
        root.build();
        let mut script = Vec::new();
        // Memory takes everything.
        let _ = self.shell.try_generate(&root, &mut script);
        on_stdout(String::from_utf8_lossy(&script).into_owned())
    }
}

pub fn manual() -> Printed {
    let mut root = Cli::command();
    root.build();
    on_stdout(manual::page(&root))
}

fn on_stdout(text: String) -> Printed {
    Printed { text, to_stdout: true, code: 0 }
}
