//! Everything a director put into the kernel comes out again.

use std::collections::BTreeSet;

use pointsman_api::{Location, StopReport};
use pointsman_dataplane::DataPlane;
use pointsman_model::Family;

use crate::home::{self, Home};
use crate::netlink::Netlink;
use crate::{Error, checks, sysctl};

/// Removes routing rules, detaches and unpins the programs, gives neighbours back to the kernel, restores sysctls. Goes
/// on past what fails and tells it.
pub(crate) async fn kernel_side(
    dataplane: Option<DataPlane>,
    netlink: &Netlink,
    location: &Location,
) -> StopReport {
    let mut problems = Vec::new();
    // First what leads packets to the programs.
    for family in [Family::V4, Family::V6] {
        if let Err(error) = netlink.set_marks(family, &BTreeSet::new()).await
            && family == Family::V4
        {
            problems.push(format!(
                "routing rules for firewall marks may stay: {error}"
            ));
        }
    }
    if let Some(dataplane) = dataplane
        && let Err(error) = dataplane.remove()
    {
        problems.push(error.to_string());
    }
    if let Err(error) = home::clear_pins(location) {
        problems.push(error.to_string());
    }
    problems.extend(netlink.release_all().await);
    problems.extend(sysctl::restore(&location.sysctl_file()));
    StopReport {
        kept_forwarding: false,
        problems,
    }
}

/// True when a director left something in the kernel or under `/run`.
pub(crate) fn anything_left(location: &Location) -> bool {
    location.director_pins().exists()
        || location.sysctl_file().exists()
        || location.log_file().exists()
}

/// Does for a killed director what it would have done itself.
pub(crate) fn leftovers(location: Location) -> Result<StopReport, Error> {
    checks::root()?;
    let home = Home::take(location)?;
    let pins = home.location().director_pins();
    // To adopt is the way to know every attachment. Where that fails (another layout, an
    // incomplete set) the pins alone are removed, which detaches all that is held by links.
    let dataplane = if pins.exists() {
        let options = pointsman_dataplane::Options {
            connection_slots: None,
        };
        DataPlane::open(&pins, &options)
            .inspect_err(|error| tracing::warn!(%error, "removing pins without adopting them"))
            .ok()
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Os {
            doing: "starting the runtime",
            source,
        })?;
    let report = runtime.block_on(async {
        let netlink = Netlink::open()?;
        Ok::<_, Error>(kernel_side(dataplane, &netlink, home.location()).await)
    })?;
    home.clear();
    Ok(report)
}
