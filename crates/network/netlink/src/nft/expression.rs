//! The expressions that rules are made of.

use super::object::Family;
use super::{DATA_VALUE, LIST_ELEMENT};
use crate::message::MessageWriter;

const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const VERDICT_JUMP: i32 = -3;
const VERDICT_DROP: i32 = 0;
const VERDICT_RETURN: i32 = -5;

/// One of the kernel's sixteen 32-bit registers. Wide values take consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

/// How a register is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Go on when equal.
    Equal,
    /// Go on when different.
    NotEqual,
}

/// One step of a rule. A rule's later steps run only while the earlier ones matched.
#[derive(Debug, Clone)]
pub enum Expression {
    /// Load the transport protocol number.
    LoadProtocol(Register),
    /// Load the name of the arrival link, 16 bytes.
    LoadInputName(Register),
    /// Load bytes of the network header.
    LoadNetwork(Register, u32, u32),
    /// Load the source's hardware address, 6 bytes.
    LoadSourceMac(Register),
    /// Load the destination port.
    LoadDestinationPort(Register),
    /// Load the connection's status bits.
    LoadConnectionStatus(Register),
    /// Load the type of the destination address (2 is local), as the routing table knows it.
    LoadDestinationType(Register),
    /// Keep only the masked bits.
    Mask(Register, Vec<u8>),
    /// Compare a register with bytes.
    Compare(Register, Comparison, Vec<u8>),
    /// Go on when the key is in the set.
    InSet(Register, String),
    /// Go on when the key is in the map, and load its value.
    Map(Register, String, Register),
    /// Rewrite the destination to address and port in these registers.
    DestinationNat(Family, Register, Register),
    /// Rewrite the source to the outgoing link's address.
    Masquerade,
    /// Drop the packet.
    Drop,
    /// Go back to the chain that jumped here.
    Return,
    /// Run another chain, then come back.
    Jump(String),
}

impl Register {
    /// The kernel's number of the register (`NFT_REG32_00` is 8).
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

impl Expression {
    pub(crate) fn write(&self, writer: &mut MessageWriter) {
        writer.nested(LIST_ELEMENT, |writer| {
            writer.string(EXPRESSION_NAME, self.name());
            writer.nested(EXPRESSION_DATA, |writer| self.write_data(writer));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::LoadProtocol(_) | Self::LoadInputName(_) => "meta",
            Self::LoadNetwork(..) | Self::LoadSourceMac(_) | Self::LoadDestinationPort(_) => {
                "payload"
            }
            Self::LoadConnectionStatus(_) => "ct",
            Self::LoadDestinationType(_) => "fib",
            Self::Mask(..) => "bitwise",
            Self::Compare(..) => "cmp",
            Self::InSet(..) | Self::Map(..) => "lookup",
            Self::DestinationNat(..) => "nat",
            Self::Masquerade => "masq",
            Self::Drop | Self::Return | Self::Jump(_) => "immediate",
        }
    }

    /// Attribute numbers are those of each expression in `linux/netfilter/nf_tables.h`.
    fn write_data(&self, writer: &mut MessageWriter) {
        match self {
            Self::LoadProtocol(register) => load(writer, *register, 16),
            Self::LoadInputName(register) => load(writer, *register, 6),
            Self::LoadConnectionStatus(register) => load(writer, *register, 2),
            Self::LoadNetwork(register, offset, length) => {
                payload(writer, *register, [1, *offset, *length])
            }
            Self::LoadSourceMac(register) => payload(writer, *register, [0, 6, 6]),
            Self::LoadDestinationPort(register) => payload(writer, *register, [2, 2, 2]),
            Self::LoadDestinationType(register) => {
                load(writer, *register, 3);
                writer.u32_be(3, 2);
            }
            Self::Mask(register, mask) => {
                writer.u32_be(1, register.number());
                writer.u32_be(2, register.number());
                writer.u32_be(
                    3,
                    u32::try_from(mask.len()).expect("masks are at most 16 bytes"),
                );
                writer.nested(4, |writer| writer.bytes(DATA_VALUE, mask));
                writer.nested(5, |writer| writer.bytes(DATA_VALUE, &vec![0; mask.len()]));
            }
            Self::Compare(register, comparison, value) => {
                writer.u32_be(1, register.number());
                writer.u32_be(2, u32::from(*comparison == Comparison::NotEqual));
                writer.nested(3, |writer| writer.bytes(DATA_VALUE, value));
            }
            Self::InSet(register, set) => {
                writer.string(1, set);
                writer.u32_be(2, register.number());
            }
            Self::Map(register, map, target) => {
                writer.string(1, map);
                writer.u32_be(2, register.number());
                writer.u32_be(3, target.number());
            }
            Self::DestinationNat(family, address, port) => {
                writer.u32_be(1, 1);
                writer.u32_be(2, u32::from(family.number()));
                writer.u32_be(3, address.number());
                writer.u32_be(5, port.number());
            }
            Self::Masquerade => {}
            Self::Drop => verdict(writer, VERDICT_DROP, None),
            Self::Return => verdict(writer, VERDICT_RETURN, None),
            Self::Jump(chain) => verdict(writer, VERDICT_JUMP, Some(chain)),
        }
    }
}

/// `meta`, `ct` and `fib` all take the target register first and what to load second.
fn load(writer: &mut MessageWriter, register: Register, key: u32) {
    writer.u32_be(1, register.number());
    writer.u32_be(2, key);
}

fn payload(writer: &mut MessageWriter, register: Register, [base, offset, length]: [u32; 3]) {
    writer.u32_be(1, register.number());
    writer.u32_be(2, base);
    writer.u32_be(3, offset);
    writer.u32_be(4, length);
}

fn verdict(writer: &mut MessageWriter, code: i32, chain: Option<&str>) {
    writer.u32_be(1, VERDICT_REGISTER);
    writer.nested(2, |writer| {
        writer.nested(DATA_VERDICT, |writer| {
            writer.bytes(VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                writer.string(VERDICT_CHAIN, chain);
            }
        });
    });
}
