//! What a file is that the kernel does not execute: a script without its first line, which a shell may run,
//! or a program for another machine. Pure.

/// The beginning of a file tells it.
pub(super) const HEAD: usize = 128;

/// No shell can run it: there is a NUL in its first line, as in every program. POSIX's rule.
pub(super) fn is_binary(head: &[u8]) -> bool {
    head.iter().take_while(|&&byte| byte != b'\n').any(|&byte| byte == 0)
}

/// Which machine a program is for, when it is not for this one.
pub(super) fn foreign_machine(head: &[u8]) -> Option<String> {
    let foreign = machine(head)?;
    let own = machine_number(std::env::consts::ARCH);
    let name = name(foreign);
    (own != Some(foreign)).then(|| name.map_or_else(|| format!("machine {foreign}"), str::to_owned))
}

/// e_machine of an ELF header, in the byte order that the header names.
fn machine(head: &[u8]) -> Option<u16> {
    let order = *head.strip_prefix(b"\x7fELF")?.get(1)?;
    let bytes: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    Some(if order == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// Number, name, and Rust's name.
const MACHINES: [(u16, &str, &str); 9] = [
    (3, "x86 (32 bit)", "x86"),
    (8, "MIPS", "mips"),
    (20, "PowerPC", "powerpc"),
    (21, "PowerPC (64 bit)", "powerpc64"),
    (22, "S/390", "s390x"),
    (40, "ARM (32 bit)", "arm"),
    (62, "x86-64 (amd64)", "x86_64"),
    (183, "AArch64 (arm64)", "aarch64"),
    (243, "RISC-V", "riscv64"),
];

fn name(number: u16) -> Option<&'static str> {
    MACHINES.iter().find(|(known, ..)| *known == number).map(|(_, name, _)| *name)
}

fn machine_number(arch: &str) -> Option<u16> {
    MACHINES.iter().find(|(.., rust)| *rust == arch).map(|(number, ..)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut head = b"\x7fELF\x02".to_vec();
        head.push(order);
        head.resize(18, 0);
        head.extend(machine);
        head
    }

    #[test]
    fn what_a_shell_may_run() {
        for (head, binary) in [
            (b"echo hello\n".as_slice(), false),
            (b"", false),
            (b"# a script with an archive behind it\n\0\0", false),
            (b"\xff\xfe\n", false),
            (b"\x7fELF\x02\x01\0\0\n", true),
            (b"\0", true),
        ] {
            assert_eq!(is_binary(head), binary, "{head:?}");
        }
    }

    #[test]
    fn which_machine() {
        let own = machine_number(std::env::consts::ARCH).unwrap();
        assert_eq!(foreign_machine(&elf(1, own.to_le_bytes())), None, "our own: something else is wrong");
        for (head, told) in [
            (elf(1, [243, 0]), Some("RISC-V")),
            (elf(2, [0, 22]), Some("S/390")),
            (elf(1, [9, 9]), Some("machine 2313")),
            (b"\x7fELF".to_vec(), None),
            (b"#!/bin/sh".to_vec(), None),
        ] {
            assert_eq!(foreign_machine(&head).as_deref(), told, "{head:?}");
        }
    }
}
