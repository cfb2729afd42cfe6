use std::io::{self, Write};
use std::net::SocketAddr;

use pointsman_model::{ConnectionView, Protocol};

use super::names::{Names, endpoint};

/// Prints the connection table as `ipvsadm -L -c` does, in the order given. With `engines`, also what
/// persistence engines found.
///
/// # Errors
/// Of the writer.
pub fn print_connections(
    out: &mut dyn Write,
    names: &dyn Names,
    connections: &[ConnectionView],
    engines: bool,
) -> io::Result<()> {
    writeln!(out, "IPVS connection entries")?;
    let title = if engines {
        "        pe name          pe_data"
    } else {
        ""
    };
    writeln!(
        out,
        "pro expire state       source             virtual            destination{title}"
    )?;
    for connection in connections {
        let name = |addr: SocketAddr| endpoint(names, addr.ip(), addr.port(), connection.protocol);
        let expires = format!(
            "{:02}:{:02}",
            connection.expires_secs / 60,
            connection.expires_secs % 60
        );
        write!(
            out,
            "{:<3} {expires:<6} {:<11} {:<18} {:<18} ",
            connection.protocol.map_or("IP", Protocol::name),
            connection.state.name(),
            name(connection.client),
            name(connection.virtual_addr),
        )?;
        let destination = name(connection.destination);
        match connection.engine.as_ref().filter(|_| engines) {
            None => writeln!(out, "{destination}")?,
            Some(engine) => {
                // The original reads words.
                let data = engine.data.split_whitespace().next().unwrap_or_default();
                writeln!(out, "{destination:<16} {:<18} {data}", engine.name)?;
            }
        }
    }
    Ok(())
}
