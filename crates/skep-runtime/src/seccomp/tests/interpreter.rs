//! Runs filters as the kernel does, but for any architecture.

use skep_sys::seccomp::Instruction;

use super::super::arch::{Arch, X32_BIT};

/// What a filter sees of a call: `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) audit: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    pub(super) fn new(arch: Arch, number: u32, args: [u64; 6]) -> Call {
        assert!(arch != Arch::X32 || number & X32_BIT != 0);
        Call { audit: arch.audit(), number, args }
    }

    fn word(&self, offset: u32) -> u32 {
        let half =
            |value: u64, high: bool| u32::try_from(if high { value >> 32 } else { value & 0xffff_ffff }).unwrap();
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => half(self.args[usize::try_from((offset - 16) / 8).unwrap()], offset % 8 == 4),
            _ => panic!("load from offset {offset}"),
        }
    }
}

/// The value that the filter returns.
pub(super) fn run(code: &[Instruction], call: Call) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let instruction = code[at];
        at += 1;
        let operand = instruction.operand;
        let holds = match instruction.code {
            0x20 => {
                accumulator = call.word(operand);
                continue;
            }
            0x54 => {
                accumulator &= operand;
                continue;
            }
            0x05 => {
                at += usize::try_from(operand).unwrap();
                continue;
            }
            0x06 => return operand,
            0x15 => accumulator == operand,
            0x25 => accumulator > operand,
            0x35 => accumulator >= operand,
            other => panic!("unexpected instruction {other:#x}"),
        };
        at += usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
    }
}
