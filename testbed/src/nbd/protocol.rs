//! The part of the NBD protocol that QEMU needs: fixed newstyle handshake, simple replies. Numbers are big-endian.
//! Source: the NBD project's doc/proto.md.

use std::io::{self, Read, Write};

use super::store::Geometry;

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const HANDSHAKE_FIXED_NEWSTYLE: u16 = 1;
const HANDSHAKE_NO_ZEROES: u16 = 2;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES.
const TRANSMISSION_FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;
const COMMAND_FUA: u16 = 1;

/// Largest payload; what the protocol recommends clients to stay below.
pub const MAX_PAYLOAD_BYTES: u32 = 32 << 20;
/// No option has data this long; a longer one is no NBD client.
const MAX_OPTION_BYTES: u32 = 4096;

/// Error numbers of a reply; as Linux has them.
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub command: Command,
    pub force_unit_access: bool,
    pub handle: u64,
    pub offset: u64,
    pub length: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Read,
    Write(Vec<u8>),
    Disconnect,
    Flush,
    Trim,
    WriteZeroes,
    Unknown,
}

/// Agrees on the export; `false` if the client only wanted to look.
pub fn handshake(stream: &mut (impl Read + Write), geometry: Geometry) -> io::Result<bool> {
    let mut greeting = Vec::new();
    greeting.extend(NBD_MAGIC.to_be_bytes());
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting)?;
    let no_zeroes = u32(stream)? & u32::from(HANDSHAKE_NO_ZEROES) != 0;
    loop {
        if u64(stream)? != OPTION_MAGIC {
            return Err(broken("no option where one was expected"));
        }
        let (option, length) = (u32(stream)?, u32(stream)?);
        if length > MAX_OPTION_BYTES {
            return Err(broken("an option longer than any that exists"));
        }
        stream.read_exact(&mut vec![0; length as usize])?;
        match option {
            OPTION_EXPORT_NAME => {
                let mut answer = Vec::new();
                answer.extend(geometry.size_bytes.to_be_bytes());
                answer.extend(TRANSMISSION_FLAGS.to_be_bytes());
                answer.resize(answer.len() + if no_zeroes { 0 } else { 124 }, 0);
                stream.write_all(&answer)?;
                return Ok(true);
            }
            OPTION_INFO | OPTION_GO => {
                reply(stream, option, REPLY_INFO, &export(geometry.size_bytes))?;
                reply(stream, option, REPLY_INFO, &block_sizes(geometry.sector_bytes))?;
                reply(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                reply(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn export(size_bytes: u64) -> Vec<u8> {
    let mut information = INFO_EXPORT.to_be_bytes().to_vec();
    information.extend(size_bytes.to_be_bytes());
    information.extend(TRANSMISSION_FLAGS.to_be_bytes());
    information
}

fn block_sizes(sector_bytes: u64) -> Vec<u8> {
    let mut information = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    for size in [sector_bytes as u32, 4096, MAX_PAYLOAD_BYTES] {
        information.extend(size.to_be_bytes());
    }
    information
}

fn reply(stream: &mut impl Write, option: u32, kind: u32, content: &[u8]) -> io::Result<()> {
    let mut message = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    message.extend(option.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend((content.len() as u32).to_be_bytes());
    message.extend(content);
    stream.write_all(&message)
}

pub fn read_request(stream: &mut impl Read) -> io::Result<Request> {
    if u32(stream)? != REQUEST_MAGIC {
        return Err(broken("no request where one was expected"));
    }
    let (flags, kind) = (u16(stream)?, u16(stream)?);
    let (handle, offset, length) = (u64(stream)?, u64(stream)?, u32(stream)?);
    let command = match kind {
        0 => Command::Read,
        1 if length > MAX_PAYLOAD_BYTES => return Err(broken("a write of more than the largest payload")),
        1 => {
            let mut bytes = vec![0; length as usize];
            stream.read_exact(&mut bytes)?;
            Command::Write(bytes)
        }
        2 => Command::Disconnect,
        3 => Command::Flush,
        4 => Command::Trim,
        6 => Command::WriteZeroes,
        _ => Command::Unknown,
    };
    Ok(Request { command, force_unit_access: flags & COMMAND_FUA != 0, handle, offset, length })
}

/// `error` is 0 or an error number; `content` is what was read.
pub fn write_reply(stream: &mut impl Write, handle: u64, error: u32, content: &[u8]) -> io::Result<()> {
    let mut message = REPLY_MAGIC.to_be_bytes().to_vec();
    message.extend(error.to_be_bytes());
    message.extend(handle.to_be_bytes());
    message.extend(content);
    stream.write_all(&message)
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn u16(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
