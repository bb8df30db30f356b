//! An init for an agent without a machine: STATE is open, nothing else is there, and nothing ever happens.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::{fs, thread};

use anyhow::Context;
use machine::Root;
use machine::disk::Volume;
use machine::protocol::{BootFacts, Request, Response, VolumeState, VolumeStatus, read_frame, write_frame};

/// Answers at init's socket for as long as this process lives; `boot` is what it found.
pub fn answer(root: &Root, boot: &BootFacts) -> anyhow::Result<()> {
    let path = root.init_socket();
    fs::create_dir_all(root.run())?;
    let boot = boot.clone();
    let listener = UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
    thread::Builder::new().name("init".to_owned()).spawn(move || {
        for connection in listener.incoming().flatten() {
            // A broken connection is the agent's to notice.
            let boot = boot.clone();
            thread::spawn(move || serve(connection, &boot));
        }
    })?;
    Ok(())
}

fn serve(mut connection: UnixStream, boot: &BootFacts) -> std::io::Result<()> {
    loop {
        let request: Request = read_frame(&mut connection)?;
        if request == Request::Subscribe {
            // Nothing happens; the connection lasts until the agent ends it.
            return connection.read(&mut [0]).map(drop);
        }
        write_frame(&mut connection, &reply(request, boot))?;
    }
}

fn reply(request: Request, boot: &BootFacts) -> Response {
    match request {
        Request::OpenVolume(volume) => Response::Volume(status(volume)),
        Request::ListVolumes => Response::Volumes(Volume::ALL.map(status).to_vec()),
        Request::ListServices => Response::Services(Vec::new()),
        Request::GetBootFacts => Response::BootFacts(Box::new(boot.clone())),
        _ => Response::Done,
    }
}

fn status(volume: Volume) -> VolumeStatus {
    let state = if volume == Volume::State { VolumeState::Open } else { VolumeState::Missing };
    VolumeStatus { volume, state, size_bytes: volume.partition().size_bytes(), device: String::new() }
}
